"""How two sets of EFI variables differ, in words: by area, and without what the firmware rewrites at every boot."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Any
from uuid import UUID

from attrs import frozen

from vmharness.model import signatures
from vmharness.model.text import printable
from vmharness.model.variable_records import VariableRecord, decode, to_text
from vmharness.model.variables import ENTRY, GLOBAL, LOADER, EfiVariable, LoadOption, Variables


class Area(StrEnum):
    """What a variable is about; each variable is of one area."""

    BOOT = "boot"
    """Boot entries, their order, ``BootNext``."""
    LOADER = "loader"
    """The boot loader interface: ``LoaderEntryOneShot`` and the like."""
    KEYS = "keys"
    """Secure Boot: its keys, and whether it is on."""
    FIRMWARE = "firmware"
    """What the firmware writes by itself, at its first boot or at every one, with its own boot entries."""
    OTHER = "other"
    """Everything else."""


# What OVMF writes by itself, by vendor: edk2's GUIDs.
_FIRMWARE_VENDORS = {
    UUID("eb704011-1402-11d3-8e77-00a0c969723b"): "MTC, the monotonic counter",
    UUID("59324945-ec44-4c0d-b1cd-9db139df070c"): "Attempt 1 to 8, of iSCSI",
    UUID("4b47d616-a8d6-4552-9d44-ccad2e0f4cf9"): "InitialAttemptOrder, of iSCSI",
    UUID("d9bee56e-75dc-49d9-b4d7-b534210f637a"): "certdb, who may write authenticated variables",
    UUID("9073e4e0-60ec-4b6e-9903-4c223c260f3c"): "VendorKeysNv",
    UUID("c076ec0c-7028-4399-a072-71ee5c448b9f"): "CustomMode, set back at every boot",
    UUID("04b37fe8-f6ae-480b-bdd5-37d98c5e89aa"): "VarErrorFlag",
    UUID("4c19049f-4137-4dd3-9c10-8b97a83ffdfa"): "MemoryTypeInformation",
    UUID("fab7e9e1-39dd-4f2b-8408-e20e906cb6de"): "HDDP, where the short paths of boot entries led",
    UUID("6339d487-26ba-424b-9a5d-687e25d740bc"): "TCG2_CONFIGURATION, with a TPM",
    UUID("aeb9c5c1-94f1-4d02-bfd9-4602db2d3c54"): "Tcg2PhysicalPresence, with a TPM",
    UUID("e20939be-32d4-41be-a150-897f85d49829"): "MemoryOverwriteRequestControl, with a TPM",
    UUID("bb983ccf-151d-40e1-a07b-4a17be168292"): "MemoryOverwriteRequestControlLock, with a TPM",
}
# The same of the global vendor: consoles, hot keys, languages, the boot menu's time-out, and what a boot shows.
_FIRMWARE_NAMES = re.compile(
    r"(ConIn|ConOut|ErrOut)(Dev)?|Key[0-9A-F]{4}|(Platform)?Lang(Codes)?|Timeout|BootCurrent|BootOptionSupport"
    r"|OsIndicationsSupported|SetupMode|SecureBoot|AuditMode|DeployedMode|VendorKeys|SignatureSupport|\w+Default"
)
_BOOT_NAMES = re.compile(r"(Boot|Driver|SysPrep)([0-9A-F]{4}|Order)|BootNext|OsIndications")
_KEY_NAMES = {"PK", "KEK", "SetupMode", "SecureBoot", "AuditMode", "DeployedMode"}


@frozen(kw_only=True)
class Change:
    """One difference.

    :param before: what the variable said, or None where it was not there.
    :param after: what it says, or None where it is gone.
    :param text: the difference in words.
    """

    area: Area
    name: str
    guid: str
    before: VariableRecord | None
    after: VariableRecord | None
    text: str


def area_of(variable: EfiVariable) -> Area:
    """What a variable is about."""
    name, guid = variable.name, variable.guid
    if guid == GLOBAL and name in _KEY_NAMES:
        return Area.KEYS
    if guid in {signatures.IMAGE_SECURITY, signatures.SHIM} or (name, guid) == signatures.SECURE_BOOT_ENABLE:
        return Area.KEYS
    if guid in _FIRMWARE_VENDORS or (guid == GLOBAL and _FIRMWARE_NAMES.fullmatch(name)):
        return Area.FIRMWARE
    if guid == LOADER:
        return Area.LOADER
    if guid == GLOBAL and _BOOT_NAMES.fullmatch(name):
        return Area.FIRMWARE if _is_automatic(variable) else Area.BOOT
    return Area.OTHER


def changes(
    before: Variables, after: Variables, *, only: Collection[Area] = frozenset(Area), ignore_volatile: bool = False
) -> tuple[Change, ...]:
    """How ``after`` differs from ``before``: one value a variable, by area and name.

    :param only: the areas to compare.
    :param ignore_volatile: whether to leave out what the firmware writes by itself (:attr:`Area.FIRMWARE`), and its own
        boot entries from the orders that are compared.
    """
    old, new = (_by_key(side, whole=not ignore_volatile) for side in (before, after))
    areas = set(only) - ({Area.FIRMWARE} if ignore_volatile else set())
    found = []
    for key in old.keys() | new.keys():
        was, now = old.get(key), new.get(key)
        area = _area(was, now)
        text = _difference(was, now)
        if area in areas and text:
            name, guid = key
            found.append(
                Change(
                    area=area,
                    name=name,
                    guid=str(guid),
                    before=was.record if was else None,
                    after=now.record if now else None,
                    text=f"{printable(name)} {text}",
                )
            )
    ranks = list(Area)
    return tuple(sorted(found, key=lambda change: (ranks.index(change.area), change.name, change.guid)))


@frozen(kw_only=True)
class _Side:
    """A variable on one side of the comparison; ``compared`` is what its record's value is compared by."""

    variable: EfiVariable
    record: VariableRecord
    compared: Any


