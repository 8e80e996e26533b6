"""How large a root filesystem must be for a tree, before anything is made.

The reckoning follows mke2fs for the options of ``disk/mke2fs.conf``: blocks of 4096 bytes, inodes of 256, groups of
32768 blocks, 64-byte group descriptors, backups in groups 0, 1 and the powers of 3, 5 and 7, room for growth kept by
``resize_inode``, a journal, no blocks reserved for root.
"""

from __future__ import annotations

from attrs import frozen

from vmharness.model.partitions import ALIGNMENT
from vmharness.model.results import TreeMeasure
from vmharness.model.sizes import MIB, align_up

_BLOCK = 4096
_INODES_PER_BLOCK = 16
_GROUP = 32768
_MOST_INODES = 8 * _BLOCK
_DESCRIPTORS_PER_BLOCK = 64
_GROWTH = 1024  # resize_inode: the filesystem may grow to so many times its size
_MOST_RESERVED = 1024  # blocks of one indirect block
_OWN_INODES = 11  # reserved ones and lost+found
_OWN_BLOCKS = 1 + 4 + 1 + 4  # root directory, lost+found, resize inode, the journal's and the root's extent trees
_BYTES_PER_INODE = 16384  # mke2fs's own proportion: what a machine in use wants to find free
_SMALLEST = 16 * MIB
_KERNEL_SPARE = 4096  # blocks that ext4 keeps back from "available", or a fiftieth if that is less


@frozen(kw_only=True)
class RootSize:
    """The root filesystem's size in bytes, a whole number of MiB, and its number of inodes."""

    size: int
    inodes: int


def journal_blocks(size: int) -> int:
    """Blocks of the journal of a filesystem of ``size`` bytes, as mke2fs chooses: 4 MiB to 1 GiB."""
    blocks = size // _BLOCK
    for limit, journal in ((1 << 15, 1024), (1 << 18, 4096), (1 << 19, 8192), (1 << 22, 16384), (1 << 23, 32768)):
        if blocks < limit:
            return journal
    return 65536 if blocks < 1 << 24 else 131072 if blocks < 1 << 25 else 262144


def root_inodes(measure: TreeMeasure, size: int) -> int:
    """Inodes of a filesystem of ``size`` bytes for that tree: its own, and the usual number besides."""
    return align_up(_OWN_INODES + measure.inodes + size // _BYTES_PER_INODE, _INODES_PER_BLOCK)


def root_size(measure: TreeMeasure, additional: int) -> RootSize:
    """The smallest root filesystem that holds the tree and has at least ``additional`` bytes available.

    :param measure: what goes in: the tree, with contents added.
    """
    wanted = (
        measure.data_blocks + measure.directory_blocks + measure.extra_blocks + _OWN_BLOCKS + -(-additional // _BLOCK)
    )
    size = _SMALLEST
    while True:
        blocks = size // _BLOCK
        kept_back = min(blocks // 50, _KERNEL_SPARE) if additional else 0
        short = wanted + kept_back + _overhead(size, root_inodes(measure, size)) - blocks
        if short <= 0:
            return RootSize(size=size, inodes=root_inodes(measure, size))
        size = align_up(size + short * _BLOCK, ALIGNMENT)


def required_size(measure: TreeMeasure) -> int:
    """Bytes of the smallest root filesystem that holds the tree."""
    return root_size(measure, 0).size


def _overhead(size: int, inodes: int) -> int:
    """Blocks of metadata that mke2fs lays out in an empty filesystem."""
    blocks = size // _BLOCK
    per_group = _blocks_per_group(blocks, inodes)
    groups = -(-blocks // per_group)
    descriptors = -(-groups // _DESCRIPTORS_PER_BLOCK)
    grown = -(-min(blocks * _GROWTH, 1 << 32) // per_group)
    reserved = max(0, min(-(-grown // _DESCRIPTORS_PER_BLOCK) - descriptors, _MOST_RESERVED))
    tables = align_up(-(-inodes // groups), _INODES_PER_BLOCK) // _INODES_PER_BLOCK
    return groups * (2 + tables) + _backups(groups) * (1 + descriptors + reserved) + journal_blocks(size)


def _blocks_per_group(blocks: int, inodes: int) -> int:
    """Blocks of a group. mke2fs makes groups smaller until no group has more inodes than one bitmap block can say."""
    per_group = _GROUP
    while -(-inodes // -(-blocks // per_group)) > _MOST_INODES and per_group >= 256:
        per_group -= 8
    return per_group


def _backups(groups: int) -> int:
    """Groups that hold a copy of the superblock: 0, 1 and the powers of 3, 5 and 7."""
    count = min(groups, 2)
    for base in (3, 5, 7):
        power = base
        while power < groups:
            count += 1
            power *= base
    return count
