"""Spreading the entries of huge directories over small ones, from which ``disk/joining.py`` puts them together again.

For each file that it adds, ``mke2fs -d`` looks through the whole directory: 5,000 entries in one cost a second,
100,000 minutes. So the entries of a huge directory are staged in chunks, directories of their own beside the tree::

    .vmharness-chunks/0/0, 1, 2, ...    chunks of the first huge directory; names are sorted, each chunk holds a range
    .vmharness-chunks/0/room            a file with as many blocks as the whole directory can need

The index keeps every file's path in the tree, and knows the chunks.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmharness.host.index import LOST_AND_FOUND, Index
from vmharness.tree.folders import Folders

HUGE = 4096  # entries; fewer cost less than half a second
_CHUNK = 128  # entries; with more, mke2fs gets slower, with fewer, there are many chunks
_TOP = b".vmharness-chunks"
_BLOCK = 4096
_USABLE = _BLOCK - 12 - 264  # of a directory's block, at least: its check sum, and what is too small for any name
_DOTS = 24  # "." and ".."
_OWN_BLOCKS = 8  # more than the directory itself has when its entries are elsewhere


def spread(data: Path, entries: Index) -> None:
    """Move the entries of each huge directory of an unpacked tree into chunks.

    :param entries: the tree's index, open for writing; it learns of the chunks.
    :raises OSError: the disk is full, or cannot be written.
    """
    crowded = entries.crowded(HUGE)
    if not crowded:
        return
    top = _TOP
    while entries.get(b"", top) is not None:
        top += b"-"
    (data / os.fsdecode(top)).mkdir(mode=0o700)
    # the deepest first: so the others still lie where their paths say
    crowded.sort(key=lambda path: path.count(b"/") + bool(path), reverse=True)
    with Folders(data) as folders:
        for number, parent in enumerate(crowded):
            descriptor = folders.get(parent.split(b"/") if parent else []).descriptor
            _spread_one(data, entries, parent, descriptor, top + b"/%d" % number)


def _spread_one(data: Path, entries: Index, parent: bytes, descriptor: int, place: bytes) -> None:
    entries.put_spread(parent, place)
    folder = data / os.fsdecode(place)
    folder.mkdir(mode=0o700)
    names = (name for name in entries.names(parent) if parent or name != LOST_AND_FOUND)
    blocks = _OWN_BLOCKS
    for number, chunk in enumerate(_chunks(names)):
        entries.put_chunk(parent, chunk[0], place + b"/%d" % number)
        target = folder / str(number)
        target.mkdir(mode=0o700)
        for name in chunk:
            os.rename(name, os.fsencode(target) + b"/" + name, src_dir_fd=descriptor)
        blocks += _most_blocks(chunk)
    with (folder / "room").open("wb") as room:
        room.writelines(b"\xff" * _BLOCK for _block in range(blocks))  # not zeros: those would become a hole


def _chunks(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    names = iter(names)
    while chunk := list(itertools.islice(names, _CHUNK)):
        yield chunk


def _most_blocks(names: list[bytes]) -> int:
    """Blocks of a directory with these names, in whatever order they are added."""
    return 1 + (_DOTS + sum(8 + -(-len(name) // 4) * 4 for name in names)) // _USABLE
