"""A store whose firmware was stopped while it rewrote it: what counts is what the firmware will make of it."""

import shutil
import struct
from pathlib import Path

import finished_disk
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_disk_variables import first_opinion, second_opinion

from vmharness.disk import efivars, interrupted
from vmharness.errors import VerificationFailed
from vmharness.model.variables import GLOBAL, EfiVariable

VARIABLES = {"BootOrder": b"\3\0", "Boot0003": b"entry", "Odd": b"123"}
# OVMF's 4M layout (OvmfPkg/VarStore.fdf.inc): variables, event log, working area, spare area.
QUEUE = 0x41020
SPARE = 0x42000
VARIABLES_END = 0x40000
CALLER = bytes.fromhex("48b20c47ace83c47bb4f81069a1fe6fd")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A sound store with a few variables."""
    path = tmp_path / "efi-vars.fd"
    finished_disk.write_store(path, finished_disk.template_store(), VARIABLES)
    return path


def write(state: int, record: int, *, length: int = 0x3FFB8, distance: int = -SPARE, count: int = 1) -> bytes:
    """The queue's entry for a rewriting, byte for byte as OVMF 2022.11 left it when its machine was killed."""
    head = struct.pack("<B3s16s4sQQ", state, b"\xff" * 3, CALLER, b"\xff" * 4, count, 0)
    return head + struct.pack("<B7sQQQq", record, b"\xff" * 7, 0, 0x48, length, distance)


def stop(path: Path, entry: bytes) -> None:
    """Leave the store as a machine does that is killed while the firmware copies the spare area over the variables."""
    blob = path.read_bytes()
    finished_disk.overwrite(path, SPARE, blob[:VARIABLES_END])
    finished_disk.overwrite(path, QUEUE, entry)
    finished_disk.overwrite(path, 0x64, b"\xff" * (VARIABLES_END - 0x64))


def names(path: Path) -> list[str]:
    """The variables of a store."""
    return sorted(item.name for item in efivars.read_store(path).variables)


PENDING = write(0xFC, 0xFD)


def test_the_spare_area_counts(store: Path) -> None:
    """The variables are those that the firmware will have at its next start, and not the half that is in place."""
    before = efivars.read_store(store)
    stop(store, PENDING)
    assert efivars.read_store(store) == before


def test_an_edit_completes_the_rewriting(store: Path, tmp_path: Path) -> None:
    """The firmware finds nothing left to copy over what was edited."""
    stop(store, PENDING)
    efivars.edit(store, put=[EfiVariable(name="New", guid=GLOBAL, attributes=7, data=b"1")])
    assert names(store) == sorted([*VARIABLES, "New"])
    blob = store.read_bytes()
    assert blob[QUEUE:SPARE] == b"\xff" * (SPARE - QUEUE)
    assert interrupted.completed(blob) == blob
    assert first_opinion(store) == second_opinion(store, tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        write(0xFE, 0xFD),  # the entry itself was not finished
        write(0xFC, 0xFF),  # the spare area was not complete: the variables were not touched yet
        write(0xFC, 0xF9),  # they are complete, too
        write(0xF8, 0xFD),  # the whole entry is done
        PENDING + write(0xF8, 0xF9),  # a later one is done
        write(0xFC, 0xFD, count=0),
    ],
)
def test_what_is_not_pending_stays_as_it_is(store: Path, entry: bytes) -> None:
    """A rewriting that had not begun, or was done, is nobody's business any more."""
    finished_disk.overwrite(store, QUEUE, entry)
    blob = store.read_bytes()
    assert interrupted.completed(blob) == blob
    assert names(store) == sorted(VARIABLES)


@pytest.mark.parametrize("entry", [write(0xFC, 0xFD, length=0x60000), write(0xFC, 0xFD, distance=-0x80000)])
def test_impossible_rewriting_is_refused(store: Path, entry: bytes) -> None:
    """An entry that reaches beyond the file is damage, and named as that."""
    stop(store, entry)
    with pytest.raises(VerificationFailed, match="an interrupted rewriting of it reaches beyond its end"):
        efivars.read_store(store)


@given(st.binary(max_size=200), st.integers(0, 0x100))
def test_garbage_in_the_queue_is_a_value(data: bytes, place: int) -> None:
    """Whatever the queue holds, the store is what it was, or completed, or refused with a sentence."""
    template = finished_disk.template_store().read_bytes()
    blob = template[: QUEUE + place] + data + template[QUEUE + place + len(data) :]
    try:
        assert len(interrupted.completed(blob)) == len(blob)
    except ValueError as error:
        assert "beyond its end" in str(error)  # noqa: PT017 -- one of two outcomes


@pytest.mark.parametrize("length", [0, 10, 60, 100, 5000])
def test_short_files_have_no_queue(tmp_path: Path, length: int) -> None:
    """A file that is cut off is left to the check of its variables."""
    template = finished_disk.template_store()
    blob = Path(shutil.copyfile(template, tmp_path / "x")).read_bytes()[:length]
    assert interrupted.completed(blob) == blob