def _by_key(variables: Variables, *, whole: bool) -> dict[tuple[str, UUID], _Side]:
    automatic = {item.name for item in variables.variables if item.guid == GLOBAL and _is_automatic(item)}
    sides = {}
    for item in variables.variables:
        record = decode(item)
        compared = record.value
        if record.kind == "order" and not whole:
            compared = [name for name in record.value if name not in automatic]
        sides[item.name, item.guid] = _Side(variable=item, record=record, compared=compared)
    return sides


def _area(was: _Side | None, now: _Side | None) -> Area:
    """An entry that was the firmware's own and no longer is, or the other way round, counts as a boot entry."""
    areas = [area_of(side.variable) for side in (was, now) if side is not None]
    return next((area for area in areas if area is not Area.FIRMWARE), Area.FIRMWARE)


def _is_automatic(variable: EfiVariable) -> bool:
    if not ENTRY.fullmatch(variable.name):
        return False
    try:
        return LoadOption.parse(variable.data).automatic
    except ValueError:
        return False


def _difference(was: _Side | None, now: _Side | None) -> str:
    """The difference in words; empty if there is none."""
    if was is None or now is None:
        there = now or was
        assert there is not None
        if there.compared == [] != there.record.value:
            return ""  # an order of nothing but the firmware's own entries
        return f"{'added' if was is None else 'removed'}: {to_text(there.record)}"
    if was.variable == now.variable:
        return ""
    parts = list(_values(was, now))
    if was.record.attributes != now.record.attributes:
        parts.append(f"attributes from {', '.join(was.record.attributes)} to {', '.join(now.record.attributes)}")
    if was.variable.time != now.variable.time:
        parts.append("has another time stamp")
    if not parts and was.record.kind != "order":
        parts.append("has other bytes that say the same")
    return "; ".join(parts)


def _values(was: _Side, now: _Side) -> Iterator[str]:
    if was.compared == now.compared and was.record.kind == now.record.kind:
        return
    match was.record.kind, now.record.kind:
        case "boot-entry", "boot-entry":
            yield from _entry(was.record.value, now.record.value)
        case "order", "order":
            yield _order(was.compared, now.compared)
        case "keys", "keys":
            yield from _keys(was.variable.data, now.variable.data)
        case _:
            yield f"from {to_text(was.record)} to {to_text(now.record)}"


def _entry(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for field, value in was.items():
        if value != now[field]:
            old, new = ("nothing" if side == "" else side for side in (value, now[field]))
            yield printable(f"{field.replace('_', ' ')} from {old} to {new}")


def _order(was: list[str], now: list[str]) -> str:
    more, fewer = ([name for name in now if name not in was], [name for name in was if name not in now])
    parts = [f"{', '.join(more)} added"] if more else []
    parts += [f"{', '.join(fewer)} removed"] if fewer else []
    parts = parts or ["changed"]
    return f"from {', '.join(was) or 'nothing'} to {', '.join(now) or 'nothing'} ({', '.join(parts)})"


def _keys(was: bytes, now: bytes) -> Iterator[str]:
    old, new = signatures.parse(was), signatures.parse(now)
    yield from (printable(f"{key} added") for key in new if key not in old)
    yield from (printable(f"{key} removed") for key in old if key not in new)
