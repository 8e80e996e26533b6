"""Looking into a staged tree as the system in it would: symbolic links are followed inside the tree, never outside."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import index
from vmharness.model.results import StagedTree

_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_LARGEST_TEXT = 16 << 20


def resolve(tree: StagedTree, path: bytes) -> bytes:
    """A path of the tree with every symbolic link followed, relative to the root; ``..`` of the root is the root.

    What does not exist stays as it is written, so that a new file's place can be found too.

    :raises ValueError: with a sentence, if links lead in a circle.
    """
    done: list[bytes] = []
    todo = path.split(b"/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in {b"", b"."}:
            continue
        if part == b"..":
            del done[-1:]
            continue
        target = _link_target(_on_host(tree, b"/".join([*done, part])))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise ValueError(f"the symbolic links in {path.decode('utf-8', 'backslashreplace')!r} lead in a circle")
        if target.startswith(b"/"):
            done = []
        todo += target.split(b"/")[::-1]
    return b"/".join(done)


def file_type(tree: StagedTree, path: bytes) -> int | None:
    """Type bits (as of ``st_mode``) of what the staged data hold at a path without links; None if nothing is there."""
    try:
        return stat.S_IFMT(os.lstat(_on_host(tree, path)).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def find(tree: StagedTree, path: str) -> Path | None:
    """Where the host keeps the data of the tree's file or directory ``path``, or None if the tree has none.

    Only data may be read there; metadata are not those that are meant.
    """
    try:
        place = _on_host(tree, resolve(tree, os.fsencode(path)))
        os.lstat(place)
    except (OSError, ValueError):
        return None
    return Path(os.fsdecode(place))


def read_text(tree: StagedTree, path: str) -> str | None:
    """The text of a file of the tree, or None if the tree has no such regular file.

    :raises HostError: it cannot be read.
    """
    place = find(tree, path)
    if place is None:
        return None
    try:
        # a device node is staged as a FIFO, which would wait for a writer
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return os.read(descriptor, _LARGEST_TEXT).decode("utf-8", "surrogateescape")
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise HostError(f"cannot read {path} of the tree ({place}): {error.strerror}") from error


def users(tree: StagedTree) -> dict[str, int]:
    """The users of the tree's ``/etc/passwd`` and their numbers."""
    return _numbers(read_text(tree, "/etc/passwd") or "")


def groups(tree: StagedTree) -> dict[str, int]:
    """The groups of the tree's ``/etc/group`` and their numbers."""
    return _numbers(read_text(tree, "/etc/group") or "")


def _numbers(text: str) -> dict[str, int]:
    """The third field of each line by the first; the first of several lines with one name counts, as in libc."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and fields[2].isdecimal() and not line.startswith("#"):
            found.setdefault(fields[0], int(fields[2]))
    return found


def _on_host(tree: StagedTree, path: bytes) -> bytes:
    """Where the host keeps what the tree has at a path without links."""
    root = os.fsencode(tree.directory)
    if tree.huge_directories and tree.index is not None:
        with index.read(tree.index) as entries:
            path = entries.place(path)
    return root + b"/" + path if path else root


def _link_target(place: bytes) -> bytes | None:
    try:
        return os.readlink(place)  # noqa: PTH115 -- names are bytes here
    except OSError:
        return None
