"""Archives as forward streams: opened, decompressed by what their first bytes say, read once from front to back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmharness.host import proc

_BUFFER = 1 << 20
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
)


class EndsEarly(Exception):
    """The stream ended where more bytes were announced."""


class Stream:
    """Bytes read once, from front to back, through one buffer. Enough of a file for :mod:`tarfile`.

    :param digest: is fed every byte.
    """

    def __init__(self, descriptor: int, digest: hashlib._Hash | None = None) -> None:
        self._descriptor = descriptor
        self._digest = digest
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._position = 0

    def tell(self) -> int:
        """Bytes read so far."""
        return self._position

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only at the end."""
        if self._end - self._start >= size:
            data = bytes(self._view[self._start : self._start + size])
            self._start += size
            self._position += size
            return data
        return b"".join(bytes(piece) for piece in self._pieces(size))

    def seek(self, position: int) -> None:
        """Skip forward to ``position``, an absolute one.

        :raises EndsEarly: it lies behind the end.
        """
        missing = position - self._position
        for piece in self._pieces(missing):
            missing -= len(piece)
        if missing:
            raise EndsEarly

    def copy(self, size: int, descriptor: int) -> None:
        """Write the next ``size`` bytes to an open file.

        :raises EndsEarly: there are fewer.
        """
        for piece in self._pieces(size):
            size -= len(piece)
            while piece:
                piece = piece[os.write(descriptor, piece) :]  # noqa: PLW2901 -- what is still to be written
        if size:
            raise EndsEarly

    def drain(self) -> None:
        """Read to the end, so that a decompressor gets to see its check sums."""
        for _piece in self._pieces(1 << 62):
            pass

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if self._start == self._end:
                self._start, self._end = 0, os.readv(self._descriptor, [self._buffer])
                if self._end == 0:
                    return
                if self._digest is not None:
                    self._digest.update(self._view[: self._end])
            count = min(size, self._end - self._start)
            piece = self._view[self._start : self._start + count]
            self._start += count
            self._position += count
            size -= count
            yield piece


def compression_of(path: Path) -> str | None:
    """The program that decompresses a file, by its first bytes; None if it is plain.

    :raises OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return decompressor(file.read(8))


def decompressor(start: bytes) -> str | None:
    """The program that decompresses what begins with these bytes (eight are enough); None if it is plain."""
    return next((program for magic, program in _MAGIC if start.startswith(magic)), None)


@contextmanager
def open_archive(path: Path) -> Iterator[Stream]:
    """An archive's plain bytes.

    :raises OSError: it cannot be read.
    :raises HostError: the decompressor is not installed, or says that the file is damaged.
    """
    program = compression_of(path)
    with path.open("rb", buffering=0) as file:
        if program is None:
            yield Stream(file.fileno())
            return
        with proc.pipe_from([program, "-d", "-c"], doing=f"decompressing {path}", stdin=file) as pipe:
            stream = Stream(pipe.fileno())
            yield stream
            stream.drain()
