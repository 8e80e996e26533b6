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
_SMALLEST_GROUP = 256
_MOST_INODES = 8 * _BLOCK
_DESCRIPTORS_PER_BLOCK = 64
_GROWTH = 1024  # resize_inode: the filesystem may grow to so many times its size
_MOST_RESERVED = 1024  # blocks of one indirect block
_OWN_INODES = 11  # reserved ones and lost+found
_OWN_BLOCKS = 1 + 4 + 1 + 4  # root directory, lost+found, resize inode, the journal's and the root's extent trees
_BYTES_PER_INODE = 16384  # mke2fs's own proportion: what a machine in use wants to find free
_SMALLEST = 16 * MIB
_LEAST_LEFT = 50  # blocks that the last group must have besides its metadata, or it is left out
_CAREFUL = 4096  # blocks
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
    size = _SMALLEST
    while (short := _short(measure, size, additional)) > 0:
        # the last part in small steps: a larger filesystem may need less metadata than a small one seems to
        size = align_up(size + max(1, short - _CAREFUL) * _BLOCK, ALIGNMENT)
    return RootSize(size=size, inodes=root_inodes(measure, size))


def root_within(measure: TreeMeasure, additional: int, room: int) -> RootSize:
    """The largest root filesystem that mke2fs makes in ``room`` bytes, with the tree and the additional bytes.

    It may end a little before the room does: mke2fs leaves out a last group that would hold little but metadata.

    :param room: bytes, at least those of :func:`root_size`.
    """
    size = room // _BLOCK * _BLOCK
    while _short(measure, size, additional) > 0:
        whole = geometry(size // _BLOCK, root_inodes(measure, size)).blocks * _BLOCK
        size = whole if whole < size else size - ALIGNMENT
    return RootSize(size=size, inodes=root_inodes(measure, size))


def required_size(measure: TreeMeasure) -> int:
    """Bytes of the smallest root filesystem that holds the tree."""
    return root_size(measure, 0).size


def _short(measure: TreeMeasure, size: int, additional: int) -> int:
    """Blocks that a filesystem of ``size`` bytes lacks; at least one where mke2fs would make it smaller."""
    blocks = size // _BLOCK
    made = geometry(blocks, root_inodes(measure, size))
    wanted = measure.data_blocks + measure.directory_blocks + measure.extra_blocks + _OWN_BLOCKS
    kept_back = min(blocks // 50, _KERNEL_SPARE) if additional else 0
    short = wanted + -(-additional // _BLOCK) + kept_back + made.metadata + journal_blocks(size) - made.blocks
    return max(short, made.blocks < blocks)


@frozen(kw_only=True)
class Geometry:
    """What mke2fs makes of a filesystem's size and number of inodes.

    :param blocks: its blocks: fewer than were asked for where the last group would be too small.
    :param inodes: its inodes: more than were asked for, since each group has whole blocks of them.
    :param metadata: blocks of superblocks, descriptors, bitmaps, inode tables and room to grow.
    """

    blocks: int
    inodes: int
    metadata: int


def geometry(blocks: int, inodes: int) -> Geometry:
    """What mke2fs lays out, step by step as ``ext2fs_initialize`` does (e2fsprogs, ``lib/ext2fs/initialize.c``).

    :param blocks: of 4096 bytes.
    """
    asked, per_group = blocks, _GROUP
    while True:
        groups = -(-blocks // per_group)
        # More inodes in a group than one bitmap block can say: smaller groups, so more of them. (mke2fs fails in the
        # end; what is returned then is more metadata than there are blocks.)
        if -(-inodes // groups) > _MOST_INODES and per_group >= _SMALLEST_GROUP:
            blocks, per_group = asked, per_group - 8
            continue
        in_group = align_up(-(-inodes // groups), _INODES_PER_BLOCK)
        descriptors = -(-groups // _DESCRIPTORS_PER_BLOCK)
        grown = -(-min(blocks * _GROWTH, 1 << 32) // per_group)
        reserved = max(0, min(-(-grown // _DESCRIPTORS_PER_BLOCK) - descriptors, _MOST_RESERVED))
        own, backup = 2 + in_group // _INODES_PER_BLOCK, 1 + descriptors + reserved
        last = blocks % per_group
        needed = own + backup * (_backups(groups) - _backups(groups - 1)) + _LEAST_LEFT
        if groups > 1 and last and last < needed:
            blocks -= last
            continue
        return Geometry(blocks=blocks, inodes=in_group * groups, metadata=groups * own + _backups(groups) * backup)


def _backups(groups: int) -> int:
    """Groups that hold a copy of the superblock and the descriptors: 0, 1 and the powers of 3, 5 and 7."""
    count = min(groups, 2)
    for base in (3, 5, 7):
        power = base
        while power < groups:
            count += 1
            power *= base
    return count
