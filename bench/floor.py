"""The least that an image from an archive costs: its parts made by the plain tools, without any guest.

Nothing is installed, nothing is verified, there is no partition table and no EFI variable; owners are those of the
user who runs it.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from bench.archive import Archive
from bench.context import Context
from bench.measure import Sample, timed
from vmharness.host import proc

_LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_ESP_KIB = 256 << 10
_numbers = itertools.count()


def build(context: Context, archive: Archive) -> Sample:
    """Unpack, ``mke2fs -d``, ``mkfs.vfat``, and copy kernel, initrd and systemd-boot with mtools."""
    folder = context.scratch / f"floor-{next(_numbers)}"
    folder.mkdir()
    return timed(lambda: _build(folder, archive))


def _build(folder: Path, archive: Archive) -> None:
    tree, esp = folder / "tree", folder / "esp"
    tree.mkdir()
    unpack: list[str | Path] = ["tar", "--extract", "--file", archive.path, "--directory", tree]
    proc.run([*unpack, "--exclude=./dev/*", "--exclude=dev/*"], doing="unpacking")  # nodes need privilege
    size = archive.path.stat().st_size * 2 // 1024
    proc.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, folder / "root", f"{size}k"], doing="populating")
    proc.run(["mkfs.vfat", "-F", "32", "-C", esp, str(_ESP_KIB)], doing="making the ESP")
    folders = ("::/EFI", "::/EFI/BOOT", "::/EFI/systemd", "::/loader", "::/loader/entries", "::/debian")
    proc.run(["mmd", "-i", esp, *folders], doing="making the ESP's folders")
    entry = folder / "debian.conf"
    entry.write_text("title Debian\nlinux /debian/linux\ninitrd /debian/initrd\noptions root=LABEL=root rw\n")
    copies = {
        tree / _LOADER: ("::/EFI/BOOT/BOOTX64.EFI", "::/EFI/systemd/systemd-bootx64.efi"),
        tree / archive.kernel: ("::/debian/linux",),
        tree / archive.initrd: ("::/debian/initrd",),
        entry: ("::/loader/entries/debian.conf",),
    }
    for source, targets in copies.items():
        for target in targets:
            proc.run(["mcopy", "-i", esp, source, target], doing="copying to the ESP")
