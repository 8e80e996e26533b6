"""The variable store: read from an OVMF NVRAM file, checked to the last byte, and freed of what was deleted.

The format is edk2's: a firmware volume (PI 1.8, volume 3, section 3.2.1) that holds a chain of authenticated variable
records (edk2, ``MdeModulePkg/Include/Guid/VariableFormat.h``). It is read here and not by ``virt-fw-vars``, because
that one ends a damaged chain silently (a store whose first record is overwritten is "no variables", exit status 0) and
keeps one of two variables that have the same name and different vendors.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from attrs import frozen

from vmharness.errors import HostError, VerificationFailed
from vmharness.model.variables import EfiVariable, VariableStore

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
_ADDED = 0x3F
_BEING_REPLACED = 0x3E


@frozen(kw_only=True)
class _Record:
    """One record of the chain; ``raw`` is all of it, padding included."""

    state: int
    variable: EfiVariable
    raw: bytes


@frozen(kw_only=True)
class _Chain:
    """The store's records, and where they lie in the file: from ``begin``, with room up to ``end``."""

    records: tuple[_Record, ...]
    begin: int
    end: int

    def live(self) -> Iterator[_Record]:
        """The records that count: the valid ones, and those whose successor was never finished."""
        added = {(item.variable.name, item.variable.guid) for item in self.records if item.state == _ADDED}
        for item in self.records:
            left_behind = item.state == _BEING_REPLACED and (item.variable.name, item.variable.guid) not in added
            if item.state == _ADDED or left_behind:
                yield item


def read_store(path: Path) -> VariableStore:
    """The variables of a raw variable store.

    :raises HostError: the file cannot be read.
    :raises VerificationFailed: it is no variable store, or a damaged one.
    """
    blob = _read(path)
    chain = _chain(path, blob)
    return VariableStore(
        variables=tuple(record.variable for record in chain.live()),
        size=len(blob),
        capacity=chain.end - chain.begin,
        used=sum(len(record.raw) for record in chain.records),
    )


def remnants(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``names`` that are anywhere in the store's bytes: a deleted variable keeps its bytes for a long time."""
    blob = _read(path)
    return tuple(name for name in names if name.encode("utf-16-le") in blob)


def scrub(path: Path, names: tuple[str, ...]) -> None:
    """Delete the variables called ``names``, of any vendor, and every byte of what was deleted before.

    The other variables stay as they are, in their order. The file is replaced in one step; no machine may be using it.

    :raises VerificationFailed: the store is damaged, or a name still is in it (in the firmware's spare block).
    """
    blob = _read(path)
    chain = _chain(path, blob)
    kept = b"".join(_as_valid(record.raw) for record in chain.live() if record.variable.name not in names)
    room = kept.ljust(chain.end - chain.begin, b"\xff")
    aside = path.with_name(f"{path.name}.scrubbed")
    try:
        aside.write_bytes(blob[: chain.begin] + room + blob[chain.end :])
        aside.chmod(path.stat().st_mode & 0o777)
        os.replace(aside, path)  # noqa: PTH105 -- says what it does better than rename
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise HostError(f"cannot rewrite the variable store {path}: {error.strerror}") from error
    left = remnants(path, names)
    if left:
        raise VerificationFailed(f"the variable store {path} still holds traces of {', '.join(left)}")


def _as_valid(raw: bytes) -> bytes:
    """The record with the state of a valid one, for those whose successor was never finished."""
    return raw[:2] + bytes([_ADDED]) + raw[3:]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(f"cannot read the variable store {path}: {error.strerror}") from error


def _chain(path: Path, blob: bytes) -> _Chain:
    try:
        begin, end = _bounds(blob)
        return _Chain(records=tuple(_records(blob, begin, end)), begin=begin, end=end)
    except (ValueError, struct.error) as error:
        raise VerificationFailed(
            f"{path} is not a sound variable store: {error}",
            hint="start again from a fresh copy of the firmware's variable template",
        ) from error


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


def _records(blob: bytes, begin: int, end: int) -> Iterator[_Record]:
    at = begin
    while at + _RECORD.size <= end and blob[at : at + 2] != b"\xff\xff":
        record = _record(blob, at, end)
        yield record
        at += len(record.raw)
    if blob.count(b"\xff", at, end) != end - at:
        raise ValueError(f"what follows the last variable, at byte {at:#x}, is neither a variable nor empty flash")


def _record(blob: bytes, at: int, end: int) -> _Record:
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
    valid = state in {_ADDED, _BEING_REPLACED}
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
    return _Record(state=state, variable=variable, raw=blob[at : min(next_at, end)])
