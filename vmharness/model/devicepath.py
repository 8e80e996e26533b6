"""UEFI device paths: bytes, nodes, and their text (UEFI 2.10, chapter 10)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from uuid import UUID

from attrs import frozen

_END = 0x7F
_END_ENTIRE = 0xFF
_VENDOR_TERMINALS = {
    UUID("e0c14753-f9be-11d2-9a0c-0090273fc14d"): "VenPcAnsi()",
    UUID("dfa66065-b419-11d3-9a2d-0090273fc14d"): "VenVt100()",
    UUID("7baec70b-57e0-4c76-8e87-2f9e28088343"): "VenVt100Plus()",
    UUID("ad15a0d6-8bec-4acf-a073-d01de77e2d88"): "VenUtf8()",
}
_ACPI_NAMES = {0x0A03: "PciRoot", 0x0A08: "PcieRoot", 0x0604: "Floppy", 0x0301: "Keyboard", 0x0501: "Serial"}


@frozen(kw_only=True)
class Node:
    """One node of a device path: type, subtype and what follows its four-byte header."""

    type: int
    subtype: int
    data: bytes

    def __str__(self) -> str:
        """The node's text; one that is unknown or of an odd length reads ``Path(type,subtype,hexadecimal)``."""
        try:
            return _TEXTS[self.type, self.subtype](self.data)
        except (KeyError, ValueError, struct.error):
            return f"Path({self.type},{self.subtype},{self.data.hex()})"


@frozen(kw_only=True)
class HardDrive:
    """A partition as a boot entry names it.

    :param number: 1-based.
    :param start: first sector.
    :param sectors: length.
    :param guid: the partition's GUID, or None on an MBR disk.
    """

    number: int
    start: int
    sectors: int
    guid: UUID | None


Instance = tuple[Node, ...]


def parse(data: bytes) -> tuple[Instance, ...]:
    """The instances of a device path, each a chain of nodes; most have one, a console variable has several.

    :raises ValueError: the chain is cut off, or does not end where the bytes end.
    """
    instances: list[Instance] = []
    nodes: list[Node] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise ValueError(f"the device path is cut off at byte {at}")
        kind, subtype, length = struct.unpack_from("<BBH", data, at)
        if length < 4 or at + length > len(data):
            raise ValueError(f"the device path node at byte {at} has the impossible length {length}")
        node = Node(type=kind, subtype=subtype, data=data[at + 4 : at + length])
        at += length
        if kind != _END:
            nodes.append(node)
            continue
        instances.append(tuple(nodes))
        nodes = []
        if subtype == _END_ENTIRE:
            if at != len(data):
                raise ValueError(f"{len(data) - at} bytes follow the end of the device path")
            return tuple(instances)
    raise ValueError("the device path has no end")


def to_bytes(instances: tuple[Instance, ...]) -> bytes:
    """The bytes of a device path; what :func:`parse` takes apart."""
    ends = [_node(_END, 1)] * (len(instances) - 1) + [_node(_END, _END_ENTIRE)]
    chains = (b"".join(_node(node.type, node.subtype, node.data) for node in nodes) for nodes in instances)
    return b"".join(chain + end for chain, end in zip(chains, ends, strict=True))


def to_file(number: int, start: int, sectors: int, identity: UUID | int, path: str) -> Instance:
    r"""The short path to a file of a partition, as boot entries have it (UEFI 2.10, section 3.1.2).

    :param number: of the partition, 1-based.
    :param start: its first sector.
    :param sectors: its length.
    :param identity: the partition's GUID, or the 32-bit identifier of an MBR disk.
    :param path: such as ``\EFI\BOOT\BOOTX64.EFI``.
    """
    form = 1 if isinstance(identity, int) else 2
    signature = identity.to_bytes(16, "little") if isinstance(identity, int) else identity.bytes_le
    drive = struct.pack("<IQQ16sBB", number, start, sectors, signature, form, form)
    name = "\\" + path.replace("/", "\\").lstrip("\\")
    return Node(type=4, subtype=1, data=drive), Node(type=4, subtype=4, data=f"{name}\0".encode("utf-16-le"))


def to_text(instances: tuple[Instance, ...]) -> str:
    """The text of a device path: nodes with slashes between, instances with commas between."""
    return ",".join("/".join(map(str, nodes)) for nodes in instances)


