"""A partition table written again for a disk with other sectors: the partitions stay where they are, in bytes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_COUNT, _OLD = 128, 512


def rewrite(disk: Path, sector: int) -> None:
    """Write the table of a raw disk with sectors of 512 bytes for sectors of ``sector`` bytes, both its copies.

    :param sector: every partition begins and ends at a multiple of it.
    """
    content = disk.read_bytes()[: 34 * _OLD]
    guid = _HEADER.unpack_from(content, _OLD)[9]
    entries = b"".join(_entry(content, 2 * _OLD + number * _ENTRY.size, sector) for number in range(_COUNT))
    table = -(-len(entries) // sector)
    last = disk.stat().st_size // sector - 1
    usable = (2 + table, last - table - 1)
    primary = _header((1, last, 2), usable, guid, entries)
    backup = _header((last, 1, last - table), usable, guid, entries)
    with disk.open("r+b") as file:
        for place, data in ((1, primary), (2, entries), (last - table, entries), (last, backup)):
            file.seek(place * sector)
            file.write(data)


def _entry(content: bytes, at: int, sector: int) -> bytes:
    kind, guid, first, last, attributes, name = _ENTRY.unpack_from(content, at)
    if not any(kind):
        return bytes(_ENTRY.size)
    begin, end = first * _OLD, (last + 1) * _OLD
    assert begin % sector == end % sector == 0
    return _ENTRY.pack(kind, guid, begin // sector, end // sector - 1, attributes, name)


def _header(places: tuple[int, int, int], usable: tuple[int, int], guid: bytes, entries: bytes) -> bytes:
    """A header (UEFI 2.10, table 5.5); ``places`` are its own sector, the other header's and the entries'."""
    crc = zlib.crc32(entries)
    fields = (b"EFI PART", 0x10000, _HEADER.size, 0, 0, *places[:2], *usable, guid, places[2], _COUNT, _ENTRY.size, crc)
    whole = _HEADER.pack(*fields)
    return whole[:16] + struct.pack("<I", zlib.crc32(whole)) + whole[20:]
