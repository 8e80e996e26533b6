"""The peer libguestfs, through guestfish: the start of its appliance, and a whole image made in it."""

from __future__ import annotations

from pathlib import Path

from bench.archive import Archive
from bench.context import Context
from bench.measure import Sample, timed
from vmharness.host import proc, versions
from vmharness.model.hardware import Accelerator

PROGRAM = "guestfish"
_ESP_END = 2048 + 256 * 2048  # 256 MiB behind the first
_DISK = 2 << 30
_SCRIPT = """\
run
part-init /dev/sda gpt
part-add /dev/sda p 2048 {esp_last}
part-add /dev/sda p {esp_end} -2048
part-set-gpt-type /dev/sda 1 C12A7328-F81F-11D2-BA4B-00A0C93EC93B
part-set-gpt-type /dev/sda 2 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
mkfs vfat /dev/sda1
mkfs ext4 /dev/sda2 label:root
mount /dev/sda2 /
tar-in {archive} /
mkdir-p /efi
mount /dev/sda1 /efi
command "bootctl install --esp-path=/efi --no-variables"
mkdir-p /efi/debian
cp /{kernel} /efi/debian/linux
cp /{initrd} /efi/debian/initrd
write /efi/loader/entries/debian.conf "title Debian\\nlinux /debian/linux\\ninitrd /debian/initrd\\noptions root=LABEL=root rw\\n"
umount-all
"""  # noqa: E501 -- guestfish has no continued lines


def version() -> str | None:
    """The version that is installed, or None."""
    return versions.version_of(PROGRAM) if proc.find(PROGRAM) else None


def launch(context: Context) -> Sample:
    """Its appliance, up to its first answer; QEMU is then killed, as on our side."""
    disk = _disk(context.scratch / "launch.img")
    return timed(lambda: _guestfish(context, disk, "run", ":", "kill-subprocess", doing="starting libguestfs"))


def build(context: Context, archive: Archive) -> Sample:
    """A whole image: the archive is unpacked in the appliance, and the tree's own ``bootctl`` runs there."""
    disk = _disk(context.scratch / "guestfish.img")
    script = context.scratch / "guestfish.script"
    script.write_text(
        _SCRIPT.format(
            esp_last=_ESP_END - 1,
            esp_end=_ESP_END,
            archive=archive.path,
            kernel=archive.kernel,
            initrd=archive.initrd,
        )
    )
    return timed(lambda: _guestfish(context, disk, "-f", script, doing="building with guestfish"))


def _guestfish(context: Context, disk: Path, *words: str | Path, doing: str) -> None:
    """Run guestfish on a disk, with QEMU started directly and the accelerator that we use."""
    settings = "force_tcg" if context.accelerator is Accelerator.TCG else ""
    env = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": settings}
    proc.run([PROGRAM, "--format=raw", "-a", disk, *words], doing=doing, env=env)


def _disk(path: Path) -> Path:
    """A fresh disk at ``path``; an earlier one is replaced."""
    path.unlink(missing_ok=True)
    path.touch()
    with path.open("r+b") as file:
        file.truncate(_DISK)
    return path
