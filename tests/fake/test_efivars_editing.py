"""Variable stores edited: exactly what was asked for, whole or not at all, and not under a machine's feet."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import finished_disk
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_disk_variables import add_record, first_opinion, record_at, second_opinion

from vmharness.disk import efivars
from vmharness.errors import HostError, VerificationFailed
from vmharness.host import proc
from vmharness.model.variables import GLOBAL, LOADER, EfiVariable

TIME = bytes.fromhex("e907030a023530000000000000000000")
NAMES = st.text(st.characters(max_codepoint=0xFFFF, exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
VARIABLES = st.lists(
    st.builds(
        EfiVariable,
        name=NAMES,
        guid=st.sampled_from([GLOBAL, LOADER, UUID(int=7)]),
        attributes=st.integers(0, 0xFF),
        data=st.binary(min_size=1, max_size=300),
        time=st.sampled_from([b"", TIME]),
    ),
    unique_by=lambda item: (item.name, item.guid),
    max_size=8,
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A blank store."""
    return Path(shutil.copyfile(finished_disk.template_store(), tmp_path / "efi-vars.fd"))


@pytest.fixture
def full_of_keys(tmp_path: Path) -> Path:
    """A store that has booted once and has Secure Boot's keys: authenticated variables with times, of many vendors."""
    template = finished_disk.template_store().with_name("OVMF_VARS_4M.snakeoil.fd")
    path = Path(shutil.copyfile(template, tmp_path / "keys.fd"))
    add_record(path, EfiVariable(name="db", guid=UUID(int=7), attributes=7, data=b"another vendor's"), state=0x3F)
    return path


def variable(name: str, data: bytes, guid: UUID = GLOBAL) -> EfiVariable:
    """A variable of the usual attributes."""
    return EfiVariable(name=name, guid=guid, attributes=7, data=data)


def content(path: Path) -> tuple[EfiVariable, ...]:
    """What a store holds."""
    return efivars.read_store(path).variables


def test_store_written_without_a_change_is_the_same(full_of_keys: Path) -> None:
    """Names, vendors, attributes, times, data and order come back; what has no deleted records is the same file."""
    before = content(full_of_keys)
    efivars.edit(full_of_keys)
    assert content(full_of_keys) == before
    written = full_of_keys.read_bytes()
    efivars.edit(full_of_keys)
    assert full_of_keys.read_bytes() == written


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(variables=VARIABLES, more=VARIABLES)
def test_what_was_written_is_read(store: Path, variables: list[EfiVariable], more: list[EfiVariable]) -> None:
    """Any variables are read back as they were written; those that are written again keep their place in the order."""
    template = finished_disk.template_store()
    shutil.copyfile(template, store)
    efivars.edit(store, put=variables)
    expected = {(item.name, item.guid): item for item in (*content(template), *variables)}
    assert content(store) == tuple(expected.values())
    after = efivars.edit(store, put=more)
    expected |= {(item.name, item.guid): item for item in more}
    assert after == efivars.read_store(store)
    assert after.variables == tuple(expected.values())


def test_virt_firmware_agrees(full_of_keys: Path, tmp_path: Path) -> None:
    """What was written is what virt-firmware reads, too."""
    efivars.edit(full_of_keys, put=[variable("BootNext", b"\3\0"), variable("Zähler", b"odd")])
    efivars.edit(full_of_keys, delete=[("db", UUID(int=7))])
    assert first_opinion(full_of_keys) == second_opinion(full_of_keys, tmp_path)


def test_only_the_named_vendor_s_variable_goes(full_of_keys: Path) -> None:
    """Another vendor's variable of the same name stays, and so do all others, to the byte."""
    before = content(full_of_keys)
    efivars.edit(full_of_keys, delete=[("db", UUID(int=7))])
    assert content(full_of_keys) == before[:-1]


def test_other_records_stay_to_the_byte(full_of_keys: Path) -> None:
    """A change leaves the records before and after it as they were, counters and key indexes included."""
    efivars.edit(full_of_keys)  # what was deleted goes
    at = record_at(full_of_keys, "PK")
    finished_disk.overwrite(full_of_keys, at + 8, b"\7")  # the monotonic count
    before = full_of_keys.read_bytes()
    record = before[at : record_at(full_of_keys, "VendorKeysNv")]
    efivars.edit(full_of_keys, put=[variable("Timeout", b"\5\0")])
    after = full_of_keys.read_bytes()
    assert record in after
    assert len(after) == len(before)
    assert [a != b for a, b in zip(before, after, strict=True)].count(True) == 1


