"""The FAT partitions inside a raw disk, without mounting them and without privilege. The door to mtools."""

from __future__ import annotations

import errno
import os
import re
import struct
import tempfile
from pathlib import Path

from attrs import frozen

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.model.partitions import FAT32_CLUSTERS

_BOOT_SECTOR = struct.Struct("<11xHBHB2xHxH8xII27xI11s")
_CLEAN = re.compile(r"fsck\.fat [^\n]*\n[^\n]*: \d+ files, \d+/\d+ clusters\n")
# The user's own settings must not show another disk or refuse this one for its imagined geometry.
_MTOOLS = {"MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1"}


@frozen(kw_only=True)
class FatHeader:
    """What the boot sector of a FAT says.

    :param size: bytes of the filesystem.
    :param clusters: number of data clusters, which alone decides between FAT12, FAT16 and FAT32.
    :param label: without the blanks that fill it up.
    """

    size: int
    clusters: int
    volume_id: int
    label: str

    @property
    def is_fat32(self) -> bool:
        """Whether every driver takes it for FAT32."""
        return self.clusters >= FAT32_CLUSTERS


def read_header(disk: Path, offset: int) -> FatHeader:
    """The boot sector of the FAT that begins at byte ``offset``.

    :raises ValueError: with a sentence, if there is no FAT with 32-bit allocation tables.
    """
    with disk.open("rb") as file:
        sector = os.pread(file.fileno(), 512, offset)
    if len(sector) < 512 or sector[510:] != b"\x55\xaa":
        raise ValueError("there is no boot sector at the beginning")
    bytes_per_sector, per_cluster, reserved, tables, small, table16, sectors, table32, volume_id, label = (
        _BOOT_SECTOR.unpack_from(sector)
    )
    if bytes_per_sector != 512 or not per_cluster or small or table16 or not table32:
        raise ValueError("it is not FAT32 with sectors of 512 bytes")
    return FatHeader(
        size=sectors * bytes_per_sector,
        clusters=(sectors - reserved - tables * table32) // per_cluster,
        volume_id=volume_id,
        label=label.decode("cp850").rstrip(),
    )


def list_files(disk: Path, offset: int) -> tuple[str, ...]:
    """Every file of the EFI system partition, as ``/EFI/BOOT/BOOTX64.EFI``; directories are left out.

    :raises HostError: there is no readable FAT.
    """
    done = _mtools(["mdir", "-a", "-b", "-/", "-i", _image(disk, offset), "::"], disk, ok=(0, 1))
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.status == 1 and not said.endswith('File "::" not found'):  # its words for an empty filesystem
        raise HostError(f"reading the EFI system partition: mdir says: {said}")
    lines = (line.removeprefix("::") for line in done.text.splitlines())
    return tuple(line for line in lines if line and not line.endswith("/"))


def exists(disk: Path, offset: int, path: str) -> bool:
    r"""Whether the EFI system partition holds the file ``path`` (``\EFI\BOOT\BOOTX64.EFI``), in whatever case.

    :raises HostError: there is no readable FAT.
    """
    wanted = _slashes(path).lower()
    return any(name.lower() == wanted for name in list_files(disk, offset))


def read_file(disk: Path, offset: int, path: str) -> bytes:
    r"""The content of one file of the EFI system partition.

    :raises HostError: it is not there.
    """
    return _mtools(["mcopy", "-n", "-i", _image(disk, offset), f"::{_slashes(path)}", "-"], disk).stdout


def copy_out(disk: Path, offset: int, path: str, target: Path) -> None:
    """Copy a file of the FAT to the host, with its time.

    :raises HostError: it is not there.
    """
    _mtools(["mcopy", "-n", "-m", "-i", _image(disk, offset), f"::{_slashes(path)}", str(target.absolute())], disk)


def copy_in(disk: Path, offset: int, source: Path, path: str) -> None:
    """Write a file of the host over one of the FAT, with its time, and read it back.

    :raises HostError: there is no room for it, or it does not arrive.
    """
    argv = ["mcopy", "-o", "-m", "-i", _image(disk, offset), str(source.absolute()), f"::{_slashes(path)}"]
    proc.run(argv, doing=f"writing {path} to its partition", env=_MTOOLS, cwd=disk.parent)
    if read_file(disk, offset, path) != source.read_bytes():
        raise HostError(f"{path} is not on its partition as it was written")


def check_fat(disk: Path, offset: int, size: int, scratch: Path) -> tuple[str, ...]:
    """What ``fsck.vfat -n`` finds wrong: one sentence each, nothing if it is clean.

    :param size: bytes of the partition.
    :param scratch: folder that takes a copy of the partition's data for as long as the check runs.
    """
    with tempfile.TemporaryDirectory(prefix="esp-", dir=scratch) as folder:
        copy = Path(folder) / "esp.fat"
        _extract(disk, offset, size, copy)
        done = proc.run(
            ["fsck.vfat", "-n", copy.name], doing="checking the EFI system partition", ok=range(256), cwd=copy.parent
        )
    text = done.text + done.stderr.decode("utf-8", "replace")
    # Some differences, such as those between the two boot sectors, do not show in the exit status.
    if done.status == 0 and _CLEAN.fullmatch(text):
        return ()
    lines = (line.strip() for line in text.splitlines())
    said = tuple(f"fsck.vfat: {line}" for line in lines if line and not line.startswith(("fsck.fat ", f"{copy.name}:")))
    return said or (f"fsck.vfat ended with status {done.status}",)


def _extract(disk: Path, offset: int, size: int, target: Path) -> None:
    """Copy ``size`` bytes from ``offset``, the disk's holes staying holes."""
    with disk.open("rb") as source, target.open("xb") as copy:
        copy.truncate(size)
        end = offset + size
        at = offset
        while at < end:
            try:
                begin = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return  # no data up to the end of the disk
            at = min(os.lseek(source.fileno(), begin, os.SEEK_HOLE), end)
            while begin < at:
                copied = os.copy_file_range(source.fileno(), copy.fileno(), at - begin, begin, begin - offset)
                if not copied:
                    return  # the disk ends before the partition does
                begin += copied


def _slashes(path: str) -> str:
    return "/" + path.replace("\\", "/").lstrip("/")


def _image(disk: Path, offset: int) -> str:
    """The filesystem's place in mtools' words; relative to the disk's folder, whose name may hold anything."""
    return f"{disk.name}@@{offset}"


def _mtools(argv: list[str], disk: Path, ok: tuple[int, ...] = (0,)) -> proc.Completed:
    return proc.run(argv, doing="reading the EFI system partition", ok=ok, env=_MTOOLS, cwd=disk.parent)
