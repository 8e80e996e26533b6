"""``vmharness efivars`` and the flow under it: variables shown, compared and changed."""

import json
import re
import shutil
import struct
from pathlib import Path
from uuid import UUID

import finished_disk
import pytest
from click.testing import CliRunner, Result
from finished_disk import Finished

from vmharness.cli.main import cli
from vmharness.disk import efivars as stores
from vmharness.disk import image
from vmharness.errors import SpecError, VerificationFailed
from vmharness.flows import efivars as flow
from vmharness.flows.boot_entries import NewEntry, add_entry
from vmharness.model.image import Format
from vmharness.model.variable_changes import Area
from vmharness.model.variables import GLOBAL, LOADER, EfiVariable

CAPACITY = 262_044


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A disk with a loader, and its store."""
    return finished_disk.make(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def store(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the store: Boot0003 'Linux Boot Manager', Boot0000 the firmware's menu, both in BootOrder."""
    return Path(shutil.copyfile(finished.store, tmp_path / "efi-vars.fd"))


def vmharness(*arguments: object, status: int = 0) -> Result:
    """Run the command line."""
    result = CliRunner().invoke(cli, ["efivars", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def value(store: Path, name: str, guid: UUID = GLOBAL) -> bytes | None:
    """A variable's bytes."""
    found = stores.read_store(store).get(name, guid)
    return found.data if found else None


def test_show_decodes_boot_entries(store: Path, finished: Finished) -> None:
    """People see entries with their device paths, the order, room and Secure Boot."""
    text = vmharness("show", store).output
    assert "of 255.9 KiB used" in text
    assert "Secure Boot: off, in setup mode (no platform key)" in text
    assert "  BootOrder: Boot0003, Boot0000\n" in text
    path = f"HD(1,GPT,{finished.esp.guid},0x{finished.esp.start:x},0x{finished.esp.sectors:x})"
    assert f"  Boot0003: Linux Boot Manager: {path}/File(\\EFI\\systemd\\systemd-bootx64.efi)\n" in text
    assert "  Boot0000: UiApp, hidden, application, automatic: FvFile(" in text


def test_show_as_data(store: Path) -> None:
    """Programs get the same as JSON, each variable with its area."""
    data = json.loads(vmharness("show", store, "--json").output)
    assert (data["size"], data["capacity"]) == (540_672, CAPACITY)
    assert data["secure_boot"] == {"enforced": False, "setup_mode": True}
    areas = {item["name"]: item["area"] for item in data["variables"]}
    assert (areas["BootOrder"], areas["Boot0003"], areas["Boot0000"]) == ("boot", "boot", "firmware")


def test_show_names_keys_by_subject_and_owner(tmp_path: Path) -> None:
    """Keys are listed one by one: kind, subject, fingerprint, owner; hashes in full."""
    keys = finished_disk.template_store().with_name("OVMF_VARS_4M.snakeoil.fd")
    text = vmharness("show", keys).output
    assert "Secure Boot: on\n" in text
    assert "    x509: O=SnakeOil,L=Fort Collins,ST=Colorado,C=US, SHA-256 282e8130b7070f10" in text
    assert f"    sha256: e3b0c44298fc1c149afbf4c8996fb924{'27ae41e4649b934ca495991b7852b855'} (owner a0baa8a3-" in text


def test_show_a_damaged_key_list(store: Path) -> None:
    """A damaged list is shown as damaged, with the byte, and does not hide the rest."""
    db = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
    stores.edit(store, put=[EfiVariable(name="db", guid=db, attributes=0x27, data=b"not a list")])
    text = vmharness("show", store).output
    assert "Secure Boot: a signature database is damaged" in text
    assert "  db: damaged: the signature list at byte 0 is cut off" in text
    assert json.loads(vmharness("show", store, "--json").output)["secure_boot"] is None


def test_show_neutralises_what_a_guest_wrote(store: Path) -> None:
    """Control characters in names and values never reach the terminal."""
    flow.set_text(store, "LoaderEntryOneShot", "\x1b[2Jx")
    flow.set_bytes(store, "a\x1b[2J", b"1")
    text = vmharness("show", store).output
    assert "\x1b" not in text
    assert "LoaderEntryOneShot: \\x1b[2Jx" in text


def test_show_a_damaged_store(store: Path) -> None:
    """A damaged store is an error with its offset."""
    finished_disk.overwrite(store, 100, b"\0\0")
    assert "chain of variables is broken at byte 0x64" in vmharness("show", store, status=1).output


def test_diff_says_in_words_what_changed(store: Path, tmp_path: Path) -> None:
    """The exit status tells whether there is a difference, as diff's does."""
    after = Path(shutil.copyfile(store, tmp_path / "after.fd"))
    assert vmharness("diff", store, after).output == ""
    flow.set_text(after, "BootOrder", "0000,0003")
    flow.set_bytes(after, "ConIn", b"x")
    assert vmharness("diff", store, after, status=1).output.splitlines() == [
        "BootOrder from Boot0003, Boot0000 to Boot0000, Boot0003 (changed)",
        "ConIn added: damaged: the device path is cut off at byte 0",
    ]
    # the firmware's menu is its own entry, so what is left of the order is the same
    assert vmharness("diff", store, after, "--ignore-volatile").output == ""
    (change,) = json.loads(vmharness("diff", store, after, "--only", "boot", "--json", status=1).output)
    assert (change["name"], change["after"]["value"]) == ("BootOrder", ["Boot0000", "Boot0003"])


def test_changes_by_area(store: Path, tmp_path: Path) -> None:
    """The same in Python, of the areas asked for."""
    after = Path(shutil.copyfile(store, tmp_path / "after.fd"))
    flow.set_text(after, "LoaderEntryOneShot", "a.conf")
    flow.set_text(after, "BootNext", "0003")
    (change,) = flow.compare(store, after, only={Area.LOADER})
    assert (change.name, change.before) == ("LoaderEntryOneShot", None)
    assert change.after is not None
    assert change.after.value == "a.conf"


def test_set_known_variables(store: Path) -> None:
    """Orders, BootNext and the loader's texts are written from text; everything else stays."""
    before = stores.read_store(store).variables
    vmharness("set", store, "BootOrder", "0000,Boot0003")
    vmharness("set", store, "BootNext", "0003")
    vmharness("set", store, "LoaderEntryOneShot", "debian.conf")
    assert value(store, "BootOrder") == b"\0\0\3\0"
    assert value(store, "BootNext") == b"\3\0"
    assert value(store, "LoaderEntryOneShot", LOADER) == "debian.conf\0".encode("utf-16-le")
    after = {item.name: item for item in stores.read_store(store).variables}
    assert all(after[item.name] == item for item in before if item.name != "BootOrder")


def test_set_refuses_what_the_firmware_would_pass_over(store: Path) -> None:
    """An entry that is not there, or a text that is none, is refused with what would be taken."""
    assert (
        "no entry Boot0007 (allowed: Boot0000, Boot0003)"
        in vmharness("set", store, "BootNext", "0007", status=2).output
    )
    assert "is no entry" in vmharness("set", store, "BootOrder", "3", status=2).output
    assert "--hex" in vmharness("set", store, "Mine", "x", status=2).output
    vmharness("set", store, "BootNext", "--hex", "0700")
    assert value(store, "BootNext") == b"\7\0"


def test_set_any_variable(store: Path, tmp_path: Path) -> None:
    """Bytes come from the command line or a file; a variable keeps its attributes unless others are given."""
    vendor = UUID(int=9)
    vmharness("set", store, "Mine", "--guid", vendor, "--hex", "01 ff", "--attributes", 3)
    (tmp_path / "bytes").write_bytes(b"more")
    vmharness("set", store, "Mine", "--guid", vendor, "--file", tmp_path / "bytes")
    found = stores.read_store(store).get("Mine", vendor)
    assert found == EfiVariable(name="Mine", guid=vendor, attributes=3, data=b"more")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["BootNext"], "give one of VALUE, --hex and --file"),
        (["BootNext", "0003", "--hex", "00"], "give one of VALUE, --hex and --file"),
        (["BootNext", "0003", "--guid", GLOBAL], "belong to --hex and --file"),
        (["Mine", "--hex", "0"], "--hex: "),
        (["Mine", "--hex", ""], "has no data"),
        (["", "--hex", "00"], "has no name"),
        (["Mine", "--hex", "00", "--guid", "x"], "valid UUID"),
    ],
)
def test_set_refuses_nonsense(store: Path, arguments: list[str], message: str) -> None:
    """A command that says two things, or nothing, changes nothing."""
    before = store.read_bytes()
    assert message in vmharness("set", store, *arguments, status=2).output
    assert store.read_bytes() == before