def test_too_much_is_refused_and_changes_nothing(store: Path) -> None:
    """A store that cannot take the variables stays as it is."""
    before = store.read_bytes()
    with pytest.raises(VerificationFailed, match=r"too small: the variables take [\d,]+ bytes, and there are 262,044"):
        efivars.edit(store, put=[variable("Big", bytes(262_044))])
    assert store.read_bytes() == before


def test_damaged_store_is_not_written(store: Path) -> None:
    """Damage is named with its place, and the file stays as it is."""
    finished_disk.overwrite(store, 100, b"\0\0")
    before = store.read_bytes()
    with pytest.raises(VerificationFailed, match="broken at byte 0x64"):
        efivars.edit(store, put=[variable("A", b"1")])
    assert store.read_bytes() == before


def test_file_keeps_its_mode_and_its_link(store: Path, tmp_path: Path) -> None:
    """The file is replaced in one step, where a link points; nothing is left beside it."""
    store.chmod(0o640)
    link = tmp_path / "link.fd"
    link.symlink_to(store)
    efivars.edit(link, put=[variable("A", b"1")])
    assert link.is_symlink()
    assert store.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in tmp_path.iterdir()} == {"link.fd", "efi-vars.fd"}


def test_qcow2_store_says_how_to_make_it_raw(store: Path, tmp_path: Path) -> None:
    """A qcow2 image of a store is refused with the command that makes the raw one."""
    packed = tmp_path / "efi-vars.qcow2"
    proc.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", store, packed], doing="packing the store")
    with pytest.raises(VerificationFailed) as caught:
        efivars.read_store(packed)
    assert "qemu-img convert -O raw" in str(caught.value)


@pytest.fixture
def in_use(store: Path) -> Iterator[Path]:
    """A store that QEMU's block layer has open for writing, as a machine's flash is."""
    argv = [proc.require("qemu-io"), "-f", "raw", store]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write(b"write -P 0xff 0x3f000 16\n")  # its answer shows that the file is open
        user.stdin.flush()
        assert b"wrote" in user.stdout.readline()
        yield store
        user.stdin.close()
        user.stdout.read()


def test_store_in_use_is_not_edited(in_use: Path) -> None:
    """A running machine would not see the change, or overwrite it: editing is refused, and reading goes on."""
    before = in_use.read_bytes()
    with pytest.raises(HostError, match="is in use by a running machine"):
        efivars.edit(in_use, put=[variable("A", b"1")])
    assert in_use.read_bytes() == before
    assert content(in_use) == content(finished_disk.template_store())


def test_machine_cannot_start_while_a_store_is_edited(store: Path) -> None:
    """The lock works the other way round, too."""
    with efivars._locked(store):
        done = proc.run(["qemu-io", "-f", "raw", "-c", "write 0 512", store], doing="opening the store", ok=(0, 1))
        assert done.status == 1
        assert b"lock" in done.stderr
    assert content(store) == content(finished_disk.template_store())


def test_file_that_may_not_be_written(tmp_path: Path) -> None:
    """A folder in place of a store is the host's trouble."""
    with pytest.raises(HostError, match="cannot write the variable store"):
        efivars.edit(tmp_path, put=[variable("A", b"1")])


def test_folder_of_efivarfs_files_is_read(tmp_path: Path) -> None:
    """A copy of /sys/firmware/efi/efivars gives the variables of a running system, volatile ones included."""
    (tmp_path / f"BootCurrent-{GLOBAL}").write_bytes(b"\6\0\0\0\3\0")
    (tmp_path / f"LoaderInfo-{LOADER}").write_bytes(b"\6\0\0\0" + "boot 1\0".encode("utf-16-le"))
    found = efivars.read_variables(tmp_path)
    assert found.boot_current() == 3
    assert found.loader_text("LoaderInfo") == "boot 1"
    assert {item.attributes for item in found.variables} == {6}


@pytest.mark.parametrize(("name", "data"), [("notes.txt", b"12345"), (f"BootNext-{GLOBAL}", b"\0")])
def test_folder_of_something_else_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    """A file that is none of efivarfs' is named."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VerificationFailed, match=f"{name} is not a file of efivarfs"):
        efivars.read_variables(tmp_path)


def test_store_can_be_read_as_a_file_too(store: Path) -> None:
    """Whoever asks for variables need not know whether they are in a file or in a folder."""
    assert efivars.read_variables(store) == efivars.read_store(store)
    assert json.dumps(efivars.read_store(store).size) == "540672"
