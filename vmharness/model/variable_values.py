"""Known EFI variables made from what a person writes, such as ``BootOrder`` from ``0003,0001``."""

from __future__ import annotations

import re
import struct

from vmharness.model.variables import GLOBAL, LOADER, EfiVariable

ATTRIBUTES = 0x07
"""Those of everything that an operating system sets: non-volatile, boot service, runtime (UEFI 2.10, table 3.1)."""

_ORDERS = ("BootOrder", "DriverOrder", "SysPrepOrder")
_ENTRIES = ("BootNext",)
_NUMBERS = {"Timeout": "<H", "OsIndications": "<Q"}
# What bootctl sets (systemd's Boot Loader Interface, https://systemd.io/BOOT_LOADER_INTERFACE/)
_LOADER_TEXTS = (
    "LoaderEntryOneShot",
    "LoaderEntryDefault",
    "LoaderEntryPreferred",
    "LoaderEntrySysFail",
    "LoaderConfigTimeout",
    "LoaderConfigTimeoutOneShot",
    "LoaderConfigConsoleMode",
)
KNOWN = (*_ORDERS, *_ENTRIES, *_NUMBERS, *_LOADER_TEXTS)
"""The variables that can be made from text."""

_ENTRY = re.compile(r"(?:Boot|Driver|SysPrep)?([0-9A-Fa-f]{4})")


def from_text(name: str, text: str) -> EfiVariable:
    """The variable ``name`` that says ``text``.

    Orders and ``BootNext`` take entries as ``0003`` or ``Boot0003``, orders several with commas between; ``Timeout``
    takes seconds, ``OsIndications`` a number (``0x1`` enters the firmware's menu), the loader's variables any text.

    :raises ValueError: with a sentence, for another name or another text.
    """
    if name in _ORDERS:
        numbers = [_number(part.strip()) for part in text.split(",")] if text else []
        return _variable(name, struct.pack(f"<{len(numbers)}H", *numbers))
    if name in _ENTRIES:
        return _variable(name, struct.pack("<H", _number(text)))
    if name in _NUMBERS:
        try:
            return _variable(name, struct.pack(_NUMBERS[name], int(text, 0)))
        except (ValueError, struct.error) as error:
            raise ValueError(f"{text!r} is no number that {name} can hold") from error
    if name in _LOADER_TEXTS:
        data = f"{text}\0".encode("utf-16-le")
        return EfiVariable(name=name, guid=LOADER, attributes=ATTRIBUTES, data=data)
    raise ValueError(f"{name} is none of the variables that can be made from text: {', '.join(KNOWN)}")


def _variable(name: str, data: bytes) -> EfiVariable:
    return EfiVariable(name=name, guid=GLOBAL, attributes=ATTRIBUTES, data=data)


def _number(text: str) -> int:
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no entry; they have four hexadecimal digits, such as 0003 or Boot0003")
    return int(match[1], 16)
