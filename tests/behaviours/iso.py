"""A small ISO 9660 image that boots from a CD-ROM drive and from a USB stick, written without any tool.

It holds no files of its own, only a boot catalogue (El Torito 1.0) whose EFI entry is a FAT image, and an MBR that
names the same FAT image as an EFI system partition, as hybrid images of distributions do.
"""

from __future__ import annotations

import struct
from pathlib import Path

SECTOR = 2048
_CATALOGUE, _ROOT, _IMAGE = 19, 20, 24


def write(path: Path, fat: bytes, *, catalogue: bool = True) -> None:
    """Write the image.

    :param fat: a FAT filesystem with a loader on the fallback path.
    :param catalogue: whether firmware finds the FAT on a CD-ROM.
    """
    blocks = _IMAGE + -(-len(fat) // SECTOR)
    with path.open("wb") as file:
        file.write(_mbr(len(fat)))
        parts = [(16, _primary(blocks)), (18, _terminator()), (_ROOT, _record(b"\0") + _record(b"\1")), (_IMAGE, fat)]
        if catalogue:
            parts += [(17, _boot_record()), (_CATALOGUE, _boot_catalogue())]
        else:
            parts.append((17, _terminator()))
        for sector, data in parts:
            file.seek(sector * SECTOR)
            file.write(data)
        file.truncate(blocks * SECTOR)


def _mbr(size: int) -> bytes:
    """A partition of type EF, from the FAT's first sector of 512 bytes."""
    entry = struct.pack("<B3sB3sII", 0, b"\xff" * 3, 0xEF, b"\xff" * 3, _IMAGE * 4, size // 512)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def _primary(blocks: int) -> bytes:
    """The primary volume descriptor (ECMA-119, 8.4)."""
    descriptor = bytearray(SECTOR)
    descriptor[:7] = b"\1CD001\1"
    descriptor[8:72] = b"VMHARNESS".ljust(32) + b"BEHAVIOUR".ljust(32)
    descriptor[80:88] = _both32(blocks)
    descriptor[120:132] = _both16(1) + _both16(1) + _both16(SECTOR)
    descriptor[156:190] = _record(b"\0")
    descriptor[881] = 1
    return bytes(descriptor)


def _both16(value: int) -> bytes:
    return struct.pack("<H", value) + struct.pack(">H", value)


def _both32(value: int) -> bytes:
    return struct.pack("<I", value) + struct.pack(">I", value)


def _record(name: bytes) -> bytes:
    """A directory record of the root (ECMA-119, 9.1)."""
    head = struct.pack("<BB8s8s7sBBB", 34, 0, _both32(_ROOT), _both32(SECTOR), bytes(7), 2, 0, 0)
    return head + _both16(1) + b"\1" + name


def _boot_record() -> bytes:
    """The boot record, which leads to the catalogue (El Torito, figure 7)."""
    head = b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(32, b"\0") + bytes(32)
    return (head + struct.pack("<I", _CATALOGUE)).ljust(SECTOR, b"\0")


def _terminator() -> bytes:
    return b"\xffCD001\1".ljust(SECTOR, b"\0")


def _boot_catalogue() -> bytes:
    """Validation entry and one bootable entry without emulation for EFI; a length of 0 is all up to the disk's end."""
    validation = struct.pack("<BBH24sHBB", 1, 0xEF, 0, b"vmharness", 0, 0x55, 0xAA)
    checksum = -sum(struct.unpack("<16H", validation)) & 0xFFFF
    validation = validation[:28] + struct.pack("<H", checksum) + validation[30:]
    return validation + struct.pack("<BBHBBHI20s", 0x88, 0, 0, 0, 0, 0, _IMAGE, b"")
