"""A FAT filesystem made and filled inside a raw disk, without mounting it and without privilege."""

from __future__ import annotations

import os
import stat
from itertools import groupby
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.host.staged import StagedFile, files
from vmharness.model.partitions import SECTOR, Fat, Partition
from vmharness.model.results import StagedTree
from vmharness.plan.fat import sectors_per_cluster

_EARLIEST = 315_532_800  # 1980, where FAT's time begins
_SECOND = 1_000_000_000
_AT_ONCE = 500  # files of one command: its arguments must fit
_MTOOLS = {"MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1", "TZ": "UTC0"}


def make_fat(disk: Path, part: Partition, fat: Fat, tree: StagedTree | None) -> None:
    """Make a FAT32 filesystem in a partition, with the tree's files in it.

    Files have their modification times in UTC. Owners and modes do not exist there.

    :param disk: the raw disk, zeros where the filesystem goes.
    :raises HostError: mkfs.vfat or mtools failed, such as for want of room.
    """
    argv = ["mkfs.vfat", "-F", "32", "-s", str(sectors_per_cluster(part.size)), "-S", str(SECTOR), "--mbr=n"]
    # --invariant: no time of now, and no random volume id; ours is set
    argv += ["--invariant", "-i", f"{fat.volume_id:08x}", "-n", fat.label, "-h", str(part.start)]
    argv += [f"--offset={part.start}", disk.name, str(part.size // 1024)]
    proc.run(argv, doing=f"making the FAT of partition {part.number}", cwd=disk.absolute().parent)
    if tree is None:
        return
    try:
        found = [file for file in files(tree) if file.path]
    except OSError as error:
        raise HostError(f"reading the staged tree: {error.strerror}") from error
    image = f"{disk.name}@@{part.offset}"
    directories = (file for file in found if stat.S_ISDIR(file.metadata.mode))
    for time, group in groupby(directories, key=_time):
        _make_directories(image, disk, [_place(file) for file in group], time)
    for file in found:
        if stat.S_ISREG(file.metadata.mode):
            # one by one: each has a time and a name of its own
            _mtools(["mcopy", "-i", image, os.fsdecode(file.place), _place(file)], disk, _time(file))


def _make_directories(image: str, disk: Path, places: list[str], time: int) -> None:
    for begin in range(0, len(places), _AT_ONCE):
        _mtools(["mmd", "-i", image, *places[begin : begin + _AT_ONCE]], disk, time)


def _place(file: StagedFile) -> str:
    return f"::/{os.fsdecode(file.path)}"


def _time(file: StagedFile) -> int:
    return max(file.metadata.mtime // _SECOND, _EARLIEST)


def _mtools(argv: list[str], disk: Path, time: int) -> None:
    environment = {**_MTOOLS, "SOURCE_DATE_EPOCH": str(time)}
    proc.run(argv, doing="filling the FAT", env=environment, cwd=disk.absolute().parent, stdin=b"")
