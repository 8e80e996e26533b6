"""EFI variables and their differences as JSON data, and as plain lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vmharness.model import manifest
from vmharness.model.secure_boot import SecureBoot, secure_boot
from vmharness.model.sizes import format_size
from vmharness.model.text import printable
from vmharness.model.variable_changes import Area, Change, area_of
from vmharness.model.variable_records import VariableRecord, decode, to_text
from vmharness.model.variables import Variables, VariableStore

_TITLES = {
    Area.BOOT: "boot entries",
    Area.LOADER: "loader interface",
    Area.KEYS: "keys",
    Area.FIRMWARE: "the firmware's own",
    Area.OTHER: "others",
}
_FIRST_KINDS = {"order": 0, "entry": 1, "boot-entry": 2}


def to_data(variables: Variables) -> dict[str, Any]:
    """Variables as JSON data."""
    data: dict[str, Any] = {}
    if isinstance(variables, VariableStore):
        data = {"size": variables.size, "capacity": variables.capacity, "used": variables.used}
    state = _secure_boot(variables)
    data["secure_boot"] = None if state is None else {"enforced": state.enforced, "setup_mode": state.setup_mode}
    data["variables"] = [
        {"area": area_of(item).value, **manifest.to_data(decode(item))} for item in variables.variables
    ]
    return data


def to_lines(variables: Variables) -> Iterator[str]:
    """Variables as plain lines for people, by area; what a guest wrote is shown without control characters."""
    if isinstance(variables, VariableStore):
        free = format_size(variables.capacity - variables.used)
        yield f"{format_size(variables.used)} of {format_size(variables.capacity)} used, {free} free"
    yield f"Secure Boot: {state_text(_secure_boot(variables))}"
    areas: dict[Area, list[VariableRecord]] = {area: [] for area in Area}
    for item in variables.variables:
        record = decode(item)
        # people look for every boot entry in one place
        areas[Area.BOOT if record.kind == "boot-entry" else area_of(item)].append(record)
    for area, records in areas.items():
        if records:
            yield _TITLES[area]
        for record in sorted(records, key=_rank):
            yield from _lines(record)


def changes_to_data(found: Iterable[Change]) -> list[dict[str, Any]]:
    """Differences as JSON data."""
    return [
        {
            "area": change.area.value,
            "name": change.name,
            "guid": change.guid,
            "text": change.text,
            "before": manifest.to_data(change.before),
            "after": manifest.to_data(change.after),
        }
        for change in found
    ]


def _rank(record: VariableRecord) -> tuple[int, str]:
    """What is booted, and in which order, is what people look for."""
    return _FIRST_KINDS.get(record.kind, len(_FIRST_KINDS)), record.name


def _lines(record: VariableRecord) -> Iterator[str]:
    name = printable(record.name)
    if record.kind != "keys":
        yield f"  {name}: {to_text(record)}"
        return
    yield f"  {name}"
    for key in record.value:
        what = f"{key['subject']}, SHA-256 " if key["subject"] else ""
        yield printable(f"    {key['kind']}: {what}{key['fingerprint']} (owner {key['owner']})")


def _secure_boot(variables: Variables) -> SecureBoot | None:
    """The state of Secure Boot, or None where a signature database is damaged; that one is shown as such."""
    try:
        return secure_boot(variables)
    except ValueError:
        return None


def state_text(state: SecureBoot | None) -> str:
    """The state of Secure Boot in words."""
    if state is None:
        return "a signature database is damaged"
    if state.setup_mode:
        return "off, in setup mode (no platform key)"
    return "on" if state.enforced else "off, although there is a platform key"
