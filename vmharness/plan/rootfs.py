"""The root filesystem that a definition asks for, and how large it must be.

For ext4 the size is a reckoning to the block (``plan/sizing.py``), since the host lays it out itself. The others are
made by their own programs; here are upper bounds from the cost of the tree on ext4 and from what these programs lay
out. Each constant says where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable

from vmharness.model.image import ImageSpec
from vmharness.model.partitions import ALIGNMENT, Ext4, GuestMade, Xfs
from vmharness.model.results import TreeMeasure
from vmharness.model.rootfs import ROOT_FILESYSTEMS, RootFilesystem
from vmharness.model.sizes import MIB, align_up
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
    return max(kind.smallest, align_up(_ESTIMATES[kind.name](measure, additional), ALIGNMENT))


def root_filesystem(
    spec: ImageSpec, size: int, measure: TreeMeasure, additional: int, identifiers: Identifiers
) -> Ext4 | GuestMade:
    """How the root filesystem is made.

    :param size: bytes of its partition.
    :param measure: as for :func:`root_bytes`, as ``additional``.
    """
    root, uuid = spec.root, identifiers.root_uuid
    match root.filesystem:
        case "xfs":
            return Xfs(label=root.label, uuid=uuid, options=root.filesystem_options)
        case _:
            within = root_within(measure, additional, size)
            return Ext4(
                label=root.label,
                uuid=uuid,
                hash_seed=identifiers.hash_seed,
                size=within.size,
                inodes=within.inodes,
            )


def scratch_filesystem(spec: ImageSpec, measure: TreeMeasure, identifiers: Identifiers) -> Ext4 | None:
    """The filesystem on which the host lays the tree for a root filesystem that is made in the guest; None for others.

    Its identifier must not be that of the root filesystem; nothing ever looks for it.
    """
    if not kind_of(spec).made_in_guest:
        return None
    found = root_size(measure, 0)
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


_ESTIMATES: dict[str, Callable[[TreeMeasure, int], int]] = {"xfs": _xfs}
