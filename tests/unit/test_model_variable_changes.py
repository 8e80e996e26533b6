"""How two sets of variables differ, in words."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_model_signatures import SHA256, siglist

from vmharness.model import devicepath
from vmharness.model.signatures import IMAGE_SECURITY, SECURE_BOOT_ENABLE
from vmharness.model.variable_changes import Area, area_of, changes
from vmharness.model.variable_values import from_text
from vmharness.model.variables import GLOBAL, LOADER, EfiVariable, LoadOption, Variables

OTHER = UUID(int=7)
AUTOMATIC = bytes.fromhex("4eac0881119f594d850ee21a522c59b2")


def variable(name: str, data: bytes, guid: UUID = GLOBAL, attributes: int = 7, time: bytes = b"") -> EfiVariable:
    """A variable."""
    return EfiVariable(name=name, guid=guid, attributes=attributes, data=data, time=time)


def entry(name: str, title: str, file: str = "a.efi", attributes: int = 1, rest: bytes = b"") -> EfiVariable:
    """A boot entry."""
    path = devicepath.to_file(1, 2048, 4096, UUID(int=3), file)
    option = LoadOption(attributes=attributes, description=title, path=(path,), optional_data=rest)
    return variable(name, option.to_bytes())


def differences(before: list[EfiVariable], after: list[EfiVariable], **options: Any) -> list[str]:
    """The differences in words."""
    sides = (Variables(variables=tuple(side)) for side in (before, after))
    return [change.text for change in changes(*sides, **options)]


PATH = f"HD(1,GPT,{UUID(int=3)},0x800,0x1000)/File(\\a.efi)"
OTHER_PATH = PATH.replace("a.efi", "b.efi")


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([], [entry("Boot0003", "Linux")], f"Boot0003 added: Linux: {PATH}"),
        ([entry("Boot0003", "Linux", attributes=0)], [], f"Boot0003 removed: Linux, inactive: {PATH}"),
        (
            [entry("Boot0003", "Linux")],
            [entry("Boot0003", "Debian", file="b.efi", attributes=0)],
            f"Boot0003 description from Linux to Debian; active from True to False; path from {PATH} to {OTHER_PATH}",
        ),
        (
            [entry("Boot0003", "Linux")],
            [entry("Boot0003", "Linux", rest=b"\1")],
            "Boot0003 optional data from nothing to 01",
        ),
        (
            [from_text("BootOrder", "0000,0001")],
            [from_text("BootOrder", "0001,0000")],
            "BootOrder from Boot0000, Boot0001 to Boot0001, Boot0000 (changed)",
        ),
        (
            [from_text("BootOrder", "0000,0001")],
            [from_text("BootOrder", "0003,0001")],
            "BootOrder from Boot0000, Boot0001 to Boot0003, Boot0001 (Boot0003 added, Boot0000 removed)",
        ),
        ([from_text("BootNext", "0003")], [], "BootNext removed: Boot0003"),
        (
            [from_text("LoaderEntryOneShot", "a.conf")],
            [from_text("LoaderEntryOneShot", "b\x1b.conf")],
            "LoaderEntryOneShot from a.conf to b\\x1b.conf",
        ),
        ([variable("X", b"\1", OTHER)], [variable("X", b"\2\3", OTHER)], "X from 1 bytes 01 to 2 bytes 0203"),
        (
            [variable("X", b"\1", OTHER)],
            [variable("X", b"\1", OTHER, attributes=3)],
            "X attributes from non-volatile, boot-service, runtime to non-volatile, boot-service",
        ),
        (
            [variable("X", b"\1", OTHER, time=b"a" * 16)],
            [variable("X", b"\1", OTHER, time=b"b" * 16)],
            "X has another time stamp",
        ),
        (
            [variable(SECURE_BOOT_ENABLE[0], b"\1", SECURE_BOOT_ENABLE[1])],
            [variable(SECURE_BOOT_ENABLE[0], b"\2", SECURE_BOOT_ENABLE[1])],
            "SecureBootEnable has other bytes that say the same",
        ),
        (
            [variable("dbx", siglist(SHA256, b"a" * 32, b"b" * 32), IMAGE_SECURITY)],
            [variable("dbx", siglist(SHA256, b"b" * 32, b"c" * 32), IMAGE_SECURITY)],
            f"dbx sha256 {'63' * 32} (owner {UUID(int=5)}) added; sha256 {'61' * 32} (owner {UUID(int=5)}) removed",
        ),
        (
            [entry("Boot0003", "Linux")],
            [variable("Boot0003", b"\1")],
            f"Boot0003 from Linux: {PATH} to damaged: a boot entry of fewer than 8 bytes",
        ),
    ],
)
def test_changes_are_named_in_words(before: list[EfiVariable], after: list[EfiVariable], text: str) -> None:
    """What was added, removed, or changed, from which value to which."""
    assert differences(before, after) == [text]
    assert differences(before, before) == differences(after, after) == []


@pytest.mark.parametrize(
    ("item", "area"),
    [
        (entry("Boot0003", "Linux"), Area.BOOT),
        (entry("Boot0003", "UEFI QEMU HARDDISK", rest=AUTOMATIC), Area.FIRMWARE),
        (variable("Boot0003", b"damaged"), Area.BOOT),
        (variable("BootOrder", b""), Area.BOOT),
        (variable("BootOrder", b"", OTHER), Area.OTHER),
        (variable("LoaderEntryDefault", b"", LOADER), Area.LOADER),
        (variable("PK", b""), Area.KEYS),
        (variable("db", b"", IMAGE_SECURITY), Area.KEYS),
        (variable("ConIn", b""), Area.FIRMWARE),
        (variable("MTC", b"", UUID("eb704011-1402-11d3-8e77-00a0c969723b")), Area.FIRMWARE),
        (variable("Attempt 1", b"", UUID("59324945-ec44-4c0d-b1cd-9db139df070c")), Area.FIRMWARE),
        (variable("Attempt 1", b"", OTHER), Area.OTHER),
        (variable("HDDP", b"", UUID("fab7e9e1-39dd-4f2b-8408-e20e906cb6de")), Area.FIRMWARE),
    ],
)
def test_areas(item: EfiVariable, area: Area) -> None:
    """A variable is of one area, by its name and its vendor."""
    assert area_of(item) is area


def test_what_the_firmware_writes_can_be_left_out() -> None:
    """Consoles, and the entries that the firmware makes, are left out, also of the orders that are compared."""
    mine, own = entry("Boot0001", "Linux"), entry("Boot0002", "UEFI QEMU HARDDISK", rest=AUTOMATIC)
    before = [mine, from_text("BootOrder", "0001")]
    after = [mine, own, from_text("BootOrder", "0001,0002"), variable("ConIn", b"x")]
    assert differences(before, after, ignore_volatile=True) == []
    assert differences([], [own, from_text("BootOrder", "0002")], ignore_volatile=True) == []
    assert len(differences(before, after)) == 3
    assert differences(before, [own, mine, from_text("BootOrder", "0002")], ignore_volatile=True) == [
        "BootOrder from Boot0001 to nothing (Boot0001 removed)"
    ]


def test_own_entry_in_place_of_a_person_s_is_a_change() -> None:
    """When the firmware has put its own entry where another was, that is said although its own ones are left out."""
    before, after = entry("Boot0001", "Linux"), entry("Boot0001", "Linux", rest=AUTOMATIC)
    (change,) = changes(Variables(variables=(before,)), Variables(variables=(after,)), ignore_volatile=True)
    assert change.area is Area.BOOT


def test_only_the_areas_asked_for() -> None:
    """A comparison of one area says nothing about the others."""
    after = [from_text("BootNext", "0001"), from_text("LoaderEntryOneShot", "a")]
    assert differences([], after, only={Area.LOADER}) == ["LoaderEntryOneShot added: a"]


VARIABLES = st.lists(
    st.builds(
        variable,
        st.sampled_from(["BootOrder", "Boot0001", "PK", "ConIn", "x"]),
        st.binary(max_size=8),
        st.sampled_from([GLOBAL, LOADER, OTHER]),
        st.integers(0, 255),
    ),
    unique_by=lambda item: (item.name, item.guid),
)


@given(VARIABLES, VARIABLES)
def test_every_difference_is_found(before: list[EfiVariable], after: list[EfiVariable]) -> None:
    """With all areas, exactly the variables that differ are named, whatever they hold."""
    found = changes(Variables(variables=tuple(before)), Variables(variables=tuple(after)))
    differ = {(item.name, str(item.guid)) for item in {*before} ^ {*after}}
    assert {(change.name, change.guid) for change in found} == differ
    assert all(change.text for change in found)
