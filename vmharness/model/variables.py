"""EFI variables as values, and what the known ones say (UEFI 2.10, section 3.3; systemd's Boot Loader Interface)."""

from __future__ import annotations

import re
import struct
from typing import Any
from uuid import UUID

from attrs import frozen

from vmharness.model import devicepath

GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
LOADER = UUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")  # https://systemd.io/BOOT_LOADER_INTERFACE/

# What no two machines may share: systemd-boot and the kernel take entropy from it.
SECRETS = ("LoaderSystemToken",)

_ATTRIBUTES = (
    (0x01, "non-volatile"),
    (0x02, "boot-service"),
    (0x04, "runtime"),
    (0x08, "hardware-error-record"),
    (0x10, "authenticated"),
    (0x20, "time-based-authenticated"),
    (0x40, "append-write"),
)
_OPTION = re.compile(r"(Boot|Driver|SysPrep)[0-9A-F]{4}")
_ORDERS = {"BootOrder": "Boot", "DriverOrder": "Driver", "SysPrepOrder": "SysPrep"}
_ASCII = {"PlatformLang", "PlatformLangCodes", "Lang", "LangCodes"}
_CONSOLES = {"ConIn", "ConOut", "ErrOut", "ConInDev", "ConOutDev", "ErrOutDev"}
_FLAGS = {"SecureBoot", "SetupMode", "AuditMode", "DeployedMode", "VendorKeys"}
_LOADER_NUMBERS = {"LoaderFeatures", "StubFeatures"}
_LOADER_BYTES = {"LoaderSystemToken", "LoaderRandomSeed"}


@frozen(kw_only=True)
class EfiVariable:
    """One variable.

    :param attributes: the attribute bits.
    :param time: the time stamp of a time-based authenticated variable, 16 bytes as stored; empty without one.
    """

    name: str
    guid: UUID
    attributes: int
    data: bytes
    time: bytes = b""

    def attribute_names(self) -> list[str]:
        """The attributes' names; bits without one are left out."""
        return [name for bit, name in _ATTRIBUTES if self.attributes & bit]


@frozen(kw_only=True)
class VariableStore:
    """A variable store's contents.

    :param variables: in the order of the store.
    :param size: bytes of the file: the firmware's size class (131,072 or 540,672 for OVMF).
    :param capacity: bytes that variables can take.
    :param used: bytes taken, those of deleted variables that wait for reclaim included.
    """

    variables: tuple[EfiVariable, ...]
    size: int
    capacity: int
    used: int

    def get(self, name: str, guid: UUID = GLOBAL) -> EfiVariable | None:
        """The variable of that name and vendor, or None."""
        return next((item for item in self.variables if (item.name, item.guid) == (name, guid)), None)

    def boot_order(self) -> tuple[int, ...]:
        """The numbers of ``BootOrder``, in order; empty without the variable.

        :raises ValueError: it is damaged.
        """
        order = self.get("BootOrder")
        return _words(order.data) if order else ()

    def load_option(self, number: int) -> LoadOption | None:
        """The boot entry ``Boot####`` of that number, or None.

        :raises ValueError: it is damaged.
        """
        entry = self.get(f"Boot{number:04X}")
        return LoadOption.parse(entry.data) if entry else None


@frozen(kw_only=True)
class LoadOption:
    """A boot entry (``EFI_LOAD_OPTION``, UEFI 2.10, section 3.1.3).

    :param attributes: the option's own attribute bits.
    :param description: what the boot menu shows.
    :param path: the device paths; the first one is what is booted.
    :param optional_data: what the loaded image is handed.
    """

    attributes: int
    description: str
    path: tuple[devicepath.Instance, ...]
    optional_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> LoadOption:
        """The entry from its bytes.

        :raises ValueError: with a sentence, if they are damaged.
        """
        if len(data) < 8:
            raise ValueError("a boot entry of fewer than 8 bytes")
        attributes, path_length = struct.unpack_from("<IH", data)
        end = next((at for at in range(6, len(data) - 1, 2) if data[at : at + 2] == b"\0\0"), None)
        if end is None:
            raise ValueError("the boot entry's description has no end")
        path = data[end + 2 : end + 2 + path_length]
        if len(path) < path_length:
            raise ValueError("the boot entry's device path is cut off")
        return cls(
            attributes=attributes,
            description=data[6:end].decode("utf-16-le", "replace"),
            path=devicepath.parse(path),
            optional_data=data[end + 2 + path_length :],
        )

    @property
    def active(self) -> bool:
        """Whether the firmware may boot it (``LOAD_OPTION_ACTIVE``)."""
        return bool(self.attributes & 0x1)

    @property
    def hidden(self) -> bool:
        """Whether the boot menu leaves it out (``LOAD_OPTION_HIDDEN``)."""
        return bool(self.attributes & 0x8)

    @property
    def application(self) -> bool:
        """Whether it is a tool that is never booted by itself (``LOAD_OPTION_CATEGORY_APP``), as the setup menu is."""
        return self.attributes & 0x1F00 == 0x100

    @property
    def target(self) -> devicepath.Instance:
        """The device path of what is booted."""
        return self.path[0]


@frozen(kw_only=True)
class VariableRecord:
    """A decoded variable, as the manifest and ``inspect`` show it.

    :param kind: what ``value`` is: ``boot-entry`` (a table), ``order`` (a list of entries' names), ``entry`` (a name),
        ``number``, ``flag``, ``text``, ``device-path``, ``bytes`` (hexadecimal), or ``damaged`` (hexadecimal, and why).
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
        return "order", [f"{_ORDERS[name]}{number:04X}" for number in _words(data)]
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
        (flag,) = struct.unpack("<B", data)
        return "flag", bool(flag)
    if name == "Timeout" or name.startswith("OsIndications") or name == "BootOptionSupport":
        return "number", int.from_bytes(data, "little")
    return "bytes", data.hex()


def _entry_table(option: LoadOption) -> dict[str, Any]:
    return {
        "description": option.description,
        "active": option.active,
        "hidden": option.hidden,
        "application": option.application,
        "path": devicepath.to_text(option.path),
        "optional_data": option.optional_data.hex(),
    }


def _words(data: bytes) -> tuple[int, ...]:
    if len(data) % 2:
        raise ValueError("an order of an odd number of bytes")
    return struct.unpack(f"<{len(data) // 2}H", data)
