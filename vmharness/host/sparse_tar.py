"""A reader for tar archives of regular files with holes, as GNU tar writes them, that trusts nothing.

Python's own reader takes more than is wanted here: links, devices, headers that go into memory whatever their size.
This one knows regular files and names, and refuses all else. The format is that of ``tar --format=gnu``:
https://www.gnu.org/software/tar/manual/html_node/Standard.html
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import IO

from attrs import frozen

from vmharness.model.text import printable

_BLOCK = 512
_PIECE = 1 << 20
_MAGIC = b"ustar  \0"
_REGULAR, _SPARSE, _LONG_NAME = b"0", b"S", b"L"
_KINDS = {b"1": "a link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a folder", b"6": "a pipe"}
_LONGEST_NAME = 4096
_MOST_RUNS = 1 << 22
_MOST_PADDING = 1 << 20
_OCTAL = re.compile(rb" *([0-7]{1,22})[ \0]*")

# The fields of a header block, and of the block that goes on with a list of runs: their begins and ends.
_NAME, _SIZE, _CHECKSUM, _KIND, _WHICH = (
    slice(0, 100),
    slice(124, 136),
    slice(148, 156),
    slice(156, 157),
    slice(257, 265),
)
_RUNS, _MORE, _REAL_SIZE = slice(386, 482), 482, slice(483, 495)
_MORE_RUNS, _STILL_MORE = slice(0, 504), 504


class BadArchive(ValueError):
    """The archive is damaged, or none of ours; the text is a sentence."""


@frozen(kw_only=True)
class Member:
    """A file in an archive.

    :param size: bytes, with its holes.
    :param runs: begin and length of each run of data, one after the other, ascending.
    """

    name: str
    size: int
    runs: array[int]

    @property
    def data(self) -> int:
        """Bytes of data."""
        return sum(self.runs[1::2])


class Reader:
    """Reads an archive from its beginning to its end.

    :param stream: its bytes, decompressed. No more is read of it than the members' sizes say.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def next(self) -> Member | None:
        """The next file, whose content :meth:`pieces` gives; None at the end.

        :raises BadArchive: there is something else.
        """
        header = self._take(_BLOCK)
        if not any(header):
            return None
        long_name = b""
        if _kind(header) == _LONG_NAME:
            size = _number(header[_SIZE])
            if size > _LONGEST_NAME:
                raise BadArchive("it has a name that is too long")
            long_name = self._padded(size)
            header = self._take(_BLOCK)
        kind, name = _kind(header), _text(long_name or header[_NAME])
        if kind not in {_REGULAR, _SPARSE}:
            raise BadArchive(f"{printable(name)[:80]!r} is {_KINDS.get(kind, 'no regular file')} in it")
        size = _number(header[_SIZE])
        if kind == _REGULAR:
            return Member(name=name, size=size, runs=array("Q", [0, size] if size else []))
        member = Member(name=name, size=_number(header[_REAL_SIZE]), runs=self._runs(header))
        if member.data != size:
            raise BadArchive(f"{printable(name)[:80]!r} has another size than its parts")
        return member

    def pieces(self, member: Member) -> Iterator[tuple[int, bytes]]:
        """The content of the file that :meth:`next` gave last: pieces of its runs, each with its place.

        :raises BadArchive: the archive ends.
        """
        for place, length in zip(member.runs[::2], member.runs[1::2], strict=True):
            for done in range(0, length, _PIECE):
                yield place + done, self._take(min(_PIECE, length - done))
            self._take(-length % _BLOCK)

    def finish(self) -> None:
        """Read what follows upon the last file.

        :raises BadArchive: it is more than an archive's end.
        """
        for _ in range(_MOST_PADDING // _BLOCK):
            block = self._stream.read(_BLOCK)
            if not block:
                return
            if any(block):
                break
        raise BadArchive("something follows upon its end")

    def _runs(self, header: bytes) -> array[int]:
        """Where the data of a file with holes lie."""
        runs, size = array("Q"), _number(header[_REAL_SIZE])
        _add_runs(runs, header[_RUNS], size)
        more = header[_MORE]
        while more:
            block = self._take(_BLOCK)
            _add_runs(runs, block[_MORE_RUNS], size)
            more = block[_STILL_MORE]
            if len(runs) > 2 * _MOST_RUNS:
                raise BadArchive("it has a file in too many parts")
        return runs

    def _padded(self, size: int) -> bytes:
        data = self._take(size)
        self._take(-size % _BLOCK)
        return data

    def _take(self, size: int) -> bytes:
        """The next bytes, ``size`` of them, which is never much."""
        data = self._stream.read(size)
        if len(data) < size:
            raise BadArchive("it ends too early")
        return data


def _kind(header: bytes) -> bytes:
    """The kind of a header's member, when the header is known to be one."""
    plain = header[: _CHECKSUM.start] + b" " * 8 + header[_CHECKSUM.stop :]
    if header[_WHICH] != _MAGIC or _number(header[_CHECKSUM]) != sum(plain):
        raise BadArchive("it has a header that GNU tar does not write")
    return header[_KIND]


def _number(field: bytes) -> int:
    """A number: octal digits, or where they do not suffice a byte 0x80 and the number itself."""
    if field[0] == 0x80 and not any(field[1:-8]):
        found = int.from_bytes(field[-8:], "big")
        if found < 1 << 63:
            return found
    digits = _OCTAL.fullmatch(field)
    if digits is None:
        raise BadArchive("it has a number that is none")
    return int(digits[1], 8)


def _text(name: bytes) -> str:
    try:
        return name.partition(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadArchive("it has a name that is not UTF-8 text") from error


def _add_runs(runs: array[int], entries: bytes, size: int) -> None:
    """Add the runs that a block tells; an empty entry ends it, and a run of no length is the file's end."""
    for at in range(0, len(entries), 24):
        if not entries[at + 12]:
            return
        place, length = _number(entries[at : at + 12]), _number(entries[at + 12 : at + 24])
        following = runs[-2] + runs[-1] if runs else 0
        if place < following or place + length > size:
            raise BadArchive("it has a file whose parts lie over each other, or outside of it")
        if length:
            runs.extend((place, length))
