"""Variable stores as files: read at any time, edited while no machine uses them, freed of what was deleted."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from vmharness.disk import interrupted, varstore
from vmharness.disk.varstore import Chain, Record
from vmharness.errors import HostError, VerificationFailed
from vmharness.model.variables import EfiVariable, Variables, VariableStore

Key = tuple[str, UUID]
"""What a variable is found by: its name and its vendor."""

# A machine's image lock: QEMU holds read locks on single bytes from 100 and from 200 for what it does with the file and
# for what it lets nobody else do (QEMU, block/file-posix.c, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE).
_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 100, 200, 0)
_QCOW2 = b"QFI\xfb"


def read_store(path: Path) -> VariableStore:
    """The variables of a raw variable store, which a machine may be using.

    Where a machine was stopped while its firmware rewrote the store, these are the variables that it will find.

    :raises HostError: the file cannot be read.
    :raises VerificationFailed: it is no variable store, or a damaged one.
    """
    return _store(*_load(path))


def read_variables(path: Path) -> Variables:
    """The variables of a raw store, or of a folder such as ``/sys/firmware/efi/efivars``, or a copy of that.

    :raises HostError: it cannot be read.
    :raises VerificationFailed: it is no variable store, or a damaged one.
    """
    if not path.is_dir():
        return read_store(path)
    found = []
    for file in sorted(path.iterdir()):
        name, guid, content = file.name[:-37], file.name[-36:], _read(file)
        try:
            # Linux, Documentation/filesystems/efivarfs.rst: the attributes come first
            (attributes,) = struct.unpack_from("<I", content)
            found.append(EfiVariable(name=name, guid=UUID(guid), attributes=attributes, data=content[4:]))
        except (ValueError, struct.error) as error:
            raise VerificationFailed(f"{file} is not a file of efivarfs: {error}") from error
    return Variables(variables=tuple(found))


def edit(path: Path, *, put: Iterable[EfiVariable] = (), delete: Collection[Key] = ()) -> VariableStore:
    """Write and delete variables; all others stay as they are, to the byte and in their order.

    A variable that is there already is replaced in its place; new ones come last. What was deleted before is gone from
    the flash. The file is replaced in one step.

    :returns: the store as it is now.
    :raises HostError: the file cannot be written, or a machine is using it.
    :raises VerificationFailed: it is damaged, or the variables do not fit; nothing was changed.
    """
    with _locked(path):
        blob, chain = _load(path)
        gone = set(delete)
        records = {record.key: record for record in chain.live() if record.key not in gone}
        for variable in put:
            record = varstore.record_of(variable)
            records[record.key] = record
        return _replace(path, blob, chain, tuple(records.values()))


def remnants(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``names`` that are anywhere in the store's bytes: a deleted variable keeps its bytes for a long time."""
    blob = _read(path)
    return tuple(name for name in names if name.encode("utf-16-le") in blob)


def scrub(path: Path, names: tuple[str, ...]) -> None:
    """Delete the variables called ``names``, of any vendor, and every byte of what was deleted before.

    :raises: as :func:`edit`; a name may also still be in the store afterwards, in the firmware's spare block.
    """
    edit(path, delete=[(item.name, item.guid) for item in read_store(path).variables if item.name in names])
    left = remnants(path, names)
    if left:
        raise VerificationFailed(f"the variable store {path} still holds traces of {', '.join(left)}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep machines off the file; QEMU refuses to start on it for as long, and we refuse while one runs on it."""
    try:
        file = path.open("r+b")
    except OSError as error:
        raise HostError(f"cannot write the variable store {path}: {error.strerror}") from error
    with file:
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _LOCK)
        except BlockingIOError as error:
            raise HostError(
                f"the variable store {path} is in use by a running machine",
                hint="switch the machine off first, or edit a copy; it can be read at any time",
            ) from error
        yield


def _replace(path: Path, blob: bytes, chain: Chain, records: tuple[Record, ...]) -> VariableStore:
    try:
        content = varstore.rebuilt(blob, chain, records)
    except ValueError as error:
        raise VerificationFailed(f"the variable store {path} is too small: {error}") from error
    after = _store(content, varstore.parse(content))
    if after.variables != tuple(record.variable for record in records):
        raise VerificationFailed(f"the variable store {path} would not hold what was to be written to it")
    target = path.resolve()
    aside = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        with aside.open("xb") as file:
            file.write(content)
            os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
            os.fsync(file.fileno())
        os.replace(aside, target)  # noqa: PTH105 -- says what it does better than rename
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise HostError(f"cannot rewrite the variable store {path}: {error.strerror}") from error
    return after


def _store(blob: bytes, chain: Chain) -> VariableStore:
    return VariableStore(
        variables=tuple(record.variable for record in chain.live()),
        size=len(blob),
        capacity=chain.end - chain.begin,
        used=sum(len(record.raw) for record in chain.records),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(f"cannot read the variable store {path}: {error.strerror}") from error


def _load(path: Path) -> tuple[bytes, Chain]:
    """A store's bytes, as its firmware will find them, and what they hold."""
    blob = _read(path)
    try:
        blob = interrupted.completed(blob)
        return blob, varstore.parse(blob)
    except ValueError as error:
        hint = "start again from a fresh copy of the firmware's variable template"
        if blob.startswith(_QCOW2):
            hint = "it is a qcow2 image; `qemu-img convert -O raw` makes the raw store of it"
        raise VerificationFailed(f"{path} is not a sound variable store: {error}", hint=hint) from error
