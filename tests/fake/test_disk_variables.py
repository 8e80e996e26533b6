"""The variable store: read, checked, scrubbed; with virt-firmware as the second opinion."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import finished_disk
import pytest

from vmharness.disk import efivars
from vmharness.errors import HostError, VerificationFailed
from vmharness.host import proc
from vmharness.model.variables import GLOBAL, LOADER, SECRETS, EfiVariable

(SECRET,) = SECRETS
VARIABLES = {"BootOrder": b"\x03\x00", "Boot0003": b"entry", "Zähler": b"", "Odd": b"123"}
FIRST_RECORD = 100
STATE = 2


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few variables of several lengths, and a secret of another vendor."""
    folder = tmp_path_factory.mktemp("store")
    finished_disk.write_store(folder / "first.fd", finished_disk.template_store(), VARIABLES)
    finished_disk.write_store(folder / "efi-vars.fd", folder / "first.fd", {SECRET: b"0123456789abcdef"}, LOADER)
    return folder / "efi-vars.fd"


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed."""
    return Path(shutil.copyfile(original, tmp_path / "efi-vars.fd"))


def second_opinion(path: Path, scratch: Path) -> dict[str, tuple[str, int, str]]:
    """What virt-firmware reads."""
    listing = scratch / "listing.json"
    proc.run(["virt-fw-vars", "-i", path, "--output-json", listing], doing="reading the store")
    items: list[dict[str, Any]] = json.loads(listing.read_text())["variables"]
    return {item["name"]: (item["guid"], item["attr"], item["data"]) for item in items}


def first_opinion(path: Path) -> dict[str, tuple[str, int, str]]:
    """What we read, in the same shape."""
    found = efivars.read_store(path).variables
    return {item.name: (str(item.guid), item.attributes, item.data.hex()) for item in found}


def record_at(path: Path, name: str) -> int:
    """Where the record of a variable begins."""
    return path.read_bytes().index(f"{name}\0".encode("utf-16-le")) - 60


def add_record(path: Path, variable: EfiVariable, state: int) -> None:
    """Put one more record behind the last one, as the firmware does."""
    store = efivars.read_store(path)
    name = f"{variable.name}\0".encode("utf-16-le")
    header = struct.pack("<HBxIQ16xIII", 0x55AA, state, variable.attributes, 0, 0, len(name), len(variable.data))
    finished_disk.overwrite(path, FIRST_RECORD + store.used, header + variable.guid.bytes_le + name + variable.data)


def test_store_is_read(store: Path, tmp_path: Path) -> None:
    """Names, vendors, attributes and bytes are those that virt-firmware reads."""
    assert first_opinion(store) == second_opinion(store, tmp_path)
    found = efivars.read_store(store)
    assert {item.name: item.data for item in found.variables if item.guid == GLOBAL} == VARIABLES
    assert found.size == store.stat().st_size
    assert 0 < found.used < found.capacity < found.size


def test_every_template_of_the_host_is_read(tmp_path: Path) -> None:
    """Blank stores and those with Secure Boot keys, of either size, are read as virt-firmware reads them."""
    templates = sorted(finished_disk.template_store().parent.glob("OVMF_VARS*.fd"))
    assert templates
    for template in templates:
        assert first_opinion(template) == second_opinion(template, tmp_path)


def test_deleted_variables_are_not_shown(store: Path) -> None:
    """A deleted record stays in the flash; it takes room and is no variable."""
    used = efivars.read_store(store).used
    finished_disk.overwrite(store, record_at(store, "Odd") + STATE, b"\x3d")
    found = efivars.read_store(store)
    assert found.get("Odd") is None
    assert found.get("BootOrder") is not None
    assert found.used == used


def test_interrupted_replacement_keeps_the_old_value(store: Path) -> None:
    """A record whose successor was never finished still counts; once the successor is there, that one alone does."""
    finished_disk.overwrite(store, record_at(store, "Odd") + STATE, b"\x3e")
    add_record(store, EfiVariable(name="Odd", guid=GLOBAL, attributes=7, data=b"half"), state=0x7F)
    old = efivars.read_store(store).get("Odd")
    assert old is not None
    assert old.data == b"123"
    add_record(store, EfiVariable(name="Odd", guid=GLOBAL, attributes=7, data=b"new"), state=0x3F)
    (new,) = (item for item in efivars.read_store(store).variables if item.name == "Odd")
    assert new.data == b"new"


def test_vendors_do_not_hide_each_other(store: Path) -> None:
    """Two variables of one name are both there; virt-firmware would keep one."""
    add_record(store, EfiVariable(name="Odd", guid=UUID(int=7), attributes=7, data=b"other"), state=0x3F)
    found = efivars.read_store(store)
    assert {item.data for item in found.variables if item.name == "Odd"} == {b"123", b"other"}


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100_000)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _erased(path: Path) -> None:
    path.write_bytes(b"\xff" * 540_672)


def _text(path: Path) -> None:
    path.write_text("no variable store" * 100)


def _at(offset: int, data: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        finished_disk.overwrite(path, offset, data)

    return damage


def _name(path: Path) -> None:
    finished_disk.overwrite(path, record_at(path, "Odd") + 60 + 6, b"x\0")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "cut off: 100000 bytes of"),
        (_empty, "empty"),
        (_erased, "empty"),
        (_text, "does not begin with the firmware volume"),
        (_at(0x28, b"x"), "does not begin with the firmware volume"),
        (_at(0x2C, b"\0"), "checksum"),
        (_at(0x48, b"y"), "no formatted and healthy store"),
        (_at(0x48 + 21, b"\xff"), "no formatted and healthy store"),
        (_at(0x48 + 16, b"\xff\xff\xff\x7f"), "room ends outside"),
        (_at(FIRST_RECORD, b"\0\0"), "chain of variables is broken at byte 0x64"),
        (_at(FIRST_RECORD + 40, b"\xff\xff\xff\x00"), "beyond the end"),
        (_at(FIRST_RECORD, b"\xff\xff"), "neither a variable nor empty flash"),
        (_at(0x30000, b"x"), "neither a variable nor empty flash"),
        (_name, "damaged name"),
    ],
)
def test_damaged_stores_are_refused(store: Path, damage: Callable[[Path], None], message: str) -> None:
    """Damage to either header, to the chain of variables or behind it is named, with a way out."""
    damage(store)
    with pytest.raises(VerificationFailed, match=f"is not a sound variable store: .*{message}") as caught:
        efivars.read_store(store)
    assert caught.value.hint


def test_store_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is the host's trouble and not the store's."""
    with pytest.raises(HostError, match="cannot read the variable store"):
        efivars.read_store(tmp_path / "nothing.fd")


