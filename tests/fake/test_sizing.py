"""The reckoning of a filesystem's metadata is that of the real mke2fs, and trees that are hard to fit do fit."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from vmharness.disk import filesystems
from vmharness.host import proc
from vmharness.model.partitions import Ext4
from vmharness.model.results import TreeMeasure
from vmharness.model.sizes import GIB, MIB
from vmharness.model.sources import DirectorySource
from vmharness.plan.sizing import geometry, journal_blocks, root_size, root_within
from vmharness.tree.directory import stage_directory

_OWN = 1 + 4 + 1  # root directory, lost+found, resize inode
EMPTY = TreeMeasure(data_blocks=0, inodes=1, directory_blocks=1, extra_blocks=0)


def made(folder: Path, size: int, inodes: int) -> dict[str, int]:
    """What dumpe2fs says of an empty filesystem of that size, made as the root filesystem is made."""
    disk, source = folder / "disk.raw", folder / "source"
    source.mkdir(exist_ok=True)
    with disk.open("wb") as file:
        file.truncate(size)
    tree = stage_directory(DirectorySource(path=source), origin="image.toml")
    ext4 = Ext4(label="", uuid=UUID(int=1), hash_seed=UUID(int=2), size=size, inodes=inodes)
    filesystems.make_ext4(disk, 0, ext4, tree)
    text = proc.run(["dumpe2fs", "-h", disk], doing="reading").text
    return {name: int(value) for name, value in re.findall(r"^([A-Z][^:]+): +(\d+)$", text, re.MULTILINE)}


def require_as_reckoned(folder: Path, size: int, inodes: int) -> None:
    """Blocks, inodes and free blocks are those of the reckoning, to the block but for what a journal's map takes."""
    found = made(folder, size, inodes)
    reckoned = geometry(size // 4096, inodes)
    assert (found["Block count"], found["Inode count"]) == (reckoned.blocks, reckoned.inodes)
    free = reckoned.blocks - reckoned.metadata - journal_blocks(size) - _OWN
    assert 0 <= free - found["Free blocks"] <= 1


@pytest.mark.parametrize(
    ("size", "inodes"),
    [
        (16 * MIB, 1024),
        (87 * MIB, 306_192),  # so many inodes that the groups become smaller
        (128 * MIB, 8192),
        (129 * MIB, 8208),  # the last group is left out
        (131 * MIB, 8208),  # just large enough to stay
        (385 * MIB, 24_640),  # its last group has a backup
        (388 * MIB, 24_640),
        (4 * GIB, 262_144),
        (9 * GIB + MIB, 2_000_000),
        (300 * GIB, 19_660_800),
    ],
)
def test_mke2fs_makes_what_was_reckoned(tmp_path: Path, size: int, inodes: int) -> None:
    """Sizes at which mke2fs does something of its own are reckoned as it does."""
    require_as_reckoned(tmp_path, size, inodes)


@settings(max_examples=25, deadline=None)
@given(mib=some.integers(16, 20_000), each=some.integers(600, 40_000))
def test_mke2fs_makes_what_was_reckoned_anywhere(tmp_path_factory: pytest.TempPathFactory, mib: int, each: int) -> None:
    """So are any others, with an inode for every 600 to 40,000 bytes."""
    require_as_reckoned(tmp_path_factory.getbasetemp(), mib * MIB, max(16, mib * MIB // each))


@pytest.mark.parametrize("room", [129 * MIB, 130 * MIB, 257 * MIB, 386 * MIB, 1025 * MIB, 129 * MIB + 4096])
def test_no_root_filesystem_is_smaller_than_planned(tmp_path: Path, room: int) -> None:
    """Where mke2fs would leave out a last group, the plan does: the finished disk is compared with it."""
    planned = root_within(EMPTY, 0, room)
    assert made(tmp_path, planned.size, planned.inodes)["Block count"] * 4096 == planned.size


@pytest.mark.parametrize("additional", [mib * MIB for mib in (100, 104, 105, 106, 233, 234, 512)])
def test_no_automatic_size_is_smaller_than_planned(tmp_path: Path, additional: int) -> None:
    """An automatic size is one that mke2fs makes whole, and has what was asked for."""
    planned = root_size(EMPTY, additional)
    found = made(tmp_path, planned.size, planned.inodes)
    assert found["Block count"] * 4096 == planned.size
    assert found["Free blocks"] * 4096 >= additional
