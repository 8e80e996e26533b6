"""Image definitions of the tests, and reading finished images back with the distribution's own tools."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from ext4_reader import Inode, Reader

from vmharness.host import proc
from vmharness.host.published import read_manifest
from vmharness.model.image import Format

MINIMAL = """
[image]
name = "minimal"
additional-space = "8M"
boot-size = "48M"

[root]
source = { minimal = true }
"""

SYSTEMD_BOOT = """
[bootloader]
install = "systemd-boot"
kernel-parameters = ["console=ttyS0"]
"""


def command(argv: Sequence[str]) -> str:
    """The part of a definition that runs a command of the target as its bootloader's installer."""
    return f"\n[bootloader]\ninstall = {{ command = {json.dumps(argv)} }}\n"


def shell(script: str) -> str:
    """The part of a definition that runs a line of shell in the target as its bootloader's installer."""
    return command(["sh", "-c", script])


def digests(output: Path) -> dict[str, str]:
    """The digest of every file of an output folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(output.iterdir())}


def raw_disk(output: Path, folder: Path) -> Path:
    """The image of an output folder as a raw disk; written to ``folder`` if it has another format."""
    described = read_manifest(output)
    file = described.file("image")
    assert file is not None
    if described.format is Format.RAW:
        return output / file.name
    disk = folder / "disk.raw"
    form = described.format.value
    proc.run(["qemu-img", "convert", "-f", form, "-O", "raw", output / file.name, disk], doing="converting the image")
    return disk


def root_of(output: Path, disk: Path) -> Reader:
    """The root filesystem on the raw disk of an output folder."""
    return Reader(disk, read_manifest(output).table.by_role("root").offset)


def file_at(root: Reader, path: bytes) -> Inode | None:
    """One file of a root filesystem, or None; faster than reading the whole tree of a distribution."""
    number = 2
    for name in path.split(b"/"):
        below = {entry: child for child, entry, _kind in root._names(number)}
        if name not in below:
            return None
        number = below[name]
    return root._inode(number, "")


def esp_of(output: Path) -> int:
    """The byte at which the EFI system partition of an output folder begins."""
    return read_manifest(output).table.by_role("esp").offset


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    """Write a plain tar archive of files that belong to root."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
