"""The index of a staged tree: the metadata that are meant, where the staged files cannot carry them.

An ordinary user can neither give files away nor make device nodes. So an archive is unpacked as the user's own plain
files, and the owner, mode, times, device number and extended attributes of each go into an SQLite file: one row a
name, so that memory does not grow with the tree. What lays the tree on a disk reads them from there.

The entries of a huge directory are staged in many small ones, its chunks; the index knows which (:meth:`Index.place`).
"""

from __future__ import annotations

import json
import sqlite3
import stat
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from attrs import field, frozen

from vmharness.errors import HostError

# mode, uid, gid, device number; then access, modification and change time as seconds and nanoseconds
_RECORD = struct.Struct("<IIIQ qI qI qI")
_SECOND = 1_000_000_000
_SCHEMA = """
CREATE TABLE entry (parent BLOB, name BLOB, record BLOB NOT NULL, PRIMARY KEY (parent, name)) WITHOUT ROWID;
CREATE TABLE spread (parent BLOB PRIMARY KEY, place BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE chunk (parent BLOB, first BLOB, place BLOB NOT NULL, PRIMARY KEY (parent, first)) WITHOUT ROWID;
"""
_DUPLICATE = """
INSERT OR REPLACE INTO entry SELECT ?, ?, record FROM entry WHERE parent = ? AND name = ?
"""
_LAYER = (
    "CREATE TEMP TABLE IF NOT EXISTS fresh (parent BLOB, name BLOB, PRIMARY KEY (parent, name)) WITHOUT ROWID",
    """
    CREATE TEMP TRIGGER IF NOT EXISTS note AFTER INSERT ON entry
    BEGIN INSERT OR IGNORE INTO fresh VALUES (new.parent, new.name); END
    """,
    "DELETE FROM fresh",
)


@frozen(kw_only=True)
class Metadata:
    """What a file is, apart from its data.

    :param mode: type and permission bits, as in ``st_mode``.
    :param device: number of a device node, as in ``st_rdev``.
    :param atime: access time, nanoseconds since the epoch; the others alike.
    :param xattrs: extended attributes, full names (``security.capability``) and values as the kernel hands them out.
    """

    mode: int
    uid: int
    gid: int
    atime: int
    mtime: int
    ctime: int
    device: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = field(default=())

    @property
    def is_device(self) -> bool:
        """Whether it is a device node, block or character."""
        return stat.S_ISBLK(self.mode) or stat.S_ISCHR(self.mode)


LOST_AND_FOUND = b"lost+found"  # of the root: mke2fs makes it itself


