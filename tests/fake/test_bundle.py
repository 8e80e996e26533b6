"""Failure bundles: packed whole, unpacked as a stranger's."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bundles import (
    LAYER,
    MEMBERS,
    MIB,
    RECORD,
    SECRETS,
    archive,
    contents,
    index,
    packed,
    refused,
    regular,
    run_directory,
)
from click.testing import CliRunner
from unprivileged import run_as_ordinary_user

from vmharness.cli.main import cli
from vmharness.disk import image
from vmharness.errors import HostError, SpecError, VmharnessError
from vmharness.flows.bundle import default_target, pack, unpack
from vmharness.host import sparse
from vmharness.model.record import from_json

PLAIN = [regular(name, data) for name, data in MEMBERS.items()]


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    """All files that a session needs come out as they were, and no others; the disk's holes are holes again."""
    source = run_directory(tmp_path / "run")
    bundle = pack(source, tmp_path / "a b,c.vmbundle")
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert bundle.stat().st_size < MIB
    bundle.chmod(0o400)
    out = unpack(bundle, tmp_path / "out")
    assert out == tmp_path / "out"
    assert contents(out) == {name: what for name, what in contents(source).items() if name not in SECRETS}
    assert (out / "disk.raw").stat().st_blocks * 512 < 2 * MIB
    for path in (out, *out.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b,c.vmbundle", "out", "run"]


def test_room_that_was_never_written(tmp_path: Path) -> None:
    """What is allocated, never written, and shows as data once it was read, is packed and unpacked as nothing."""
    source = run_directory(tmp_path / "run")
    with (source / "disk.raw").open("r+b") as file:
        file.write(os.urandom(8 * MIB))
        os.posix_fallocate(file.fileno(), 8 * MIB + 4096, MIB)  # within what is read ahead
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    out = unpack(pack(source, tmp_path / "a.vmbundle"), tmp_path / "out")
    assert sparse.digest(out / "disk.raw") == sparse.digest(source / "disk.raw")


def test_another_user_opens_it_elsewhere(tmp_path: Path) -> None:
    """A bundle that was moved to another folder opens for another user, who then owns what comes out."""
    bundle = pack(run_directory(tmp_path / "run"), tmp_path / "x.vmbundle")
    (tmp_path / "user").mkdir()
    moved = bundle.rename(tmp_path / "user/y")

    def act() -> None:
        out = unpack(moved, moved.parent / "out")
        assert from_json((out / "record.json").read_text()) == RECORD
        again = pack(out, moved.parent / "again")
        assert contents(unpack(again, moved.parent / "out2")) == contents(out)

    run_as_ordinary_user(tmp_path / "user", act)


def test_files_that_are_one_are_packed_as_two(tmp_path: Path) -> None:
    """Checkpoints may share files through hard links; links are not what bundles hold."""
    source = run_directory(tmp_path / "run")
    (source / "checkpoints/002-failed-04").mkdir()
    os.link(source / "checkpoints/001-before-04/state", source / "checkpoints/002-failed-04/state")
    out = unpack(pack(source, tmp_path / "b"), tmp_path / "out")
    assert (out / "checkpoints/002-failed-04/state").read_text() == "s" * 70_000


def test_a_folder_that_is_no_stopped_build_is_refused(tmp_path: Path) -> None:
    """Other folders, damaged records and files in disguise are refused in a sentence, and nothing is made."""
    with pytest.raises(SpecError, match=r"record\.json is missing"):
        pack(tmp_path, tmp_path / "b")
    with pytest.raises(SpecError, match=r"record\.json is missing"):
        pack(tmp_path / "nowhere", tmp_path / "b")
    source = run_directory(tmp_path / "run")
    (source / "qmp.log").symlink_to("/etc/passwd")
    with pytest.raises(SpecError, match=r"qmp\.log is no plain file"):
        pack(source, tmp_path / "b")
    (source / "qmp.log").unlink()
    (source / "plan.json").unlink()
    with pytest.raises(SpecError, match=r"plan\.json is missing"):
        pack(source, tmp_path / "b")
    (source / "record.json").write_text("{}")
    with pytest.raises(SpecError, match="'schema' is missing"):
        pack(source, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A bundle that is there stays."""
    source = run_directory(tmp_path / "run")
    (tmp_path / "b").write_text("mine")
    with pytest.raises(SpecError, match="is there already"):
        pack(source, tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"
    with pytest.raises(HostError, match="cannot pack"):
        pack(source, tmp_path / "nowhere/b")


def test_a_run_that_goes_on_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is written to while it is packed would not be what its digest says."""
    source = run_directory(tmp_path / "run")
    from vmharness.flows import bundle as flow  # noqa: PLC0415 -- its parts are replaced

    really = flow._archive

    def meanwhile(*arguments: Any) -> None:
        really(*arguments)
        with (source / "console.log").open("a") as file:
            file.write("more\n")

    monkeypatch.setattr(flow, "_archive", meanwhile)
    with pytest.raises(HostError, match="changed while it was packed"):
        pack(source, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_files_that_are_no_bundles(tmp_path: Path) -> None:
    """Other files, empty ones, folders and missing ones are named."""
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    assert "no archive in zstd" in refused(tmp_path / "text", tmp_path / "out")
    assert "no archive in zstd" in refused(tmp_path / "empty", tmp_path / "out")
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(VmharnessError, match=r"cannot be read|cannot unpack"):
            unpack(path, tmp_path / "out")
    assert "ends too early" in refused(packed(tmp_path / "zeros", b""), tmp_path / "out")


@pytest.mark.parametrize("cut", [1, 3, 100, 1000])
def test_a_truncated_bundle_is_refused(tmp_path: Path, cut: int) -> None:
    """Whether a byte or half of it is missing at its end."""
    bundle = pack(run_directory(tmp_path / "run"), tmp_path / "b")
    os.truncate(bundle, bundle.stat().st_size - cut)
    assert "cannot be opened" in refused(bundle, tmp_path / "out")


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_damaged_bundle_is_refused(tmp_path: Path, place: float) -> None:
    """A flipped bit anywhere is found."""
    bundle = pack(run_directory(tmp_path / "run"), tmp_path / "b")
    data = bytearray(bundle.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    bundle.write_bytes(data)
    refused(bundle, tmp_path / "out")


def test_an_overlay_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """An overlay that names a backing file of the host is refused with the bundle, before any QEMU sees it."""
    source = run_directory(tmp_path / "run")
    argv = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-u",
        "-b",
        "/etc/passwd",
        "-F",
        "raw",
        str(source / LAYER),
        "1M",
    ]
    subprocess.run(argv, check=True)
    assert "target-1.qcow2: the qcow2 image is refused: it names a backing file" in refused(
        pack(source, tmp_path / "b"), tmp_path / "out"
    )


@pytest.mark.usefixtures("nothing_left_behind")
def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a bundle is packed or unpacked: no half of it stays, nor a process."""
    source = run_directory(tmp_path / "run")
    bundle = pack(source, tmp_path / "b")

    def interrupted(*_arguments: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sparse, "digest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unpack(bundle, tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(image, "sync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(source, tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "run"]


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    """A session's folder is its own."""
    bundle = packed(tmp_path / "b", archive(index(MEMBERS), PLAIN))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(HostError, match="cannot unpack"):
        unpack(bundle, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "mine", "out"]


def test_the_verb_packs_beside_the_run_directory(tmp_path: Path) -> None:
    """Without -o the bundle lies beside the folder; --json says where, and how large it is."""
    source = run_directory(tmp_path / "run-x1")
    done = CliRunner().invoke(cli, ["bundle", str(source), "--json"])
    bundle = tmp_path / "run-x1.vmbundle"
    assert json.loads(done.output) == {"bundle": str(bundle), "size": bundle.stat().st_size}
    assert default_target(source) == bundle
    done = CliRunner().invoke(cli, ["bundle", str(source), "-o", str(tmp_path / "other")])
    assert done.output.startswith(f"{tmp_path}/other (")
    assert CliRunner().invoke(cli, ["bundle", str(tmp_path)]).exit_code == 2
