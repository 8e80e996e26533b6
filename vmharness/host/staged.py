"""A staged tree as it is meant: every file with its metadata and the place of its data, with an index or without."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack

from attrs import frozen

from vmharness.host import index
from vmharness.host.index import Index, Metadata
from vmharness.model.results import StagedTree


@frozen(kw_only=True)
class StagedFile:
    """One file of a tree.

    :param path: relative to the tree's root, which itself is empty.
    :param metadata: what it is meant to be.
    :param place: where the host has its data.
    :param status: of what is there.
    """

    path: bytes
    metadata: Metadata
    place: bytes
    status: os.stat_result


def files(tree: StagedTree) -> Iterator[StagedFile]:
    """Every file of a tree, each directory before what is in it, sorted by name.

    Extended attributes are those of the index only.

    :raises OSError: the data cannot be read.
    """
    with ExitStack() as stack:
        entries = None if tree.index is None else stack.enter_context(index.read(tree.index))
        todo = [b""]
        while todo:
            path = todo.pop()
            file = _file(tree, entries, path)
            yield file
            if stat.S_ISDIR(file.metadata.mode):
                names = sorted(map(os.fsencode, os.listdir(file.place))) if entries is None else entries.names(path)  # noqa: PTH208 -- names are bytes here
                todo += reversed([path + b"/" + name if path else name for name in names])


def _file(tree: StagedTree, entries: Index | None, path: bytes) -> StagedFile:
    root = os.fsencode(tree.directory)
    if entries is None:
        place = root + b"/" + path if path else root
        status = os.lstat(place)
        owner = (0, 0) if tree.owner_root else (status.st_uid, status.st_gid)
        return StagedFile(path=path, metadata=_metadata(status, owner), place=place, status=status)
    parent, _, name = path.rpartition(b"/")
    metadata = entries.get(parent, name)
    assert metadata is not None
    at = entries.place(path) if tree.huge_directories and path else path
    place = root + b"/" + at if at else root
    return StagedFile(path=path, metadata=metadata, place=place, status=os.lstat(place))


def _metadata(status: os.stat_result, owner: tuple[int, int]) -> Metadata:
    return Metadata(
        mode=status.st_mode,
        uid=owner[0],
        gid=owner[1],
        device=status.st_rdev,
        atime=status.st_atime_ns,
        mtime=status.st_mtime_ns,
        ctime=status.st_ctime_ns,
    )
