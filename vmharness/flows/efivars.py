"""EFI variables as data: read and compare those of stores at any time, change those of a machine that is off."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path
from uuid import UUID

from attrs import evolve

from vmharness.disk import efivars, keys, varstore
from vmharness.disk import enrolment as enrolling
from vmharness.disk.enrolment import Enrolment, of_folder
from vmharness.errors import SpecError, VerificationFailed
from vmharness.model import filler
from vmharness.model.secure_boot import SecureBoot
from vmharness.model.variable_changes import Area, Change, changes
from vmharness.model.variable_values import ATTRIBUTES, from_text
from vmharness.model.variables import ENTRY, GLOBAL, EfiVariable, Variables, VariableStore, words

_ORIGIN = "<command line>"
_ENTRY_NAMES = {"BootOrder": "Boot", "DriverOrder": "Driver", "SysPrepOrder": "SysPrep", "BootNext": "Boot"}


def show(path: Path) -> Variables:
    """The variables of a raw store, or of a folder of efivarfs' files. A machine may be using it.

    :raises HostError: it cannot be read.
    :raises VerificationFailed: it is damaged; the error names the byte.
    """
    return efivars.read_variables(path)


def compare(
    before: Path, after: Path, *, only: Collection[Area] = frozenset(Area), ignore_volatile: bool = False
) -> tuple[Change, ...]:
    """How the variables of two stores differ.

    :param only: the areas to compare.
    :param ignore_volatile: whether to leave out what the firmware writes by itself.
    :raises: as :func:`show`.
    """
    return changes(show(before), show(after), only=only, ignore_volatile=ignore_volatile)


def set_text(path: Path, name: str, text: str) -> VariableStore:
    """Write a known variable from text, such as ``BootOrder`` from ``0003,0001`` (``model/variable_values.py``).

    :returns: the store as it is now.
    :raises SpecError: the variable is not known, the text is not for it, or it names an entry that is not there.
    :raises HostError: the file cannot be written, or a machine is using it.
    :raises VerificationFailed: the store is damaged, or too small; nothing was changed.
    """
    try:
        variable = from_text(name, text)
    except ValueError as error:
        hint = "--hex or --file writes any variable, --guid names its vendor"
        raise SpecError(str(error), hint=hint, origin=_ORIGIN, key=name) from error
    _require_entries(efivars.read_store(path), variable)
    return efivars.edit(path, put=[variable])


def set_bytes(
    path: Path, name: str, data: bytes, *, guid: UUID = GLOBAL, attributes: int | None = None
) -> VariableStore:
    """Write a variable's bytes, whatever they are.

    :param attributes: its attribute bits; None keeps those that it has, a new one gets 7 (what systems set).
    :raises: as :func:`set_text`.
    """
    if not data or not name or "\0" in name:
        what = "has no data, which the firmware takes for none" if name else "has no name"
        raise SpecError(f"a variable that {what}", hint="`efivars delete` removes one", origin=_ORIGIN, key=name)
    there = efivars.read_store(path).get(name, guid)
    if attributes is None:
        attributes = there.attributes if there is not None else ATTRIBUTES
    time = there.time if there is not None else b""
    return efivars.edit(path, put=[EfiVariable(name=name, guid=guid, attributes=attributes, data=data, time=time)])


def delete(path: Path, names: Iterable[str], *, guid: UUID | None = None) -> VariableStore:
    """Delete variables. A boot entry goes out of ``BootOrder``, too, as ``efibootmgr --delete-bootnum`` has it.

    :param guid: their vendor; None takes the one vendor that has a variable of that name.
    :raises SpecError: there is no such variable, or several vendors have one.
    :raises: as :func:`set_text`, besides.
    """
    store = efivars.read_store(path)
    keys = [_key(store, name, guid) for name in names]
    gone = {name for name, vendor in keys if vendor == GLOBAL and ENTRY.fullmatch(name)}
    order = boot_order(path, store)
    kept = [number for number in order if f"Boot{number:04X}" not in gone]
    put = []
    if kept != list(order) and ("BootOrder", GLOBAL) not in keys:
        put = [from_text("BootOrder", ",".join(f"{number:04X}" for number in kept))] if kept else []
        keys += [] if kept else [("BootOrder", GLOBAL)]
    return efivars.edit(path, put=put, delete=keys)


def enroll(path: Path, enrolment: Enrolment, *, generate: Path | None = None) -> SecureBoot:
    """Put Secure Boot keys into a store, and switch it on or off.

    :param generate: folder in which new test keys are made, which are enrolled besides.
    :returns: the state that the store leads to.
    :raises SpecError: a file is none of what it should be, or the folder holds keys already.
    :raises: as :func:`set_text`, besides.
    """
    if generate is not None:
        efivars.read_store(path)  # a damaged store is named before any key is made
        made = of_folder(keys.make_folder(generate))
        enrolment = evolve(
            enrolment,
            pk=made.pk,
            kek=(*made.kek, *enrolment.kek),
            db=(*made.db, *enrolment.db),
            secure_boot=True if enrolment.secure_boot is None else enrolment.secure_boot,
        )
    return enrolling.enroll(path, enrolment)


def fill(path: Path, *, used: int | None = None, free: int | None = None) -> VariableStore:
    """Fill a store with variables that only take room, instead of those that an earlier call made.

    :param used: bytes that are taken afterwards.
    :param free: bytes that are free afterwards; one of both.
    :raises SpecError: the store has too little room for that, or already takes more.
    :raises: as :func:`set_text`, besides.
    """
    store = efivars.read_store(path)
    others = [item for item in store.variables if item.guid != filler.VENDOR]
    taken = sum(varstore.size_of(item) for item in others)
    wanted = (store.capacity - (free or 0) if used is None else used) // 4 * 4
    if not taken <= wanted <= store.capacity:
        room = f"from {taken} bytes, which the other variables take, to {store.capacity}"
        raise SpecError(f"the store cannot be filled to {wanted} bytes", origin=_ORIGIN, allowed=room)
    try:
        made = filler.fillers(wanted - taken)
    except ValueError as error:
        raise SpecError(str(error), hint="ask for a little more or less", origin=_ORIGIN) from error
    old = [(item.name, item.guid) for item in store.variables if item.guid == filler.VENDOR]
    return efivars.edit(path, put=made, delete=old)


def _require_entries(store: VariableStore, variable: EfiVariable) -> None:
    """A typing error in an order would be passed over by the firmware in silence."""
    prefix = _ENTRY_NAMES.get(variable.name)
    if prefix is None:
        return
    names = [f"{prefix}{number:04X}" for number in words(variable.data)]
    missing = [name for name in names if store.get(name) is None]
    if missing:
        there = sorted(item.name for item in store.variables if ENTRY.fullmatch(item.name))
        raise SpecError(
            f"the store has no entry {', '.join(missing)}",
            hint="--hex writes it all the same",
            origin=_ORIGIN,
            key=variable.name,
            allowed=", ".join(there) or "there are none",
        )


def _key(store: VariableStore, name: str, guid: UUID | None) -> efivars.Key:
    vendors = [item.guid for item in store.variables if item.name == name and guid in {None, item.guid}]
    if len(vendors) == 1:
        return name, vendors[0]
    if vendors:
        several = ", ".join(map(str, vendors))
        raise SpecError(f"several vendors have a variable {name}", origin=_ORIGIN, key="--guid", allowed=several)
    near = difflib.get_close_matches(name, [item.name for item in store.variables], n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise SpecError(f"the store has no variable {name}{meant}", origin=_ORIGIN)


def boot_order(path: Path, store: VariableStore) -> tuple[int, ...]:
    """The boot order of the store in a file.

    :raises VerificationFailed: it is damaged; the hint says how to mend it.
    """
    try:
        return store.boot_order()
    except ValueError as error:
        raise VerificationFailed(
            f"BootOrder in {path} is damaged: {error}", hint="`efivars set FILE BootOrder 0000,0001` writes a new one"
        ) from error
