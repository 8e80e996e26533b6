"""Failure bundles that strangers made: whatever is in them, nothing of it leads out of the folder."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import MEMBERS, MIB, archive, index, other, packed, refused, regular
from unprivileged import run_as_ordinary_user

from vmharness.errors import HostError, SpecError
from vmharness.flows.bundle import unpack

PLAIN = [regular(name, data) for name, data in MEMBERS.items()]


def test_a_small_archive_of_ours_is_taken(tmp_path: Path) -> None:
    """What the tests below damage is whole: without damage it opens."""
    out = unpack(packed(tmp_path / "b", archive(index(MEMBERS), PLAIN)), tmp_path / "out")
    assert (out / "console.log").read_bytes() == b"hello"


def _named(name: str) -> dict[str, Any]:
    """An index with one more file."""
    said = index(MEMBERS)
    said["files"].append({"name": name, "size": 4, "data": 4, "digest": "0" * 64})
    return said


@pytest.mark.parametrize(
    "name",
    [
        "../escape", "/etc/passwd", "layers/../../x.qcow2", "layers/.hidden.qcow2", "scripts/..", "scripts/.",
        "scripts/a/b", "scripts/a\nb", "scripts/\x1b[2J", "checkpoints/../state", "checkpoints/a/b/state",
        "checkpoints/a/tpm/../x", "disk.raw/x", "disk.raw\n", "bundle.json", "other", "", "secure-boot-keys/db.key",
    ],
)  # fmt: skip
def test_names_that_no_bundle_has(tmp_path: Path, name: str) -> None:
    """Names that lead elsewhere, or are none of a session's files, are refused before anything is written."""
    bundle = packed(tmp_path / "b", archive(_named(name), [*PLAIN, regular(name or "x", b"evil")]))
    assert "is no file of a bundle" in refused(bundle, tmp_path / "out")