def test_delete_takes_an_entry_out_of_the_order(store: Path) -> None:
    """A deleted boot entry is gone from BootOrder, too; a last one takes BootOrder along."""
    vmharness("delete", store, "Boot0003")
    assert (value(store, "Boot0003"), value(store, "BootOrder")) == (None, b"\0\0")
    vmharness("delete", store, "Boot0000")
    assert value(store, "BootOrder") is None


def test_delete_of_what_is_not_there(store: Path) -> None:
    """A typing error is an error, with the nearest name."""
    assert "no variable Boot0004; did you mean Boot000" in vmharness("delete", store, "Boot0004", status=2).output


def test_delete_of_one_of_several_vendors(store: Path) -> None:
    """Where several vendors have a variable of that name, the caller says which."""
    flow.set_bytes(store, "Timeout", b"\1\0")
    flow.set_bytes(store, "Timeout", b"x", guid=LOADER)
    assert "several vendors" in vmharness("delete", store, "Timeout", status=2).output
    vmharness("delete", store, "Timeout", "--guid", LOADER)
    assert (value(store, "Timeout"), value(store, "Timeout", LOADER)) == (b"\1\0", None)


def test_damaged_boot_order_can_be_mended(store: Path) -> None:
    """With a BootOrder of an odd length, the error says how to write a new one; that works."""
    flow.set_bytes(store, "BootOrder", b"\3")
    with pytest.raises(VerificationFailed, match=r"BootOrder in .* is damaged") as caught:
        flow.delete(store, ["Boot0003"])
    assert "efivars set" in str(caught.value)
    flow.set_text(store, "BootOrder", "0003")
    assert value(store, "BootOrder") == b"\3\0"


