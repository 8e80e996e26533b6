"""Versions of the programs that a run uses.

Asking a program costs from 5 ms to 0.3 s, and its answer changes only with its file, so answers are kept in the cache.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vmharness.errors import HostError
from vmharness.host import cache, proc

_QUESTIONS = {
    **dict.fromkeys(("mke2fs", "e2fsck", "debugfs", "tune2fs", "dumpe2fs"), "-V"),
    **dict.fromkeys(("mkfs.vfat", "busybox"), "--help"),
}
"""How a program is asked; ``--version`` where it is not named."""

_PYTHON_PACKAGES = {"virt-fw-vars": "virt-firmware"}
"""Programs that do not tell their version, and the Python package that does."""

_SECONDS = 10.0


def version_of(program: str) -> str:
    """Version of ``program``, such as ``7.2.22``; "unknown" when the program does not say.

    :raises HostError: the program is not installed.
    """
    path = proc.require(program)

    def make(folder: Path) -> None:
        (folder / "version").write_text(_ask(program, path))

    try:
        entry = cache.entry("versions", cache.key_of([program, identity(path)]), make)
    except HostError:
        return _ask(program, path)  # the cache cannot be written: slower, not wrong
    return (entry / "version").read_text()


def identity(path: Path) -> dict[str, Any]:
    """What tells one build of a program's file from another: real path, size and time of change."""
    real = path.resolve()
    status = real.stat()
    return {"path": str(real), "size": status.st_size, "mtime": status.st_mtime_ns}


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``7.2.22`` becomes ``(7, 2, 22)``."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _ask(program: str, path: Path) -> str:
    if program in _PYTHON_PACKAGES:
        return _distribution_version(_PYTHON_PACKAGES[program])
    done = proc.run_within([path, _QUESTIONS.get(program, "--version")], seconds=_SECONDS)
    if done is None:
        return "unknown"
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    found = re.search(r"(?<![\w.])v?(\d+(?:\.\d+)+)", said)
    return found.group(1) if found else "unknown"


def _distribution_version(package: str) -> str:
    from importlib import metadata  # noqa: PLC0415 -- it costs as much as all else here, and is rarely asked

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
