"""EFI variables as values, and what the known ones say (UEFI 2.10, section 3.3; systemd's Boot Loader Interface)."""

from __future__ import annotations

import re
import struct
from uuid import UUID

from attrs import frozen

from vmharness.model import devicepath

GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
LOADER = UUID("4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")  # https://systemd.io/BOOT_LOADER_INTERFACE/

ENTRY = re.compile(r"Boot([0-9A-F]{4})")
"""The name of a boot entry; firmware takes capital letters only (UEFI 2.10, section 3.3)."""

# What no two machines may share: systemd-boot and the kernel take entropy from it.
SECRETS = ("LoaderSystemToken",)

# edk2, UefiBootManagerLib: marks the entries that the firmware makes for disks, and removes with them.
_AUTOMATIC = UUID("8108ac4e-9f11-4d59-850e-e21a522c59b2").bytes_le

_ATTRIBUTES = (
    (0x01, "non-volatile"),
    (0x02, "boot-service"),
    (0x04, "runtime"),
    (0x08, "hardware-error-record"),
    (0x10, "authenticated"),
    (0x20, "time-based-authenticated"),
    (0x40, "append-write"),
)


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
class Variables:
    """Variables of a machine: those of a store, or those that a running system shows.

    :param variables: in the order of the store.
    """

    variables: tuple[EfiVariable, ...]

    def get(self, name: str, guid: UUID = GLOBAL) -> EfiVariable | None:
        """The variable of that name and vendor, or None."""
        return next((item for item in self.variables if (item.name, item.guid) == (name, guid)), None)

    def boot_order(self) -> tuple[int, ...]:
        """The numbers of ``BootOrder``, in order; empty without the variable.

        :raises ValueError: it is damaged.
        """
        order = self.get("BootOrder")
        return words(order.data) if order else ()

    def boot_entries(self) -> dict[int, LoadOption]:
        """Every boot entry ``Boot####`` by its number, whether ``BootOrder`` names it or not.

        :raises ValueError: one is damaged.
        """
        names = {item.name: item.data for item in self.variables if item.guid == GLOBAL}
        found = ((ENTRY.fullmatch(name), data) for name, data in sorted(names.items()))
        return {int(match[1], 16): LoadOption.parse(data) for match, data in found if match}

    def boot_next(self) -> int | None:
        """The number of the entry that is booted next time, and only then; None without one.

        :raises ValueError: it is damaged.
        """
        return self._number("BootNext")

    def boot_current(self) -> int | None:
        """The number of the entry that a running system was booted from; a store does not hold it.

        :raises ValueError: it is damaged.
        """
        return self._number("BootCurrent")

    def loader_text(self, name: str) -> str | None:
        """A text of the loader interface, such as ``LoaderEntrySelected`` or ``LoaderInfo``; None without it."""
        found = self.get(name, LOADER)
        return found.data.decode("utf-16-le", "replace").removesuffix("\0") if found else None

    def _number(self, name: str) -> int | None:
        found = self.get(name)
        if found is None:
            return None
        numbers = words(found.data)
        if len(numbers) != 1:
            raise ValueError(f"{name} holds {len(found.data)} bytes instead of 2")
        return numbers[0]

    def load_option(self, number: int) -> LoadOption | None:
        """The boot entry ``Boot####`` of that number, or None.

        :raises ValueError: it is damaged.
        """
        entry = self.get(f"Boot{number:04X}")
        return LoadOption.parse(entry.data) if entry else None


@frozen(kw_only=True)
class VariableStore(Variables):
    """A variable store's contents.

    :param size: bytes of the file: the firmware's size class (131,072 or 540,672 for OVMF).
    :param capacity: bytes that variables can take.
    :param used: bytes taken, those of deleted variables that wait for reclaim included.
    """

    size: int
    capacity: int
    used: int


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

    def to_bytes(self) -> bytes:
        """The entry's bytes; what :meth:`parse` takes apart."""
        path = devicepath.to_bytes(self.path)
        head = struct.pack("<IH", self.attributes, len(path))
        return head + f"{self.description}\0".encode("utf-16-le") + path + self.optional_data

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
    def automatic(self) -> bool:
        """Whether the firmware makes it by itself: for a disk without an entry, or for its own menu and shell."""
        own = any((node.type, node.subtype) == (4, 6) for node in self.target)  # a file of a firmware volume
        return own or self.optional_data == _AUTOMATIC

    @property
    def target(self) -> devicepath.Instance:
        """The device path of what is booted."""
        return self.path[0]


def words(data: bytes) -> tuple[int, ...]:
    """The numbers of an order, such as ``BootOrder``: 16 bits each.

    :raises ValueError: an odd number of bytes.
    """
    if len(data) % 2:
        raise ValueError("an order of an odd number of bytes")
    return struct.unpack(f"<{len(data) // 2}H", data)
