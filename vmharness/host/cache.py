"""The cache: finished pieces under ``$XDG_CACHE_HOME/vmharness``, found by what they were made of.

An entry is a folder ``<kind>/<key>``. It is made beside its place and renamed, so a reader never sees half of one; a
lock on the entry keeps two builds from making it twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmharness.errors import HostError


def root() -> Path:
    """The cache's folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "vmharness"


def key_of(facts: Any) -> str:
    """A key from everything that an entry is made of: any JSON value, in canonical form."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text; reads in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of the entry ``kind``/``key``; made by ``make(empty folder)`` if it is not there.

    :raises HostError: the cache cannot be written.
    """
    place = root() / kind / key
    if place.is_dir():
        return place
    with _locked(place):
        if place.is_dir():
            return place
        aside = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=place.parent))
        try:
            make(aside)
            aside.rename(place)
        except BaseException:
            _remove(aside)
            raise
    return place


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(place.parent / f"{place.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(
            f"cannot write the cache {place.parent}: {error.strerror}",
            hint="set XDG_CACHE_HOME to a directory that you may write",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Delete a half-made entry, also where its directories deny writing."""
    for base, folders, _files in os.walk(os.fsencode(folder)):
        for name in folders:
            path = Path(os.fsdecode(base), os.fsdecode(name))
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
