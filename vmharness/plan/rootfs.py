"""The root filesystem that a definition asks for, and how large it must be.

For ext4 the size is a reckoning to the block (``plan/sizing.py``), since the host lays it out itself. The others are
made by their own programs; here are upper bounds from the cost of the tree on ext4 and from what these programs lay
out. Each constant says where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from vmharness.model.image import ImageSpec
from vmharness.model.partitions import ALIGNMENT, Btrfs, Erofs, Ext4, F2fs, GuestMade, Squashfs, Xfs
from vmharness.model.results import TreeMeasure
from vmharness.model.rootfs import ROOT_FILESYSTEMS, RootFilesystem
from vmharness.model.sizes import GIB, MIB, align_up
from vmharness.plan.identity import Identifiers
from vmharness.plan.sizing import root_size, root_within

_BLOCK = 4096


def kind_of(spec: ImageSpec) -> RootFilesystem:
    """The kind of filesystem that the root partition gets."""
    return ROOT_FILESYSTEMS[spec.root.filesystem]


def root_bytes(spec: ImageSpec, measure: TreeMeasure, additional: int) -> int:
    """Bytes of a root filesystem that holds the tree and has at least ``additional`` bytes available.

    :param measure: what goes in: the tree, with contents added.
    """
    kind = kind_of(spec)
    if not kind.made_in_guest:
        return root_size(measure, additional).size
    if kind.read_only:
        # Nobody knows before what it comes to. A partition of an automatic size is cut to it afterwards, so it may be
        # far too large: holes, of which the measure knows nothing, take room in an erofs.
        return kind.smallest if spec.size is not None else 2 * root_size(measure, additional).size + GIB
    return max(kind.smallest, align_up(_ESTIMATES[kind.name](measure, additional), ALIGNMENT))


def root_filesystem(
    spec: ImageSpec, size: int, measure: TreeMeasure, additional: int, identifiers: Identifiers
) -> Ext4 | GuestMade:
    """How the root filesystem is made.

    :param size: bytes of its partition.
    :param measure: as for :func:`root_bytes`, as ``additional``.
    """
    root, uuid, options = spec.root, identifiers.root_uuid, spec.root.filesystem_options
    compression = root.compression or next(iter(kind_of(spec).compressions), "")
    match root.filesystem:
        case "xfs":
            return Xfs(label=root.label, uuid=uuid, options=options)
        case "btrfs":
            return Btrfs(
                label=root.label, uuid=uuid, options=options, compression=compression, subvolumes=root.subvolumes
            )
        case "f2fs":
            return F2fs(label=root.label, uuid=uuid, options=options)
        case "erofs":
            return Erofs(label=root.label, uuid=uuid, options=options, compression=compression)
        case "squashfs":
            return Squashfs(options=options, compression=compression)
        case _:
            within = root_within(measure, additional, size)
            return Ext4(
                label=root.label,
                uuid=uuid,
                hash_seed=identifiers.hash_seed,
                size=within.size,
                inodes=within.inodes,
                options=root.filesystem_options,
            )


def scratch_filesystem(spec: ImageSpec, measure: TreeMeasure, additional: int, identifiers: Identifiers) -> Ext4 | None:
    """The filesystem on which the host lays the tree for a root filesystem that is made in the guest; None for others.

    Its identifier must not be that of the root filesystem; nothing ever looks for it.

    :param additional: bytes that installers find free, where they work on this one since the root is read-only.
    """
    kind = kind_of(spec)
    if not kind.made_in_guest:
        return None
    found = root_size(measure, additional if kind.read_only else 0)
    seed = identifiers.hash_seed
    return Ext4(label="tree", uuid=seed, hash_seed=seed, size=found.size, inodes=found.inodes)


def _xfs(measure: TreeMeasure, additional: int) -> int:
    """Bytes of an xfs for a tree.

    Inodes of 512 bytes come in chunks of 64 (mkfs.xfs(8)); a directory has a leaf block beside each few data blocks;
    the log has at least 64 MiB, else a 2048th (xfsprogs, mkfs/xfs_mkfs.c, ``calculate_log_size``); the kernel keeps a
    twentieth back, at most 8192 blocks (``xfs_default_resblks``), and for the trees of free inodes and of shared blocks
    up to a hundredth (measured: 0.6 %).
    """
    files = measure.data_blocks + measure.extra_blocks + 2 * measure.directory_blocks
    inodes = -(-measure.inodes // 64) * 64 * 512
    used = files * _BLOCK + inodes * 5 // 4 + additional
    return used + used // 50 + max(64 * MIB, used // 2048) + 8192 * _BLOCK + 4 * MIB


def _btrfs(measure: TreeMeasure, additional: int) -> int:
    """Bytes of a btrfs for a tree.

    A file has items of some 490 bytes in all (Linux, ``btrfs_tree.h``: inode, reference, two entries of its directory,
    extent and its back reference, each with a key of 25), names three times, 4 bytes of check sum for a block; leaves
    are two thirds full; and all of this is kept twice (mkfs.btrfs(8), ``DUP``). Small files lie in these leaves, twice,
    which is the block that the measure has for them. Chunks of up to a tenth of the disk are given either to data or
    to metadata, and the kernel keeps a reserve.
    """
    data = measure.data_blocks * _BLOCK
    names = 3 * measure.directory_blocks * _BLOCK
    metadata = measure.inodes * 490 + names + measure.extra_blocks * _BLOCK + data // 1024
    used = data + data // 20 + 3 * metadata + additional
    return used + used * 3 // 20 + 96 * MIB


def _f2fs(measure: TreeMeasure, additional: int) -> int:
    """Bytes of an f2fs for a tree.

    Each inode takes a block, and so do 1018 pointers to data; directories are hashed into blocks that are a quarter
    full (Linux, filesystems/f2fs). What mkfs.f2fs 1.15 keeps for itself was read from the checkpoints
    (``user_block_count``) of filesystems of 64 MiB to 64 GiB: of S MiB, at most ``28 + 4 sqrt(S) + 0.006 S``.
    """
    blocks = measure.data_blocks + measure.inodes + 4 * measure.directory_blocks + 2 * measure.extra_blocks
    used = (blocks + blocks // 500) * _BLOCK + additional
    size = used
    while (short := used + _f2fs_overhead(size) - size) > 0:
        size = align_up(size + short, ALIGNMENT)
    return size


def _f2fs_overhead(size: int) -> int:
    return 28 * MIB + 4 * math.isqrt(size // MIB + 1) * MIB + 4 * MIB + size * 6 // 1000


_ESTIMATES: dict[str, Callable[[TreeMeasure, int], int]] = {"xfs": _xfs, "btrfs": _btrfs, "f2fs": _f2fs}