def test_scrub_leaves_nothing_of_a_variable(store: Path, tmp_path: Path) -> None:
    """A variable that was deleted long ago and one that is there go to the last byte; the others stay as they were."""
    before = efivars.read_store(store)
    finished_disk.overwrite(store, record_at(store, "Odd") + STATE, b"\x3c")
    assert efivars.remnants(store, (SECRET, "Odd", "Even")) == (SECRET, "Odd")
    store.chmod(0o640)
    efivars.scrub(store, (SECRET, "Odd"))
    after = efivars.read_store(store)
    assert efivars.remnants(store, (SECRET, "Odd")) == ()
    assert b"0123456789abcdef" not in store.read_bytes()
    assert after.variables == tuple(item for item in before.variables if item.name not in {SECRET, "Odd"})
    assert (after.size, after.capacity) == (before.size, before.capacity)
    assert after.used < before.used
    assert first_opinion(store) == second_opinion(store, tmp_path)
    assert store.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in tmp_path.glob("efi-vars*fd*")} == {"efi-vars.fd"}


def test_scrub_completes_an_interrupted_replacement(store: Path, tmp_path: Path) -> None:
    """A record that waited for its successor is an ordinary one afterwards, for other readers too."""
    finished_disk.overwrite(store, record_at(store, "Odd") + STATE, b"\x3e")
    assert "Odd" not in second_opinion(store, tmp_path)
    efivars.scrub(store, ())
    assert second_opinion(store, tmp_path)["Odd"] == (str(GLOBAL), 7, b"123".hex())


def test_scrub_says_when_it_cannot_reach_a_trace(store: Path) -> None:
    """A copy in the firmware's spare block is outside the variables' room; it is reported, not overlooked."""
    finished_disk.overwrite(store, store.stat().st_size - 4096, SECRET.encode("utf-16-le"))
    with pytest.raises(VerificationFailed, match=f"still holds traces of {SECRET}"):
        efivars.scrub(store, (SECRET,))