def _with_runs(size: int, *runs: tuple[int, int]) -> bytes:
    """An archive whose last file has holes, as GNU tar would write it."""
    data = bytearray(GOOD)
    at = data.rindex(b"console.log")
    data[at + 156 : at + 157] = b"S"
    for number, run in enumerate(runs):
        data[at + 386 + 24 * number : at + 410 + 24 * number] = b"%011o\0%011o\0" % run
    data[at + 483 : at + 495] = b"\x80" + size.to_bytes(11, "big")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def _last(member: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """The archive with something else in its last file's place."""
    return archive(index(MEMBERS), [*PLAIN[:2], member])


def _damaged_record() -> bytes:
    """An archive that is what it says, with a record that says nothing."""
    members = MEMBERS | {"record.json": b"{}"}
    return archive(index(members), [regular(name, data) for name, data in members.items()])


GOOD = archive(index(MEMBERS), PLAIN)
TWICE = [*index(MEMBERS)["files"], index(MEMBERS)["files"][0]]
LOG = "console.log"
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no index": (lambda: GOOD[1536:], "a header that GNU tar does not write"),
    "another index": (lambda: archive({"schema": 1}, PLAIN), "required field missing"),
    "newer": (lambda: archive(index(MEMBERS, schema=2), PLAIN), "it has the format 2, and this vmharness reads 1"),
    "no plan": (lambda: archive(index({"record.json": b"x"}), PLAIN[:1]), "it has no plan.json"),
    "twice in the index": (lambda: archive(index(MEMBERS, files=TWICE), [*PLAIN, PLAIN[0]]), "is there twice"),
    "twice in the archive": (lambda: _last(PLAIN[0]), "in the place of console.log"),
    "one more": (lambda: archive(index(MEMBERS), [*PLAIN, PLAIN[0]]), "more files than"),
    "unnamed": (lambda: archive(index(MEMBERS), [regular("disk.raw", b"x"), *PLAIN]), "in the place of record.json"),
    "out of the folder": (lambda: _last(regular(f"../{LOG}", b"hello")), "in the place of"),
    "absolute": (lambda: _last(regular("/tmp/x", b"hello")), "in the place of"),
    "symbolic link": (lambda: _last(other(LOG, tarfile.SYMTYPE, "/etc/passwd")), "is a symbolic link"),
    "linked folder": (
        lambda: archive(index(MEMBERS), [other("layers", tarfile.SYMTYPE, "/tmp"), *PLAIN]),
        "is a symbolic link",
    ),
    "hard link": (lambda: _last(other(LOG, tarfile.LNKTYPE, "record.json")), "is a link"),
    "device": (lambda: _last(other(LOG, tarfile.CHRTYPE)), "is a device"),
    "block device": (lambda: _last(other(LOG, tarfile.BLKTYPE)), "is a device"),
    "pipe": (lambda: _last(other(LOG, tarfile.FIFOTYPE)), "is a pipe"),
    "folder": (lambda: _last(other(LOG, tarfile.DIRTYPE)), "is a folder"),
    "pax header": (lambda: archive(index(MEMBERS), PLAIN, tarfile.PAX_FORMAT), "GNU tar does not write"),
    "long name": (lambda: _last(regular("x" * 5000, b"")), "a name that is too long"),
    "name of bytes": (lambda: _last(regular("c\udcff.log", b"hello")), "a name that is not UTF-8 text"),
    "index of bytes": (lambda: GOOD.replace(b"debian", b"d\xffbian", 1), "bundle.json is not UTF-8 text"),
    "changed header": (lambda: GOOD.replace(b"plan.json\0", b"plan.jsom\0"), "GNU tar does not write"),
    "larger": (lambda: _last(regular(LOG, b"hello you")), "another size"),
    "other content": (lambda: _last(regular(LOG, b"hullo")), "its digest is another"),
    "huge with holes": (lambda: _with_runs(1 << 40, (0, 5)), "another size"),
    "overlapping parts": (lambda: _with_runs(5, (0, 3), (2, 2)), "lie over each other"),
    "parts outside": (lambda: _with_runs(5, (3, 5)), "or outside of it"),
    "other parts": (lambda: _with_runs(5, (0, 4)), "another size than its parts"),
    "missing": (lambda: archive(index(MEMBERS), PLAIN[:2]), "console.log is missing"),
    "cut in a file": (lambda: GOOD[: 512 * 5 + 100], "it ends too early"),
    "cut behind a file": (lambda: GOOD[: GOOD.rindex(b"hello") + 512], "it ends too early"),
    "something follows": (lambda: GOOD + b"x", "something follows"),
    "zeros follow": (lambda: GOOD + bytes(50 * MIB), "something follows"),
    "damaged record": (_damaged_record, "record.json cannot be read"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(tmp_path: Path, kind: str) -> None:
    """Whatever a stranger puts into an archive: one sentence, and nothing is left behind."""
    make, message = HOSTILE[kind]
    assert re.search(message, refused(packed(tmp_path / "b", make()), tmp_path / "out"))


def test_hostile_archives_are_refused_for_an_ordinary_user(tmp_path: Path) -> None:
    """No privilege is what keeps them out."""
    for number, (make, _message) in enumerate(HOSTILE.values()):
        packed(tmp_path / f"b{number}", make())

    def act() -> None:
        for number in range(len(HOSTILE)):
            with pytest.raises(SpecError):
                unpack(tmp_path / f"b{number}", tmp_path / "out")
        assert len(list(tmp_path.iterdir())) == len(HOSTILE)

    run_as_ordinary_user(tmp_path, act)


def test_more_than_there_is_room_for_is_refused(tmp_path: Path) -> None:
    """A bundle that says that it takes an exabyte is not begun with."""
    said = index(MEMBERS)
    said["files"][2] |= {"size": 1 << 45, "data": 1 << 45}
    said["files"] += [{**said["files"][2], "name": f"layers/{number}.qcow2"} for number in range(1000)]
    bundle = packed(tmp_path / "b", archive(said, PLAIN))
    with pytest.raises(HostError, match="are needed"):
        unpack(bundle, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
