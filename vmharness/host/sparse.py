"""Files with holes: where their data are, and a digest that costs what the data cost.

A disk of a build is mostly holes. Where they are is a matter of the filesystem that holds the file, so neither what is
a hole nor what is merely zero may count in a digest.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)


def digest(path: Path) -> str:
    """SHA-256 over the blocks of 64 KiB that are not all zero: the number of each, as 8 bytes, then its content.

    The number's lowest byte comes first. With the file's size it says all of its content.
    """
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for number in _blocks(file):
            block = os.pread(file.fileno(), _BLOCK, number * _BLOCK)
            if block != _ZEROS[: len(block)]:
                found.update(number.to_bytes(8, "little") + block)
    return found.hexdigest()


def data_size(path: Path) -> int:
    """Bytes of a file that are not in holes."""
    status = path.stat()
    if status.st_blocks * 512 >= status.st_size:
        return status.st_size
    with path.open("rb", buffering=0) as file:
        return sum(end - start for start, end in _data(file))


def most_data(path: Path) -> int:
    """How many bytes of a file can ever show as data, while nobody writes to it.

    Room that is allocated and was never written counts: some filesystems take it for a hole until somebody has read it.
    """
    status = path.stat()
    return min(status.st_size, max(data_size(path), status.st_blocks * 512))


def _blocks(file: BinaryIO) -> Iterator[int]:
    """The numbers of the blocks that hold data, each once."""
    following = 0
    for start, end in _data(file):
        first = max(following, start // _BLOCK)
        following = -(-end // _BLOCK)
        yield from range(first, following)


def _data(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Begin and end of each run of data, as lseek(2) tells them."""
    end = 0
    while True:
        try:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is none behind
                raise
            return
        end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        yield start, end
