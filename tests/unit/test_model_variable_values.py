"""Variables made from text, and those that only take room."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.disk import varstore
from vmharness.model import devicepath, filler
from vmharness.model.variable_records import decode
from vmharness.model.variable_values import KNOWN, from_text
from vmharness.model.variables import GLOBAL, LOADER, LoadOption, Variables


@pytest.mark.parametrize(
    ("name", "text", "guid", "data"),
    [
        ("BootOrder", "0003,001f", GLOBAL, b"\x03\0\x1f\0"),
        ("BootOrder", "Boot0003, Boot0001", GLOBAL, b"\x03\0\x01\0"),
        ("DriverOrder", "Driver0001", GLOBAL, b"\x01\0"),
        ("BootNext", "000A", GLOBAL, b"\x0a\0"),
        ("Timeout", "5", GLOBAL, b"\x05\0"),
        ("OsIndications", "0x1", GLOBAL, b"\x01" + bytes(7)),
        ("LoaderEntryOneShot", "a.conf", LOADER, "a.conf\0".encode("utf-16-le")),
        ("LoaderConfigTimeoutOneShot", "3", LOADER, "3\0".encode("utf-16-le")),
    ],
)
def test_known_variables_are_made(name: str, text: str, guid: UUID, data: bytes) -> None:
    """Orders, entries, numbers and the loader's texts, with the attributes that systems give them."""
    made = from_text(name, text)
    assert (made.name, made.guid, made.attributes, made.data) == (name, guid, 7, data)
    assert decode(made).kind != "damaged"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("BootOrder", "3", "'3' is no entry; they have four"),
        ("BootOrder", "0003;0001", "is no entry"),
        ("BootNext", "", "is no entry"),
        ("BootNext", "0003,0001", "is no entry"),
        ("Timeout", "soon", "no number that Timeout can hold"),
        ("Timeout", "65536", "no number that Timeout can hold"),
        ("Timeout", "-1", "no number that Timeout can hold"),
        ("Mine", "x", "none of the variables that can be made from text: BootOrder"),
    ],
)
def test_other_texts_are_refused(name: str, text: str, message: str) -> None:
    """The refusal says what would have been taken."""
    with pytest.raises(ValueError, match=message):
        from_text(name, text)


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("Loader")])
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_loader_texts_come_back(name: str, text: str) -> None:
    """Whatever text the loader is given, it is read as that."""
    assert Variables(variables=(from_text(name, text),)).loader_text(name) == text


@given(st.integers(filler.SMALLEST // 4, 65_536).map(lambda number: number * 4))
def test_fillers_take_what_was_asked_for(size: int) -> None:
    """Together they take the bytes asked for, none more than firmwares let a variable have; no name comes twice."""
    made = filler.fillers(size)
    assert sum(varstore.size_of(item) for item in made) == size
    assert all(0 < len(item.data) <= 4096 for item in made)
    assert len({item.name for item in made}) == len(made)


@pytest.mark.parametrize("size", [4, filler.SMALLEST - 4, 4098])
def test_what_cannot_be_filled_is_refused(size: int) -> None:
    """A variable takes a least number of bytes, and a multiple of 4."""
    with pytest.raises(ValueError, match=f"{size} bytes cannot be filled"):
        filler.fillers(size)


def test_nothing_to_fill() -> None:
    """To fill nothing takes no variable."""
    assert filler.fillers(0) == ()


TITLES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NODES = st.builds(devicepath.Node, type=st.integers(0, 0x7E), subtype=st.integers(0, 255), data=st.binary(max_size=40))
PATHS = st.lists(st.lists(NODES).map(tuple), min_size=1).map(tuple)


@given(st.integers(0, 0xFFFFFFFF), TITLES, PATHS, st.binary())
def test_boot_entries_come_back(
    attributes: int, title: str, path: tuple[devicepath.Instance, ...], rest: bytes
) -> None:
    """A boot entry's bytes, taken apart, are the entry again."""
    option = LoadOption(attributes=attributes, description=title, path=path, optional_data=rest)
    assert LoadOption.parse(option.to_bytes()) == option


@pytest.mark.parametrize("file", ["\\EFI\\BOOT\\BOOTX64.EFI", "EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/BOOTX64.EFI"])
def test_path_to_a_file_of_a_gpt_partition(file: str) -> None:
    """Slashes of either kind name the same file, and the partition is found again."""
    guid = UUID("a59c1a50-5d1c-4d0f-9d1a-3f2b8f6a7c51")
    nodes = devicepath.to_file(1, 0x4000, 0x80000, guid, file)
    assert devicepath.to_text((nodes,)) == f"HD(1,GPT,{guid},0x4000,0x80000)/File(\\EFI\\BOOT\\BOOTX64.EFI)"
    assert devicepath.hard_drive(nodes) == devicepath.HardDrive(number=1, start=0x4000, sectors=0x80000, guid=guid)


def test_path_to_a_file_of_an_mbr_partition() -> None:
    """An MBR partition is named by its disk's identifier."""
    nodes = devicepath.to_file(2, 63, 100, 0xDEADBEEF, "a.efi")
    assert devicepath.to_text((nodes,)) == "HD(2,MBR,0xdeadbeef,0x3f,0x64)/File(\\a.efi)"


def test_typed_questions_to_variables() -> None:
    """Boot entries, the next and the current one are there as numbers and entries."""
    option = LoadOption(attributes=1, description="a", path=((),), optional_data=b"")
    entry = from_text("BootNext", "0003")
    made = type(entry)(name="Boot000A", guid=GLOBAL, attributes=7, data=option.to_bytes())
    variables = Variables(variables=(made, entry))
    assert variables.boot_entries() == {10: option}
    assert variables.boot_next() == 3
    assert variables.boot_current() is None
    assert variables.loader_text("LoaderInfo") is None


def test_damaged_next_entry_is_said() -> None:
    """A BootNext of another length than 2 bytes is damaged."""
    entry = from_text("BootNext", "0003")
    damaged = type(entry)(name="BootNext", guid=GLOBAL, attributes=7, data=b"1234")
    with pytest.raises(ValueError, match="BootNext holds 4 bytes instead of 2"):
        Variables(variables=(damaged,)).boot_next()
