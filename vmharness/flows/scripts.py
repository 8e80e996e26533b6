"""The scripts of steps that a definition declares: looked at before anything is done, and kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vmharness.errors import SpecError
from vmharness.host.rundir import RunDirectory
from vmharness.model.image import ImageSpec
from vmharness.model.sizes import format_size
from vmharness.model.steps import LARGEST_FILE, StepFile
from vmharness.plan.run_steps import step_file


def copy_scripts(spec: ImageSpec, directory: RunDirectory) -> Mapping[str, StepFile]:
    """Copy the scripts into the run directory, from which they go into the guest.

    :returns: what they are, by their steps' names.
    :raises SpecError: one cannot be read, or the kernel could not start it.
    """
    files = {}
    for number, declared in enumerate(spec.run):
        if declared.script is None:
            continue
        data = _read(declared.script, str(spec.origin), f"run[{number}].script")
        directory.scripts.mkdir(exist_ok=True)
        directory.script(declared.name).write_bytes(data)
        files[declared.name] = step_file(declared.name, data)
    return files


def _read(path: Path, origin: str, key: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = "a path is relative to the definition"
        raise SpecError(f"cannot read the script {path}: {why}", None, hint, origin, key) from error
    if len(data) > LARGEST_FILE:
        allowed = f"at most {format_size(LARGEST_FILE)}"
        raise SpecError(f"{path} is too large for a script", None, None, origin, key, allowed)
    if not data.startswith((b"#!", b"\x7fELF")):
        hint = "begin it with the line '#!/bin/sh', say"
        raise SpecError(f"{path} does not say what runs it", None, hint, origin, key)
    if data.startswith(b"#!") and data.partition(b"\n")[0].endswith(b"\r"):
        hint = "it has the line ends of Windows; remove the carriage returns"
        raise SpecError(f"no program has the name in the first line of {path}", None, hint, origin, key)
    return data
