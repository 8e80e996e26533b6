"""Where the pieces of a container image lie: files of a folder, or ranges of an archive."""

from __future__ import annotations

import hashlib
import os
import posixpath
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from attrs import frozen

from vmharness.errors import HostError
from vmharness.host import cache, proc
from vmharness.tree.member import parts_of, raw, shown
from vmharness.tree.staging import NO_SPACE, SPACE_HINT
from vmharness.tree.stream import Stream, compression_of, decompressor, open_archive
from vmharness.tree.unpack import Damaged, Headers, Refused

_PIECE = 1 << 20
_MOST_LINKS = 8


@frozen(kw_only=True)
class Blob:
    """``size`` bytes of a file from ``offset`` on."""

    path: Path
    offset: int
    size: int

    def read(self, size: int) -> bytes:
        """The first ``size`` bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(min(size, self.size))

    def digest(self, algorithm: str) -> str:
        """Its digest as hexadecimal text, by an algorithm of :mod:`hashlib`."""
        digest, left = hashlib.new(algorithm), self.size
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            while left and (piece := file.read(min(left, _PIECE))):
                digest.update(piece)
                left -= len(piece)
        return digest.hexdigest()


class Store(Protocol):
    """Finds pieces by the names that an image gives them."""

    def find(self, name: str) -> Blob | None:
        """The piece of this name, relative and with ``/``; None if it is not there."""


@frozen
class FolderStore:
    """The files below a folder. Symbolic links are followed: they are the user's own."""

    folder: Path

    def find(self, name: str) -> Blob | None:
        """The file of this name."""
        path = self.folder / posixpath.join(*_parts(name), "")
        return Blob(path=path, offset=0, size=path.stat().st_size) if path.is_file() else None


@frozen
class ArchiveStore:
    """The members of a plain tar archive: blobs, and the names that links lead to (older ``docker save`` has some)."""

    members: dict[str, Blob | str]

    def find(self, name: str) -> Blob | None:
        """The member of this name."""
        found: Blob | str | None = "/".join(_parts(name))
        for _link in range(_MOST_LINKS):
            if not isinstance(found, str):
                return found
            found = self.members.get(found)
        return None


def open_store(path: Path) -> Store:
    """The pieces of an image at ``path``: a folder, or an archive; a packed archive is unpacked into the cache first.

    :raises Damaged: the archive is damaged, or none.
    :raises Refused: it has members that cannot be the pieces of an image.
    :raises OSError: it cannot be read.
    :raises HostError: the decompressor is not installed, or says that the archive is damaged; the cache is full.
    """
    if path.is_dir():
        return FolderStore(path)
    if compression_of(path) is not None:
        path = _unpacked(path)
    return ArchiveStore(_members(path))


@contextmanager
def plain_bytes(blob: Blob, digest: hashlib._Hash, *, what: str) -> Iterator[Stream]:
    """A blob's bytes, decompressed by what its first bytes say.

    :param digest: is fed every plain byte; all of them when the block has ended.
    :param what: the blob's name for messages.
    :raises OSError: it cannot be read.
    :raises HostError: the decompressor is not installed, or says that the blob is damaged.
    """
    program = decompressor(blob.read(8))
    with _fed(blob) as source:
        if program is None:
            stream = Stream(source.fileno(), digest)
            yield stream
            stream.drain()
            return
        with proc.pipe_from([program, "-d", "-c"], doing=f"decompressing {what}", stdin=source) as pipe:
            source.close()  # the program alone reads now: when it ends early, the feeding does, too
            stream = Stream(pipe.fileno(), digest)
            yield stream
            stream.drain()


@contextmanager
def _fed(blob: Blob) -> Iterator[IO[bytes]]:
    """A pipe from which exactly a blob's bytes can be read, however much of the file comes behind them."""
    reader, writer = os.pipe()
    failures: list[OSError] = []

    def feed() -> None:
        position, end = blob.offset, blob.offset + blob.size
        try:
            with blob.path.open("rb", buffering=0) as file:
                while position < end:
                    count = os.sendfile(writer, file.fileno(), position, min(end - position, _PIECE))
                    if count == 0:
                        return
                    position += count
        except BrokenPipeError:
            pass  # whoever read has seen enough
        except OSError as error:
            failures.append(error)
        finally:
            os.close(writer)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        with os.fdopen(reader, "rb", buffering=0) as source:
            yield source
    finally:
        feeder.join()
    if failures:
        raise failures[0]


def _unpacked(path: Path) -> Path:
    """The plain archive of a packed one, in the cache."""
    digest = cache.remembered_digest(path)
    try:
        return cache.entry("unpacked", digest, lambda folder: _unpack(path, folder)) / "plain"
    except OSError as error:
        what = f"unpacking {path} into the cache {cache.root()}: {error.strerror}"
        raise HostError(what, hint=SPACE_HINT if error.errno in NO_SPACE else None) from error


def _unpack(path: Path, folder: Path) -> None:
    with open_archive(path) as stream, (folder / "plain").open("wb") as plain:
        while piece := stream.read(_PIECE):
            plain.write(piece)


def _members(path: Path) -> dict[str, Blob | str]:
    """The files of an archive, and the names that its links lead to."""
    members: dict[str, Blob | str] = {}
    end = path.stat().st_size
    with path.open("rb") as file:
        headers = Headers(file)
        while (info := headers.next_member()) is not None:
            try:
                name = "/".join(_parts(info.name))
                if info.isreg() and info.sparse is None:
                    if info.offset_data + info.size > end:
                        raise Damaged(f"ends within the member {shown(raw(info.name))}")
                    members[name] = Blob(path=path, offset=info.offset_data, size=info.size)
                elif info.issym():
                    members[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), info.linkname))
                elif info.islnk():
                    members[name] = "/".join(_parts(info.linkname))
            except ValueError as error:
                raise Refused(f"the member {shown(raw(info.name))} {error}") from error
    return members


def _parts(name: str) -> list[str]:
    """The components of a name.

    :raises ValueError: with a sentence, if it is absolute, leads outside, or is none.
    """
    if "\0" in name:
        raise ValueError("has a zero byte in its path")
    return [os.fsdecode(part) for part in parts_of(raw(name))]
