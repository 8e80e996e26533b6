"""Outputs that appear whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmharness.errors import HostError, SpecError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_MARK = "manifest.json"


def require_publishable(output: Path) -> None:
    """Refuse early to replace a folder that is not ours.

    :raises SpecError: ``output`` is a file, or a folder with content that no build has made.
    """
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / _MARK).is_file()):
        raise SpecError(
            f"{output} is there already and is not the output of a build; it will not be replaced",
            origin="<command line>",
            key="--output",
            allowed="a new folder, or one that an earlier build made",
        )


@contextmanager
def published(output: Path) -> Iterator[Path]:
    """A fresh folder beside ``output`` that takes its place, in one rename, when the block ends well.

    The caller syncs what it writes; where it leaves no manifest, nothing is published. An earlier output stays complete
    until the very moment of the exchange; when the block fails, nothing of the new one is left.

    :raises HostError: the folder cannot be written.
    :raises SpecError: what has come to lie at ``output`` meanwhile is not ours.
    """
    output = output.resolve()  # a link to a folder stays, and the folder behind it is replaced
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        aside.chmod(0o755)
    except OSError as error:
        raise HostError(f"cannot write to {output.parent}: {error.strerror}") from error
    try:
        yield aside
        if not (aside / _MARK).is_file():
            return  # the caller thought better of it
        _sync_folder(aside)
        if output.exists():
            require_publishable(output)
            _exchange(aside, output)
        else:
            aside.rename(output)
        _sync_folder(output.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        # Filesystems without the exchange: the gap between the two renames is as short as it can be.
        old = one.with_name(f"{one.name}.old")
        other.rename(old)
        one.rename(other)
        shutil.rmtree(old, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
