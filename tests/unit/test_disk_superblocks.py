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


def btrfs() -> tuple[int, bytes]:
    """A btrfs superblock."""
    block = bytearray(4096)
    block[32:48], block[64:72], block[299:304] = ID.bytes, b"_BHRfS_M", b"label"
    struct.pack_into("<Q", block, 112, 409_600)
    return 65536, bytes(block)


def f2fs() -> tuple[int, bytes]:
    """An f2fs superblock."""
    block = bytearray(2048)
    struct.pack_into("<I12xI16xQ", block, 0, 0xF2F52010, 12, 100)
    block[108:124], block[124:134] = ID.bytes, "label".encode("utf-16-le")
    return 1024, bytes(block)


def erofs() -> tuple[int, bytes]:
    """An erofs superblock."""
    block = bytearray(128)
    struct.pack_into("<I8xB23xI", block, 0, 0xE0F5E1E2, 12, 100)
    block[48:64], block[64:69] = ID.bytes, b"label"
    return 1024, bytes(block)


def squashfs() -> tuple[int, bytes]:
    """A squashfs superblock, of a filesystem whose size is no whole number of anything."""
    block = bytearray(96)
    struct.pack_into("<4s36xQ", block, 0, b"hsqs", 409_601)
    return 0, bytes(block)


LABELLED = Superblock(uuid=ID, label="label", size=409_600)
MADE = {
    "xfs": (xfs, LABELLED),
    "btrfs": (btrfs, LABELLED),
    "f2fs": (f2fs, LABELLED),
    "erofs": (erofs, LABELLED),
    "squashfs": (squashfs, Superblock(uuid=None, label=None, size=409_601)),
}


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
