"""What known EFI variables say, as JSON values and as text for people."""

from __future__ import annotations

import re
import struct
from typing import Any

from attrs import frozen

from vmharness.model import devicepath, signatures
from vmharness.model.signatures import CUSTOM_MODE, SECURE_BOOT_ENABLE
from vmharness.model.text import printable
from vmharness.model.variables import GLOBAL, LOADER, EfiVariable, LoadOption, words

_OPTION = re.compile(r"(Boot|Driver|SysPrep)[0-9A-F]{4}")
_ORDERS = {"BootOrder": "Boot", "DriverOrder": "Driver", "SysPrepOrder": "SysPrep"}
_ASCII = {"PlatformLang", "PlatformLangCodes", "Lang", "LangCodes"}
_CONSOLES = {"ConIn", "ConOut", "ErrOut", "ConInDev", "ConOutDev", "ErrOutDev"}
_FLAGS = {"SecureBoot", "SetupMode", "AuditMode", "DeployedMode", "VendorKeys"}
_NUMBERS = {"Timeout", "BootOptionSupport"}
_KEYS = {("PK", GLOBAL), ("KEK", GLOBAL)} | {
    *((name, signatures.IMAGE_SECURITY) for name in ("db", "dbx", "dbt", "dbr")),
    *((name, signatures.SHIM) for name in ("MokList", "MokListX")),
}
_LOADER_NUMBERS = {"LoaderFeatures", "StubFeatures"}
_LOADER_BYTES = {"LoaderSystemToken", "LoaderRandomSeed"}


@frozen(kw_only=True)
class VariableRecord:
    """A decoded variable, as the manifest and ``inspect`` show it.

    :param kind: what ``value`` is: ``boot-entry`` (a table), ``order`` (a list of entries' names), ``entry`` (a name),
        ``number``, ``flag``, ``text``, ``device-path``, ``keys`` (a list of tables), ``bytes`` (hexadecimal), or
        ``damaged`` (hexadecimal, and why).
    :param size: bytes of its data.
    :param value: a JSON value.
    """

    name: str
    guid: str
    attributes: list[str]
    kind: str
    size: int
    value: Any


def decode(variable: EfiVariable) -> VariableRecord:
    """What a variable says. Bytes that a known variable cannot hold give the kind ``damaged``, never an exception."""
    try:
        kind, value = _decode(variable)
    except (ValueError, struct.error) as error:
        kind, value = "damaged", {"why": str(error), "hex": variable.data.hex()}
    return VariableRecord(
        name=variable.name,
        guid=str(variable.guid),
        attributes=variable.attribute_names(),
        kind=kind,
        size=len(variable.data),
        value=value,
    )


def _decode(variable: EfiVariable) -> tuple[str, Any]:
    if (variable.name, variable.guid) in _KEYS:
        return "keys", [_key_table(key) for key in signatures.parse(variable.data)]
    if (variable.name, variable.guid) in {SECURE_BOOT_ENABLE, CUSTOM_MODE}:
        return "flag", _flag(variable.data)
    if variable.guid == GLOBAL:
        return _decode_global(variable.name, variable.data)
    if variable.guid == LOADER and variable.name in _LOADER_NUMBERS:
        return "number", int.from_bytes(variable.data, "little")
    if variable.guid == LOADER and variable.name not in _LOADER_BYTES:
        # A list, such as LoaderEntries, has a NUL after each of its texts.
        texts = variable.data.decode("utf-16-le").removesuffix("\0").split("\0")
        return "text", texts if len(texts) > 1 else texts[0]
    return "bytes", variable.data.hex()


def _decode_global(name: str, data: bytes) -> tuple[str, Any]:  # noqa: PLR0911 -- one return for each kind
    if name in _ORDERS:
        return "order", [f"{_ORDERS[name]}{number:04X}" for number in words(data)]
    if name in {"BootNext", "BootCurrent"}:
        (number,) = struct.unpack("<H", data)
        return "entry", f"Boot{number:04X}"
    if _OPTION.fullmatch(name):
        return "boot-entry", _entry_table(LoadOption.parse(data))
    if name in _CONSOLES:
        return "device-path", devicepath.to_text(devicepath.parse(data))
    if name in _ASCII:
        return "text", data.decode("ascii").removesuffix("\0")
    if name in _FLAGS:
        return "flag", _flag(data)
    if name in _NUMBERS or name.startswith("OsIndications"):
        return "number", int.from_bytes(data, "little")
    return "bytes", data.hex()


def _entry_table(option: LoadOption) -> dict[str, Any]:
    return {
        "description": option.description,
        "active": option.active,
        "hidden": option.hidden,
        "application": option.application,
        "automatic": option.automatic,
        "path": devicepath.to_text(option.path),
        "optional_data": option.optional_data.hex(),
    }


def _flag(data: bytes) -> bool:
    (flag,) = struct.unpack("<B", data)
    return bool(flag)


def _key_table(key: signatures.Signature) -> dict[str, Any]:
    return {"kind": key.kind, "owner": str(key.owner), "subject": key.subject, "fingerprint": key.fingerprint}


def to_text(record: VariableRecord) -> str:
    """What a variable says, on one line for people; what a guest wrote in it is shown without control characters."""
    match record.kind:
        case "boot-entry":
            text = f"{record.value['description']}{_marks(record.value)}: {record.value['path']}"
        case "order":
            text = ", ".join(record.value)
        case "keys":
            text = ", ".join(key["subject"] or f"{key['kind']} {key['fingerprint'][:16]}..." for key in record.value)
        case "bytes":
            text = f"{record.size} bytes {record.value[:32]}{'...' if record.size > 16 else ''}"
        case "damaged":
            text = f"damaged: {record.value['why']}"
        case _:
            text = str(record.value)
    return printable(text)


def _marks(entry: dict[str, Any]) -> str:
    marks = [] if entry["active"] else ["inactive"]
    marks += [mark for mark in ("hidden", "application", "automatic") if entry[mark]]
    return "".join(f", {mark}" for mark in marks)
