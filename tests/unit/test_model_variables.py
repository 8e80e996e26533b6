"""EFI variables: what they say."""

import struct
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.variable_records import decode
from vmharness.model.variables import GLOBAL, LOADER, EfiVariable, LoadOption, VariableStore

OTHER = UUID(int=7)
FILE_PATH = bytes.fromhex("0404080061000000 7fff0400")
"""The device path ``File(a)``."""


def option(
    description: str = "Linux Boot Manager", attributes: int = 1, path: bytes = FILE_PATH, rest: bytes = b""
) -> bytes:
    """A boot entry's bytes."""
    return struct.pack("<IH", attributes, len(path)) + f"{description}\0".encode("utf-16-le") + path + rest


def variable(name: str, data: bytes, guid: UUID = GLOBAL) -> EfiVariable:
    """A variable of the usual attributes."""
    return EfiVariable(name=name, guid=guid, attributes=7, data=data)


def entry(**changes: Any) -> dict[str, Any]:
    """A boot entry as ``decode`` shows it."""
    return {
        "description": "Linux Boot Manager",
        "active": True,
        "hidden": False,
        "application": False,
        "automatic": False,
        "path": "File(a)",
        "optional_data": "",
        **changes,
    }


@pytest.mark.parametrize(
    ("name", "guid", "data", "kind", "value"),
    [
        ("BootOrder", GLOBAL, b"\x03\x00\x1f\x00", "order", ["Boot0003", "Boot001F"]),
        ("BootOrder", GLOBAL, b"", "order", []),
        ("DriverOrder", GLOBAL, b"\x03\x00", "order", ["Driver0003"]),
        ("BootNext", GLOBAL, b"\x0a\x00", "entry", "Boot000A"),
        ("BootCurrent", GLOBAL, b"\x01\x00", "entry", "Boot0001"),
        ("Boot0001", GLOBAL, option(), "boot-entry", entry()),
        ("Boot0001", GLOBAL, option(attributes=0x109), "boot-entry", entry(hidden=True, application=True)),
        ("Boot0001", GLOBAL, option(attributes=0, rest=b"\xab"), "boot-entry", entry(active=False, optional_data="ab")),
        ("Boot000g", GLOBAL, b"\x01", "bytes", "01"),
        ("Timeout", GLOBAL, b"\x05\x00", "number", 5),
        ("OsIndications", GLOBAL, b"\x01" + bytes(7), "number", 1),
        ("PlatformLang", GLOBAL, b"en-US\0", "text", "en-US"),
        ("SecureBoot", GLOBAL, b"\x01", "flag", True),
        ("ConOut", GLOBAL, FILE_PATH, "device-path", "File(a)"),
        ("LoaderEntrySelected", LOADER, "debian.conf\0".encode("utf-16-le"), "text", "debian.conf"),
        ("LoaderEntries", LOADER, "a\0b\0".encode("utf-16-le"), "text", ["a", "b"]),
        ("LoaderFeatures", LOADER, b"\xff" + bytes(7), "number", 255),
        ("LoaderSystemToken", LOADER, b"ab", "bytes", "6162"),
        ("BootOrder", OTHER, b"\x03\x00", "bytes", "0300"),
    ],
)
def test_known_variables(name: str, guid: UUID, data: bytes, kind: str, value: Any) -> None:
    """A known variable shows what it says; an unknown one, or one of another vendor, its bytes."""
    record = decode(variable(name, data, guid))
    assert (record.name, record.guid, record.size) == (name, str(guid), len(data))
    assert (record.kind, record.value) == (kind, value)
    assert record.attributes == ["non-volatile", "boot-service", "runtime"]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("BootOrder", b"\x01", "odd number"),
        ("BootNext", b"\x01", "requires a buffer"),
        ("Boot0000", b"", "fewer than 8 bytes"),
        ("Boot0000", option()[:9], "no end"),
        ("Boot0000", option()[:-1], "cut off"),
        ("Boot0000", option(path=b"\x04\x04\x09\x00"), "impossible length"),
        ("ConIn", b"\x01", "cut off"),
        ("PlatformLang", b"\xff", "ascii"),
    ],
)
def test_damaged_variables_say_why(name: str, data: bytes, why: str) -> None:
    """A known variable that holds something else is shown as damaged, with the reason and its bytes."""
    record = decode(variable(name, data))
    assert record.kind == "damaged"
    assert why in record.value["why"]
    assert record.value["hex"] == data.hex()


NAMES = st.sampled_from(
    ["BootOrder", "BootNext", "Boot0000", "ConIn", "Lang", "SecureBoot", "Timeout", "LoaderInfo", "x"]
)


@given(NAMES, st.sampled_from([GLOBAL, LOADER, OTHER]), st.binary() | st.binary().map(lambda data: option(path=data)))
def test_decoding_never_fails(name: str, guid: UUID, data: bytes) -> None:
    """Whatever a variable holds, it can be shown."""
    assert decode(variable(name, data, guid)).size == len(data)


@given(st.binary())
def test_garbage_is_no_load_option(data: bytes) -> None:
    """Bytes that are no boot entry raise ValueError and nothing else."""
    try:
        parsed = LoadOption.parse(data)
    except ValueError:
        return
    assert len(parsed.description) * 2 <= len(data)


def test_store_finds_variables_by_name_and_vendor() -> None:
    """Two vendors may use one name; boot entries are the global vendor's."""
    mine, other = variable("Boot0003", option()), variable("Boot0003", b"x", OTHER)
    store = VariableStore(variables=(other, mine, variable("BootOrder", b"\x03\0\x04\0")), size=1, capacity=1, used=1)
    assert store.get("Boot0003", OTHER) == other
    assert store.boot_order() == (3, 4)
    found = store.load_option(3)
    assert found is not None
    assert found.description == "Linux Boot Manager"
    assert store.load_option(4) is None


def test_store_without_boot_order() -> None:
    """A fresh store has no boot order, which is not an error."""
    assert VariableStore(variables=(), size=1, capacity=1, used=0).boot_order() == ()
