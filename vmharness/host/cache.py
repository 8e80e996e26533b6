"""The cache: finished pieces under ``$XDG_CACHE_HOME/vmharness``, found by what they were made of.

An entry is a folder ``<kind>/<key>``. It is made beside its place and renamed, so a reader never sees half of one. Each
entry has a lock file, which also notes its size: whoever makes or removes the entry holds it alone, whoever uses the
entry holds it together with the others, until its process ends. So two builds never make the same entry, no entry goes
away while it is used, and what a killed process leaves behind (a half-made folder that nobody holds) is known as such.
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

from attrs import frozen

from vmharness.errors import HostError, SpecError
from vmharness.model.sizes import GIB, parse_size

DEFAULT_LIMIT = 20 * GIB

_LOCK = ".lock"
_DEPTHS = ("*", "*/*")  # a kind has one or two parts
_in_use: dict[Path, int] = {}
"""Locks that this process holds on the entries that it uses, until it ends."""


@frozen(kw_only=True)
class Entry:
    """One entry: its kind, its key, its bytes on the disk, and when it was last used (seconds since the epoch)."""

    kind: str
    key: str
    place: Path
    size: int
    last_used: float


def root() -> Path:
    """The cache's folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base).absolute() / "vmharness"


def limit() -> int:
    """Bytes that the cache may hold: ``$VMHARNESS_CACHE_LIMIT``, or :data:`DEFAULT_LIMIT`.

    :raises SpecError: the variable is no size.
    """
    wanted = os.environ.get("VMHARNESS_CACHE_LIMIT")
    if not wanted:
        return DEFAULT_LIMIT
    try:
        return parse_size(wanted)
    except ValueError as error:
        raise SpecError(str(error), origin="<environment>", key="VMHARNESS_CACHE_LIMIT", allowed="20G") from error


def key_of(facts: Any) -> str:
    """A key from everything that an entry is made of: any JSON value, in canonical form."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text; reads in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_digest(path: Path) -> str:
    """SHA-256 of a file, read again only when the file has changed: its size, inode, or one of its times.

    A time can be set back, but the inode's change time cannot.
    """
    status = path.stat()
    identity = [str(path.absolute()), status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]

    def make(folder: Path) -> None:
        (folder / "sha256").write_text(digest_of(path))

    return (entry("digest", key_of(identity), make) / "sha256").read_text()


def entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of the entry ``kind``/``key``; made by ``make(empty folder)`` if it is not there.

    It stays until this process ends, whatever other processes remove.

    :raises HostError: the cache cannot be written.
    """
    place = root() / kind / key
    found = existing(place)
    if found is not None:
        return found
    with _made_alone(place) as missing:
        if missing:
            aside = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=place.parent))
            try:
                make(aside)
                size = _size_of(aside)
                aside.rename(place)
                _lock_path(place).write_text(str(size))
            except BaseException:
                _remove_folder(aside)
                raise
    trim(limit())
    return place


def existing(place: Path) -> Path | None:
    """The entry at ``place``, in use by this process from now on; None if it is not there."""
    if place not in _in_use:
        if not place.is_dir():
            return None
        lock = _open_lock(place)
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not place.is_dir():  # removed while we waited
            os.close(lock)
            return None
        _in_use[place] = lock
    os.utime(_lock_path(place))
    return place


def discard(place: Path) -> None:
    """Remove an entry that turned out to be unusable; nothing happens while another process uses it."""
    held = _in_use.pop(place, None)
    if held is not None:
        os.close(held)
    if place.is_dir():
        with _alone(place) as free:
            if free:
                _remove_folder(place)


def entries() -> list[Entry]:
    """Every entry, least recently used first."""
    found = []
    for lock in _matching(f"[!.]*{_LOCK}"):
        place = lock.with_name(lock.name.removesuffix(_LOCK))
        if place.is_dir():
            kind, noted = str(place.parent.relative_to(root())), lock.read_text()
            size = int(noted) if noted.isdecimal() else _size_of(place)
            found.append(Entry(kind=kind, key=place.name, place=place, size=size, last_used=lock.stat().st_mtime))
    return sorted(found, key=lambda item: item.last_used)


def trim(most: int) -> int:
    """Remove what killed processes left behind, then entries, least recently used first, until ``most`` bytes are left.

    Entries in use stay.

    :returns: bytes removed.
    """
    _remove_leftovers()
    known = entries()
    total = sum(item.size for item in known)
    removed = 0
    for item in known:
        if total - removed <= most:
            break
        with _alone(item.place) as free:
            if free:
                _remove_folder(item.place)
                removed += item.size
    return removed


def _remove_leftovers() -> None:
    """Half-made folders (``.KEY.RANDOM``) whose makers are gone: nobody holds the entry's lock."""
    for folder in _matching(".*.*"):
        place = folder.with_name(folder.name[1:].rpartition(".")[0])
        if folder.is_dir() and _lock_path(place).exists():
            with _alone(place) as free:
                if free:
                    _remove_folder(folder)


def _matching(pattern: str) -> list[Path]:
    return [path for depth in _DEPTHS for path in root().glob(f"{depth}/{pattern}")]


@contextmanager
def _made_alone(place: Path) -> Iterator[bool]:
    """Hold the entry's lock alone for making it; gives whether it is still missing. Afterwards it is in use."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _open_lock(place)
    except OSError as error:
        raise HostError(
            f"cannot write the cache {place.parent}: {error.strerror}",
            hint="set XDG_CACHE_HOME to a directory that you may write",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not place.is_dir()
        fcntl.flock(lock, fcntl.LOCK_SH)
    except BaseException:
        os.close(lock)
        raise
    _in_use[place] = lock


@contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Hold the entry's lock alone if nobody else holds it; gives whether that is so."""
    lock = _open_lock(place)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


def _open_lock(place: Path) -> int:
    return os.open(_lock_path(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock_path(place: Path) -> Path:
    return place.with_name(place.name + _LOCK)


def _size_of(folder: Path) -> int:
    """Bytes that a folder takes on the disk, hard links once."""
    seen: set[int] = set()
    total = 0
    for base, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(base, name))  # noqa: PTH118 -- names of any bytes, many of them
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total


def _remove_folder(folder: Path) -> None:
    """Delete an entry, also where its directories deny writing."""
    for base, folders, _files in os.walk(os.fsencode(folder)):
        for name in folders:
            path = Path(os.fsdecode(base), os.fsdecode(name))
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