@pytest.mark.parametrize("form", [Format.RAW, Format.QCOW2])
def test_add_entry_points_at_a_partition(store: Path, finished: Finished, tmp_path: Path, form: Format) -> None:
    """A new entry takes the first free number and names the partition as the image's own table has it."""
    disk = tmp_path / ("disk.qcow2" if form is Format.QCOW2 else "disk.img")
    image.convert(finished.disk, disk, form, UUID(int=1))
    said = vmharness(
        "add-entry", store, "--title", "Débian", "--disk", disk, "--path", "EFI/BOOT/BOOTX64.EFI", "--arguments", "a b"
    )
    assert said.output == "Boot0001\n"
    assert value(store, "BootOrder") == struct.pack("<3H", 1, 3, 0)
    option = stores.read_store(store).load_option(1)
    assert option is not None
    installed = stores.read_store(store).load_option(3)
    assert installed is not None
    assert (option.description, option.active, option.target[0]) == ("Débian", True, installed.target[0])
    assert option.optional_data == "a b\0".encode("utf-16-le")
    assert add_entry(store, NewEntry(title="b", disk=disk, partition=2, file="x", first=False)) == 2
    assert value(store, "BootOrder") == struct.pack("<4H", 1, 3, 0, 2)


def test_add_entry_for_what_is_not_there(store: Path, finished: Finished, tmp_path: Path) -> None:
    """A missing disk or partition is named with what is there."""
    entry = NewEntry(title="a", disk=finished.disk, partition=9, file="a.efi")
    with pytest.raises(SpecError, match=r"has no partition 9 \(allowed: 1, 2\)"):
        add_entry(store, entry)
    with pytest.raises(SpecError, match="there is no image"):
        add_entry(store, NewEntry(title="a", disk=tmp_path / "none.img", partition=1, file="a.efi"))


def test_fill_to_the_byte(store: Path) -> None:
    """The store takes as much as was asked for, again and again, and what was in it stays."""
    before = stores.read_store(store).variables
    assert "229376 of 262044 bytes used" in vmharness("fill", store, "--to", "224K").output
    assert stores.read_store(store).used == 224 * 1024
    vmharness("fill", store, "--free", 0)
    full = stores.read_store(store)
    assert full.used == full.capacity == CAPACITY
    vmharness("fill", store, "--to", "2K")
    assert stores.read_store(store).used == 2048
    assert tuple(item for item in stores.read_store(store).variables if not item.name.startswith("Filler")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "1M"], r"cannot be filled to 1048576 bytes \(allowed: from"),
        (["--to", "100"], "cannot be filled to 100 bytes"),
        (["--free", "2M"], "cannot be filled to -"),
        (["--to", "x"], "is not a size"),
        ([], "give one of --to and --free"),
    ],
)
def test_fill_refuses_what_cannot_be(store: Path, arguments: list[str], message: str) -> None:
    """More than there is room for, less than is taken, and nonsense change nothing."""
    before = store.read_bytes()
    assert re.search(message, vmharness("fill", store, *arguments, status=2).output)
    assert store.read_bytes() == before


@pytest.mark.parametrize("verb", ["show", "diff", "set", "delete", "add-entry", "enroll", "fill"])
def test_every_verb_has_an_example(verb: str) -> None:
    """``--help`` shows how each verb is used."""
    assert f"Example:\n    vmharness efivars {verb} " in vmharness(verb, "--help").output
