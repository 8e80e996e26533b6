"""The scripts of ``[[run]]`` steps: copied into the run directory, or refused before anything is done."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vmharness.errors import SpecError
from vmharness.flows.scripts import copy_scripts
from vmharness.host.rundir import RunDirectory
from vmharness.plan.load import load

DEFINITION = '[image]\nname = "x"\n[root]\nsource = { minimal = true }\n[[run]]\nname = "a step"\nscript = "fix"\n'


def copied(folder: Path) -> RunDirectory:
    spec = load(DEFINITION, folder / "image.toml")
    directory = RunDirectory(path=folder / "run")
    directory.path.mkdir()
    file = copy_scripts(spec, directory)["a step"]
    data = directory.script("a step").read_bytes()
    assert (file.sha256, file.size) == (hashlib.sha256(data).hexdigest(), len(data))
    return directory


@pytest.mark.parametrize("data", [b"#!/bin/sh\nexit 0\n", b"#! /usr/bin/env python3\n", b"#!/x", b"\x7fELF\0\xff"])
def test_a_script_is_kept_with_the_run(tmp_path: Path, data: bytes) -> None:
    """It is copied as it is, executable or not, and known by its digest."""
    (tmp_path / "fix").write_bytes(data)
    assert copied(tmp_path).script("a step").read_bytes() == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            None,
            "cannot read the script .*/fix: No such file or directory\n  hint: a path is relative to the definition",
        ),
        (b"", "fix does not say what runs it\n  hint: begin it with the line '#!/bin/sh', say"),
        (b"echo hello\n", "fix does not say what runs it"),
        (b"#!/bin/sh\r\necho hello\r\n", "no program has the name in the first line of .*\n  hint: .* Windows"),
        (b"#!/bin/sh\n" + bytes(100), "fix is too large for a script .allowed: at most 100 B"),
    ],
)
def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None, words: str) -> None:
    """A file that is missing, or that the kernel could not start, in one sentence that names the key."""
    monkeypatch.setattr("vmharness.flows.scripts.LARGEST_FILE", 100)
    if data is not None:
        (tmp_path / "fix").write_bytes(data)
    with pytest.raises(SpecError, match=rf"image\.toml: run\[0\]\.script: .*{words}"):
        copied(tmp_path)


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    """Nor is anything else that cannot be read as a file."""
    (tmp_path / "fix").mkdir()
    with pytest.raises(SpecError, match=r"cannot read the script .*/fix: Is a directory"):
        copied(tmp_path)
