"""What the superblocks of filesystems say that were made in the guest: identifier, label, size."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from attrs import frozen


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


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "replace")


_KINDS: dict[str, tuple[int, int, Callable[[bytes], Superblock | None]]] = {
    "xfs": (0, 512, _xfs),
}