def hard_drive(nodes: Instance) -> HardDrive | None:
    """The partition that a device path goes through, if it does."""
    for node in nodes:
        if (node.type, node.subtype) == (4, 1) and len(node.data) == 38:
            number, start, sectors = struct.unpack_from("<IQQ", node.data)
            guid = UUID(bytes_le=node.data[20:36]) if node.data[37] == 2 else None
            return HardDrive(number=number, start=start, sectors=sectors, guid=guid)
    return None


def file_path(nodes: Instance) -> str:
    r"""The file that a device path ends in, such as ``\EFI\BOOT\BOOTX64.EFI``; empty if it names none."""
    return "".join(_utf16(node.data) for node in nodes if (node.type, node.subtype) == (4, 4))


def _node(kind: int, subtype: int, data: bytes = b"") -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(data)) + data


def _utf16(data: bytes) -> str:
    return data.decode("utf-16-le", "replace").split("\0", 1)[0]


def _guid(data: bytes) -> str:
    return str(UUID(bytes_le=data))


def _acpi(data: bytes) -> str:
    hid, uid = struct.unpack("<II", data)
    if hid & 0xFFFF != 0x41D0:  # not a compressed "PNP" identifier
        return f"Acpi({hid:#010x},{uid:#x})"
    name = _ACPI_NAMES.get(hid >> 16)
    return f"{name}({uid:#x})" if name else f"Acpi(PNP{hid >> 16:04X},{uid:#x})"


def _pci(data: bytes) -> str:
    function, device = struct.unpack("<BB", data)
    return f"Pci({device:#x},{function:#x})"


def _vendor(name: str) -> Callable[[bytes], str]:
    def text(data: bytes) -> str:
        guid = UUID(bytes_le=data[:16])
        rest = f",{data[16:].hex()}" if data[16:] else ""
        return _VENDOR_TERMINALS.get(guid) or f"{name}({guid}{rest})"

    return text


def _uart(data: bytes) -> str:
    _reserved, baud, bits, parity, stop = struct.unpack("<IQBBB", data)
    letter = dict(enumerate("DNEOMS")).get(parity, str(parity))
    stops = dict(enumerate(("D", "1", "1.5", "2"))).get(stop, str(stop))
    return f"Uart({baud},{bits},{letter},{stops})"


def _mac(data: bytes) -> str:
    address, kind = struct.unpack("<32sB", data)
    return f"MAC({address[:6].hex() if kind in {0, 1} else address.hex()},{kind:#x})"


def _numbers(name: str, form: str) -> Callable[[bytes], str]:
    """A node that is just numbers: all of them, in hexadecimal."""

    def text(data: bytes) -> str:
        return f"{name}({','.join(f'{value:#x}' for value in struct.unpack(form, data))})"

    return text


def _nvme(data: bytes) -> str:
    namespace, eui = struct.unpack("<I8s", data)
    return f"NVMe({namespace:#x},{'-'.join(f'{byte:02X}' for byte in reversed(eui))})"


def _hard_drive(data: bytes) -> str:
    number, start, sectors, signature, form, kind = struct.unpack("<IQQ16sBB", data)
    name = {1: "MBR", 2: "GPT"}.get(form, str(form))
    identity = {1: f"{int.from_bytes(signature[:4], 'little'):#010x}", 2: _guid(signature)}.get(kind, "0")
    return f"HD({number},{name},{identity},{start:#x},{sectors:#x})"


_TEXTS: dict[tuple[int, int], Callable[[bytes], str]] = {
    (1, 1): _pci,
    (1, 4): _vendor("VenHw"),
    (1, 5): _numbers("Ctrl", "<I"),
    (2, 1): _acpi,
    (3, 2): _numbers("Scsi", "<HH"),
    (3, 5): _numbers("USB", "<BB"),
    (3, 10): _vendor("VenMsg"),
    (3, 11): _mac,
    (3, 14): _uart,
    (3, 15): _numbers("UsbClass", "<HHBBB"),
    (3, 18): _numbers("Sata", "<HHH"),
    (3, 23): _nvme,
    (3, 24): lambda data: f"Uri({data.decode('utf-8', 'backslashreplace')})",
    (4, 1): _hard_drive,
    (4, 2): _numbers("CDROM", "<IQQ"),
    (4, 3): _vendor("VenMedia"),
    (4, 4): lambda data: f"File({_utf16(data)})",
    (4, 6): lambda data: f"FvFile({_guid(data)})",
    (4, 7): lambda data: f"Fv({_guid(data)})",
}
