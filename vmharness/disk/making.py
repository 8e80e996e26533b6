"""What the host makes in a partition, whatever its filesystem."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from vmharness.disk.blocks import copy_blocks
from vmharness.disk.fat import make_fat
from vmharness.disk.filesystems import make_ext4
from vmharness.disk.swap import make_swap
from vmharness.model.partitions import Blocks, Ext4, Fat, GuestMade, Partition, Swap
from vmharness.model.results import StagedTree


def make_filesystem(disk: Path, part: Partition, tree: StagedTree | None) -> None:
    """Make the filesystem of a partition, with a tree in it; nothing where that is left to the guest.

    :param disk: the raw disk, zeros where the partition lies.
    :param tree: what goes in; None where it holds no files.
    :raises HostError: the program that makes it failed, or the host's disk is full.
    """
    if isinstance(part.filesystem, GuestMade):
        return
    match part.filesystem:
        case Ext4():
            assert tree is not None
            make_ext4(disk, part.offset, part.filesystem, tree)
        case Fat():
            make_fat(disk, part, part.filesystem, tree)
        case Swap():
            make_swap(disk, part, part.filesystem)
        case Blocks():
            copy_blocks(disk, part, part.filesystem)
        case None:
            pass
        case unknown:
            assert_never(unknown)
