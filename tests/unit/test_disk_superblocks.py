"""Superblocks of filesystems that were made in the guest, read from the raw disk."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest

from vmharness.disk import superblocks
from vmharness.disk.superblocks import Superblock
from vmharness.model.rootfs import ROOT_FILESYSTEMS

OFFSET = 3 << 20
ID = UUID("00112233-4455-6677-8899-aabbccddeeff")


def xfs() -> tuple[int, bytes]:
    """An xfs superblock: place and bytes."""
    block = bytearray(512)
    struct.pack_into(">4sIQ", block, 0, b"XFSB", 4096, 100)
    block[32:48] = ID.bytes
    block[108:113] = b"label"
    return 0, bytes(block)


MADE = {"xfs": (xfs, Superblock(uuid=ID, label="label", size=409_600))}


@pytest.mark.parametrize("kind", [kind.name for kind in ROOT_FILESYSTEMS.values() if kind.made_in_guest])
def test_a_superblock_is_found_where_the_filesystem_begins(tmp_path: Path, kind: str) -> None:
    """Identifier, label and size are read at the partition's offset; elsewhere, or past the end, there is none."""
    make, meant = MADE[kind]
    place, block = make()
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(OFFSET + (1 << 20))
        file.seek(OFFSET + place)
        file.write(block)
    assert superblocks.read(disk, OFFSET, kind) == meant
    assert superblocks.read(disk, OFFSET + 512, kind) is None
    assert superblocks.read(disk, OFFSET + (1 << 20), kind) is None
