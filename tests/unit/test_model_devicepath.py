"""Device paths: bytes, nodes and text."""

import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model import devicepath

GUID = UUID("a59c1a50-5d1c-4d0f-9d1a-3f2b8f6a7c51")
END = bytes.fromhex("7fff0400")


def node(kind: int, subtype: int, data: bytes) -> bytes:
    """One node's bytes."""
    return struct.pack("<BBH", kind, subtype, 4 + len(data)) + data


def hd(number: int = 1, start: int = 0x4000, sectors: int = 0x80000) -> bytes:
    """A partition of a GPT disk."""
    return node(4, 1, struct.pack("<IQQ16sBB", number, start, sectors, GUID.bytes_le, 2, 2))


def file(path: str) -> bytes:
    """A file's node."""
    return node(4, 4, f"{path}\0".encode("utf-16-le"))


def text(data: bytes) -> str:
    """The text of the path that ends where ``data`` does."""
    return devicepath.to_text(devicepath.parse(data + END))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            hd() + file("\\EFI\\systemd\\systemd-bootx64.efi"),
            f"HD(1,GPT,{GUID},0x4000,0x80000)/File(\\EFI\\systemd\\systemd-bootx64.efi)",
        ),
        (
            node(4, 1, struct.pack("<IQQ4s12xBB", 2, 63, 100, b"\xef\xbe\xad\xde", 1, 1)),
            "HD(2,MBR,0xdeadbeef,0x3f,0x64)",
        ),
        (node(2, 1, bytes.fromhex("d041030a00000000")) + node(1, 1, b"\x02\x1f"), "PciRoot(0x0)/Pci(0x1f,0x2)"),
        (node(2, 1, bytes.fromhex("d041080a01000000")), "PcieRoot(0x1)"),
        (node(2, 1, bytes.fromhex("d041030300000000")), "Acpi(PNP0303,0x0)"),
        (node(2, 1, bytes.fromhex("0102030400000000")), "Acpi(0x04030201,0x0)"),
        (node(3, 14, struct.pack("<IQBBB", 0, 115200, 8, 1, 1)), "Uart(115200,8,N,1)"),
        (node(3, 10, UUID("e0c14753-f9be-11d2-9a0c-0090273fc14d").bytes_le), "VenPcAnsi()"),
        (node(3, 10, GUID.bytes_le + b"\x01\x02"), f"VenMsg({GUID},0102)"),
        (node(4, 7, GUID.bytes_le) + node(4, 6, GUID.bytes_le), f"Fv({GUID})/FvFile({GUID})"),
        (node(3, 18, struct.pack("<HHH", 0, 0xFFFF, 0)), "Sata(0x0,0xffff,0x0)"),
        (node(3, 2, struct.pack("<HH", 1, 0)), "Scsi(0x1,0x0)"),
        (node(3, 23, struct.pack("<I8s", 1, bytes(range(8)))), "NVMe(0x1,07-06-05-04-03-02-01-00)"),
        (node(3, 11, struct.pack("<32sB", bytes.fromhex("525400123456"), 1)), "MAC(525400123456,0x1)"),
        (node(3, 24, b"http://example.org/x"), "Uri(http://example.org/x)"),
        (node(9, 3, b"\xab\xcd"), "Path(9,3,abcd)"),
        (node(4, 1, b"too short"), f"Path(4,1,{b'too short'.hex()})"),
        (node(1, 1, b"\x01\x02") + bytes.fromhex("7f010400") + node(1, 1, b"\x03\x04"), "Pci(0x2,0x1),Pci(0x4,0x3)"),
    ],
)
def test_text_of_known_nodes(data: bytes, expected: str) -> None:
    """Known nodes read as in UEFI 2.10, section 10.6.1; others show type, subtype and bytes."""
    assert text(data) == expected


def test_partition_and_file_of_a_boot_path() -> None:
    """A boot entry's partition and file are found, also behind the nodes of a full path."""
    (nodes,) = devicepath.parse(node(1, 1, b"\x00\x01") + hd() + file("\\EFI\\") + file("a.efi") + END)
    assert devicepath.hard_drive(nodes) == devicepath.HardDrive(number=1, start=0x4000, sectors=0x80000, guid=GUID)
    assert devicepath.file_path(nodes) == "\\EFI\\a.efi"


def test_path_without_partition_or_file() -> None:
    """A path into the firmware's own volume names neither."""
    (nodes,) = devicepath.parse(node(4, 7, GUID.bytes_le) + END)
    assert devicepath.hard_drive(nodes) is None
    assert not devicepath.file_path(nodes)


def test_partition_of_an_mbr_disk_has_no_guid() -> None:
    """An MBR signature is not taken for a partition's GUID."""
    (nodes,) = devicepath.parse(node(4, 1, struct.pack("<IQQ16sBB", 1, 2, 3, GUID.bytes_le, 1, 1)) + END)
    drive = devicepath.hard_drive(nodes)
    assert drive is not None
    assert drive.guid is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no end"),
        (hd(), "has no end"),
        (hd()[:-1], "impossible length"),
        (b"\x04\x01\x03\x00", "impossible length"),
        (b"\x04\x01", "cut off"),
        (END + b"\0", "follow the end"),
    ],
)
def test_damaged_paths_are_refused(data: bytes, message: str) -> None:
    """A chain that is cut off, has impossible lengths, no end, or something behind its end is no device path."""
    with pytest.raises(ValueError, match=message):
        devicepath.parse(data)


KINDS = st.sampled_from(sorted(devicepath._TEXTS)) | st.tuples(st.integers(0, 0x7E), st.integers(0, 255))
NODES = st.tuples(KINDS, st.binary(max_size=60)).map(lambda item: node(*item[0], item[1]))


@given(st.lists(NODES))
def test_any_chain_of_nodes_has_a_text(nodes: list[bytes]) -> None:
    """Whatever a known or unknown node holds, the path has a text, and looking for partition and file never fails."""
    (instance,) = devicepath.parse(b"".join(nodes) + END)
    assert len(instance) == len(nodes)
    assert isinstance(devicepath.to_text((instance,)), str)
    devicepath.hard_drive(instance)
    devicepath.file_path(instance)


@given(st.binary() | st.lists(NODES).map(b"".join))
def test_garbage_is_refused_as_a_value(data: bytes) -> None:
    """Bytes that are no device path raise ValueError and nothing else."""
    try:
        instances = devicepath.parse(data)
    except ValueError:
        return
    assert data.endswith(END)
    assert len(devicepath.to_text(instances)) >= len(instances) - 1
