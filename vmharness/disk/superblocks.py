"""What the superblocks of filesystems say that were made in the guest: identifier, label, size."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from attrs import frozen

EROFS_SUPERBLOCK = 1024
EROFS_MAGIC = 0xE0F5E1E2


@frozen(kw_only=True)
class Superblock:
    """What a filesystem says about itself; None where its kind has no such thing.

    :param size: bytes that it takes of its partition.
    """

    uuid: UUID | None
    label: str | None
    size: int


def read(disk: Path, offset: int, kind: str) -> Superblock | None:
    """The superblock of a filesystem.

    :param offset: the filesystem's first byte in the raw disk.
    :param kind: its type, as ``mount`` has it.
    :returns: None where there is no such filesystem.
    """
    place, length, parse = _KINDS[kind]
    with disk.open("rb") as file:
        block = os.pread(file.fileno(), length, offset + place)
    return parse(block) if len(block) == length else None


def _xfs(block: bytes) -> Superblock | None:
    """Linux, fs/xfs/libxfs/xfs_format.h, ``struct xfs_dsb``: all big-endian."""
    if block[:4] != b"XFSB":
        return None
    block_size, blocks = struct.unpack_from(">IQ", block, 4)
    return Superblock(uuid=UUID(bytes=block[32:48]), label=_text(block[108:120]), size=block_size * blocks)


def _btrfs(block: bytes) -> Superblock | None:
    """Linux, include/uapi/linux/btrfs_tree.h, ``struct btrfs_super_block``."""
    if block[64:72] != b"_BHRfS_M":
        return None
    (size,) = struct.unpack_from("<Q", block, 112)
    return Superblock(uuid=UUID(bytes=block[32:48]), label=_text(block[299:555]), size=size)


def _f2fs(block: bytes) -> Superblock | None:
    """Linux, include/linux/f2fs_fs.h, ``struct f2fs_super_block``; blocks of 4096 bytes."""
    magic, log_block, blocks = struct.unpack_from("<I12xI16xQ", block)
    if magic != 0xF2F52010:
        return None
    label = block[124:1148].decode("utf-16-le", "replace").partition("\0")[0]
    return Superblock(uuid=UUID(bytes=block[108:124]), label=label, size=blocks << log_block)


def _erofs(block: bytes) -> Superblock | None:
    """Linux, fs/erofs/erofs_fs.h, ``struct erofs_super_block``."""
    magic, log_block, blocks = struct.unpack_from("<I8xB23xI", block)
    if magic != EROFS_MAGIC:
        return None
    return Superblock(uuid=UUID(bytes=block[48:64]), label=_text(block[64:80]), size=blocks << log_block)


def _squashfs(block: bytes) -> Superblock | None:
    """Linux, fs/squashfs/squashfs_fs.h, ``struct squashfs_super_block``."""
    magic, size = struct.unpack_from("<4s36xQ", block)
    return Superblock(uuid=None, label=None, size=size) if magic == b"hsqs" else None


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "replace")


_KINDS: dict[str, tuple[int, int, Callable[[bytes], Superblock | None]]] = {
    "xfs": (0, 512, _xfs),
    "btrfs": (65536, 4096, _btrfs),
    "f2fs": (1024, 2048, _f2fs),
    "erofs": (EROFS_SUPERBLOCK, 128, _erofs),
    "squashfs": (0, 96, _squashfs),
}
