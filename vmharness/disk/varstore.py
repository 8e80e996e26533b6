"""The bytes of a variable store: an OVMF NVRAM file, taken apart and put together.

The format is edk2's: a firmware volume (PI 1.8, volume 3, section 3.2.1) that holds a chain of authenticated variable
records (edk2, ``MdeModulePkg/Include/Guid/VariableFormat.h``). It is read and written here and not by ``virt-fw-vars``,
because that one ends a damaged chain silently (a store whose first record is overwritten is "no variables", exit status
0), keeps one of two variables that have the same name and different vendors, and sorts what it writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from uuid import UUID

from attrs import frozen

from vmharness.model.variables import EfiVariable

_VOLUME = struct.Struct(
    "<16x16sQ4sIHHxxBB"
)  # zero vector, file system, length, signature, attributes, header length, sum
_VOLUME_GUID = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
_STORE = struct.Struct("<16sIBB6x")  # signature, size, format, state
_STORE_GUID = UUID("aaf32c78-947b-439a-a180-2e144ec37792")
_FORMATTED_HEALTHY = (0x5A, 0xFE)
_RECORD = struct.Struct("<HBxIQ16sIII16s")  # start, state, attributes, count, time, key, name size, data size, vendor
_START = 0x55AA
_UNSET = 0xFFFFFFFF

# A record's state is written by clearing bits: 0x3f is valid, 0x3e valid while its successor is being written.
ADDED = 0x3F
_BEING_REPLACED = 0x3E


@frozen(kw_only=True)
class Record:
    """One record of the chain; ``raw`` is all of it, padding included."""

    state: int
    variable: EfiVariable
    raw: bytes

    @property
    def key(self) -> tuple[str, UUID]:
        """What the variable is found by."""
        return self.variable.name, self.variable.guid

    def as_added(self) -> bytes:
        """The bytes with the state of a valid record, for those whose successor was never finished."""
        return self.raw[:2] + bytes([ADDED]) + self.raw[3:]


@frozen(kw_only=True)
class Chain:
    """The store's records, and where they lie in the file: from ``begin``, with room up to ``end``."""

    records: tuple[Record, ...]
    begin: int
    end: int

    def live(self) -> Iterator[Record]:
        """The records that count: the valid ones, and those whose successor was never finished."""
        added = {item.key for item in self.records if item.state == ADDED}
        for item in self.records:
            left_behind = item.state == _BEING_REPLACED and item.key not in added
            if item.state == ADDED or left_behind:
                yield item


def parse(blob: bytes) -> Chain:
    """The chain of records of a raw variable store, checked to its last byte.

    :raises ValueError: with a sentence that names the byte, if it is none or a damaged one.
    """
    try:
        begin, end = _bounds(blob)
        return Chain(records=tuple(_records(blob, begin, end)), begin=begin, end=end)
    except struct.error as error:
        raise ValueError(f"it is cut off: {len(blob)} bytes") from error


def record_of(variable: EfiVariable) -> Record:
    """A new record, as the firmware writes it."""
    name = f"{variable.name}\0".encode("utf-16-le")
    head = _RECORD.pack(
        _START,
        ADDED,
        variable.attributes,
        0,
        variable.time or bytes(16),
        0,
        len(name),
        len(variable.data),
        variable.guid.bytes_le,
    )
    raw = head + name + variable.data
    return Record(state=ADDED, variable=variable, raw=raw + b"\xff" * (-len(raw) % 4))


def size_of(variable: EfiVariable) -> int:
    """Bytes that a variable takes of the store."""
    return len(record_of(variable).raw)


def rebuilt(blob: bytes, chain: Chain, records: Iterable[Record]) -> bytes:
    """The store with ``records`` instead of those of ``chain``, and empty flash behind them.

    :raises ValueError: they do not fit.
    """
    content = b"".join(record.as_added() for record in records)
    room = chain.end - chain.begin
    if len(content) > room:
        raise ValueError(f"the variables take {len(content):,} bytes, and there are {room:,}")
    return blob[: chain.begin] + content.ljust(room, b"\xff") + blob[chain.end :]


def _bounds(blob: bytes) -> tuple[int, int]:
    """Where records begin and where their room ends, from the two headers."""
    if blob.count(b"\xff") == len(blob):
        raise ValueError("it is an empty file, or empty flash")
    guid, length, signature, _attributes, header_length, _sum, _reserved, _revision = _VOLUME.unpack_from(blob)
    if signature != b"_FVH" or UUID(bytes_le=guid) != _VOLUME_GUID:
        raise ValueError("it does not begin with the firmware volume of EFI variables")
    if length > len(blob):
        raise ValueError(f"it is cut off: {len(blob)} bytes of {length}")
    if sum(struct.unpack_from(f"<{header_length // 2}H", blob)) & 0xFFFF:
        raise ValueError("the checksum of the firmware volume's header is wrong")
    guid, size, form, state = _STORE.unpack_from(blob, header_length)
    if UUID(bytes_le=guid) != _STORE_GUID or (form, state) != _FORMATTED_HEALTHY:
        raise ValueError("it holds no formatted and healthy store of authenticated variables")
    if header_length + size > length:
        raise ValueError("the variables' room ends outside the firmware volume")
    return header_length + _STORE.size, header_length + size


def _records(blob: bytes, begin: int, end: int) -> Iterator[Record]:
    at = begin
    while at + _RECORD.size <= end and blob[at : at + 2] != b"\xff\xff":
        record = _record(blob, at, end)
        yield record
        at += len(record.raw)
    if blob.count(b"\xff", at, end) != end - at:
        raise ValueError(f"what follows the last variable, at byte {at:#x}, is neither a variable nor empty flash")


def _record(blob: bytes, at: int, end: int) -> Record:
    start, state, attributes, _count, time, _key, name_size, data_size, vendor = _RECORD.unpack_from(blob, at)
    if start != _START:
        raise ValueError(f"the chain of variables is broken at byte {at:#x}")
    if state == 0xFF or _UNSET in (name_size, data_size, attributes):
        name_size = data_size = 0  # as edk2's NameSizeOfVariable: the write ended before the header was whole
    name_at = at + _RECORD.size
    data_at = name_at + name_size
    if data_at + data_size > end:
        raise ValueError(f"the variable at byte {at:#x} reaches beyond the end of the store")
    name = blob[name_at:data_at]
    valid = state in {ADDED, _BEING_REPLACED}
    if valid and (len(name) < 4 or len(name) % 2 or name[-2:] != b"\0\0"):
        raise ValueError(f"the variable at byte {at:#x} has a damaged name")
    next_at = data_at + data_size + (-(data_at + data_size) % 4)
    variable = EfiVariable(
        name=name.decode("utf-16-le", "replace").removesuffix("\0"),
        guid=UUID(bytes_le=vendor),
        attributes=attributes,
        data=blob[data_at : data_at + data_size],
        time=time if any(time) else b"",
    )
    return Record(state=state, variable=variable, raw=blob[at : min(next_at, end)])
