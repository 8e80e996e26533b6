"""Filesystems that are packed when everything is in them: finished on the host, and the disk cut to what they take."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import google_crc32c
from attrs import evolve

from vmharness.disk import partitioning, superblocks
from vmharness.disk.superblocks import EROFS_MAGIC, EROFS_SUPERBLOCK
from vmharness.errors import VerificationFailed
from vmharness.model.partitions import ALIGNMENT, SECTOR, Layout, Partition, Scheme
from vmharness.model.sizes import align_up

_BLOCK = 4096
_CHECKSUM = 1  # feature_compat: the superblock has a check sum
_BOOT_CODE = 440  # bytes of an MBR before the disk's signature


def set_erofs_label(disk: Path, part: Partition, label: str) -> None:
    """Write a label into the superblock, with its check sum: mkfs.erofs 1.5, Debian 12's, cannot.

    (Linux, fs/erofs/super.c, ``erofs_superblock_csum_verify``: CRC-32C without the inversion at its end, over the
    first block from the superblock on, the check sum's own field being zero.)

    :raises VerificationFailed: there is no erofs.
    """
    with disk.open("r+b") as file:
        place = part.offset + EROFS_SUPERBLOCK
        block = bytearray(os.pread(file.fileno(), _BLOCK - EROFS_SUPERBLOCK, place))
        magic, _, features = struct.unpack_from("<3I", block)
        if magic != EROFS_MAGIC:
            raise VerificationFailed("the root partition holds no erofs", findings=())
        block[64:80] = label.encode().ljust(16, b"\0")
        struct.pack_into("<I", block, 4, 0)
        if features & _CHECKSUM:
            struct.pack_into("<I", block, 4, google_crc32c.value(bytes(block)) ^ 0xFFFFFFFF)
        os.pwrite(file.fileno(), block, place)


def cut(disk: Path, layout: Layout) -> Layout:
    """Cut the root partition, which is the last one, and the disk to what the root filesystem takes.

    :returns: the layout that the disk has then.
    :raises VerificationFailed: there is no such filesystem.
    :raises HostError: the table cannot be written.
    """
    root = layout.by_role("root")
    kind = type(root.filesystem).__name__.lower()
    found = superblocks.read(disk, root.offset, kind)
    if found is None:
        raise VerificationFailed(f"the root partition holds no {kind}", findings=())
    sectors = align_up(found.size, ALIGNMENT) // SECTOR
    if sectors >= root.sectors:
        return layout
    shorter = evolve(
        layout,
        size=layout.size - (root.sectors - sectors) * SECTOR,
        partitions=(*layout.partitions[:-1], evolve(root, sectors=sectors)),
    )
    os.truncate(disk, shorter.size)
    if layout.scheme is not Scheme.NONE:
        with disk.open("r+b") as file:
            boot_code = os.pread(file.fileno(), _BOOT_CODE, 0)
            partitioning.write_table(disk, shorter)
            os.pwrite(file.fileno(), boot_code, 0)
    return shorter