class Index:
    """An open index. Names are bytes; a parent is a path relative to the root, which itself is ``(b"", b"")``."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, parent: bytes, name: bytes, metadata: Metadata) -> None:
        """Record one file; an earlier record of the same name is replaced."""
        self._database.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (parent, name, _pack(metadata)))

    def duplicate(self, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> None:
        """Record ``new`` as another name (parent and name) of ``old``."""
        self._database.execute(_DUPLICATE, (*new, *old))

    def remove(self, parent: bytes, name: bytes) -> None:
        """Forget one file."""
        self._database.execute("DELETE FROM entry WHERE parent = ? AND name = ?", (parent, name))

    def get(self, parent: bytes, name: bytes) -> Metadata | None:
        """One file's metadata, or None."""
        query = "SELECT record FROM entry WHERE parent = ? AND name = ?"
        row = self._database.execute(query, (parent, name)).fetchone()
        return None if row is None else _unpack(row[0])

    def begin_layer(self) -> None:
        """Remember what is put from now on, until the next call, for :meth:`is_new`; on the disk, not in memory."""
        for statement in _LAYER:  # not executescript, which ends the transaction
            self._database.execute(statement)

    def is_new(self, parent: bytes, name: bytes) -> bool:
        """Whether a file was put since the last :meth:`begin_layer`."""
        query = "SELECT 1 FROM fresh WHERE parent = ? AND name = ?"
        return self._database.execute(query, (parent, name)).fetchone() is not None

    def count(self, parent: bytes) -> int:
        """How many names a directory holds."""
        query = "SELECT count(*) FROM entry WHERE parent = ? AND name != x''"
        found: int = self._database.execute(query, (parent,)).fetchone()[0]
        return found

    def names(self, parent: bytes) -> Iterator[bytes]:
        """The names that a directory holds, sorted."""
        query = "SELECT name FROM entry WHERE parent = ? AND name != x'' ORDER BY name"
        for (name,) in self._database.execute(query, (parent,)):
            yield name

    def crowded(self, most: int) -> list[bytes]:
        """The paths of the directories that hold more than ``most`` names."""
        query = "SELECT parent FROM entry WHERE name != x'' GROUP BY parent HAVING count(*) > ?"
        return [parent for (parent,) in self._database.execute(query, (most,))]

    def put_spread(self, parent: bytes, place: bytes) -> None:
        """Record that a directory's entries are staged in chunks, in the directory ``place`` of the staged data."""
        self._database.execute("INSERT INTO spread VALUES (?, ?)", (parent, place))

    def put_chunk(self, parent: bytes, first: bytes, place: bytes) -> None:
        """Record that a directory's names from ``first`` on, up to the next chunk's, are staged in ``place``."""
        self._database.execute("INSERT INTO chunk VALUES (?, ?, ?)", (parent, first, place))

    def spreads(self) -> list[tuple[bytes, bytes]]:
        """The directories whose entries are staged in chunks: path in the tree, and where the chunks lie."""
        return self._database.execute("SELECT parent, place FROM spread ORDER BY parent").fetchall()

    def place(self, path: bytes) -> bytes:
        """Where the staged data have a path of the tree (without links), relative to their root."""
        names = path.split(b"/")
        if self._database.execute("SELECT 1 FROM spread WHERE place = ?", (names[0] + b"/0",)).fetchone():
            return names[0] + b"/" + path  # the chunks' own folder is not in the tree: point to where nothing is
        query = "SELECT place FROM chunk WHERE parent = ? AND first <= ? ORDER BY first DESC LIMIT 1"
        at = parent = b""
        for name in names:
            row = None
            if parent or name != LOST_AND_FOUND:
                row = self._database.execute(query, (parent, name)).fetchone()
            at = b"/".join(part for part in (row[0] if row else at, name) if part)
            parent = parent + b"/" + name if parent else name
        return at

    def with_xattrs(self) -> Iterator[Metadata]:
        """The metadata of every name that has extended attributes."""
        query = "SELECT record FROM entry WHERE length(record) > ?"
        for (record,) in self._database.execute(query, (_RECORD.size,)):
            yield _unpack(record)


@contextmanager
def create(path: Path) -> Iterator[Index]:
    """A new index that is being filled; it is complete when the block ends without an error.

    :raises HostError: it cannot be written.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            # half an index is never used: it is made aside and renamed with its tree
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = OFF")
            database.executescript(_SCHEMA)
            database.execute("BEGIN")
            yield Index(database)
            database.execute("COMMIT")
    except sqlite3.Error as error:
        raise HostError(
            f"cannot write the tree's index {path}: {error}",
            hint="free some space, or point TMPDIR and XDG_CACHE_HOME to a larger disk",
        ) from error


@contextmanager
def read(path: Path) -> Iterator[Index]:
    """An index that is read only.

    :raises HostError: it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            yield Index(database)
    except sqlite3.Error as error:
        raise HostError(
            f"cannot read the tree's index {path}: {error}", hint=f"delete {path.parent}; it is made again"
        ) from error


def _pack(metadata: Metadata) -> bytes:
    fixed = _RECORD.pack(
        metadata.mode,
        metadata.uid,
        metadata.gid,
        metadata.device,
        *divmod(metadata.atime, _SECOND),
        *divmod(metadata.mtime, _SECOND),
        *divmod(metadata.ctime, _SECOND),
    )
    if not metadata.xattrs:
        return fixed
    # Latin-1 maps each byte to one character and back
    text = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in metadata.xattrs]
    return fixed + json.dumps(text).encode()


def _unpack(record: bytes) -> Metadata:
    mode, uid, gid, device, *times = _RECORD.unpack_from(record)
    tail = record[_RECORD.size :]
    return Metadata(
        mode=mode,
        uid=uid,
        gid=gid,
        device=device,
        atime=times[0] * _SECOND + times[1],
        mtime=times[2] * _SECOND + times[3],
        ctime=times[4] * _SECOND + times[5],
        xattrs=tuple((n.encode("latin-1"), v.encode("latin-1")) for n, v in json.loads(tail)) if tail else (),
    )
