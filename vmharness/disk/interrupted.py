"""A variable store whose rewriting was interrupted, as its firmware will find it.

When a store is full, the firmware writes it anew: first into a spare area of the same flash, then, from there, over the
variables (edk2, ``MdeModulePkg/Universal/FaultTolerantWriteDxe``). A machine that is stopped meanwhile, or looked at,
has half a store; at its next start the firmware copies the spare area again. So it is the spare area that counts.
"""

from __future__ import annotations

import struct
from uuid import UUID

_WORKING = UUID("9e58292b-7c68-497d-a0ce-6500fd9f1b95").bytes_le
_WORKING_HEADER = struct.Struct("<16sIB3xQ")  # signature, check sum, state, bytes of the queue behind it
_WRITE = struct.Struct("<B3x16s4xQQ")  # state, who writes, number of records, bytes of private data of each
_RECORD = struct.Struct("<B7xQQQq")  # state, block, offset in it, length, distance from the spare area to the block
_BLOCKS = struct.Struct("<II")  # number of blocks, bytes of one
_BLOCK_MAP = 56  # where the volume's header has it (PI 1.8, volume 3, section 3.2.1)

# Flash: a bit says yes once it is cleared.
_ALLOCATED, _RECORDED, _COMPLETE = 0x01, 0x02, 0x04
_SPARE_COMPLETE, _TARGET_COMPLETE = 0x02, 0x04


def completed(blob: bytes) -> bytes:
    """The store as its firmware will have it: with an interrupted rewriting completed; otherwise ``blob`` itself.

    :raises ValueError: the interrupted rewriting is of something outside the store.
    """
    working = _find(blob)
    if working is None:
        return blob
    record = _pending(blob, *working)
    if record is None:
        return blob
    _state, block, offset, length, distance = record
    _count, size = _BLOCKS.unpack_from(blob, _BLOCK_MAP)
    target = block * size
    spare = target - distance
    whole = -(-(offset + length) // size) * size
    if not 0 < size <= len(blob) or spare + whole > len(blob) or target + whole > working[0] or spare < working[0]:
        raise ValueError("an interrupted rewriting of it reaches beyond its end")
    begin, end = working
    queue = begin + _WORKING_HEADER.size
    restored = blob[:target] + blob[spare : spare + whole] + blob[target + whole : queue]
    return restored + b"\xff" * (end - queue) + blob[end:]


def _find(blob: bytes) -> tuple[int, int] | None:
    """Where the working area begins and ends, by its signature at the beginning of a block; None without one."""
    if len(blob) < _BLOCK_MAP + _BLOCKS.size:
        return None
    _count, size = _BLOCKS.unpack_from(blob, _BLOCK_MAP)
    if size < _WORKING_HEADER.size:
        return None
    for place in range(0, len(blob) - _WORKING_HEADER.size, size):
        if blob.startswith(_WORKING, place):
            _signature, _sum, _state, queue = _WORKING_HEADER.unpack_from(blob, place)
            return place, min(place + _WORKING_HEADER.size + queue, len(blob))
    return None


def _pending(blob: bytes, begin: int, end: int) -> tuple[int, ...] | None:
    """The record of the last write of the queue, if its spare area is complete and its target is not."""
    at, last = begin + _WORKING_HEADER.size, None
    while at + _WRITE.size + _RECORD.size <= end and not blob[at] & _ALLOCATED:
        state, _caller, count, private = _WRITE.unpack_from(blob, at)
        if state & _RECORDED or not 0 < count <= end or private > end:
            return None
        last = (state, at + _WRITE.size + (count - 1) * (_RECORD.size + private))
        at += _WRITE.size + count * (_RECORD.size + private)
    if last is None or not last[0] & _COMPLETE or last[1] + _RECORD.size > end:
        return None
    record = _RECORD.unpack_from(blob, last[1])
    pending = not record[0] & _SPARE_COMPLETE and record[0] & _TARGET_COMPLETE
    return record if pending else None
