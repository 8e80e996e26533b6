"""Open directories of a tree under construction, found by path without ever leaving the tree.

Each step is made from the descriptor of the directory before it and follows no symbolic link by itself: a link is read
and followed by hand, inside the tree, or refused. So no archive can make us write elsewhere, whatever it holds and
whatever changes meanwhile; and a path may be longer than the kernel takes in one call.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Self

from attrs import frozen

_KEPT_OPEN = 200
_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen
class Folder:
    """An open directory: its path relative to the tree's root, without symbolic links, and its descriptor."""

    path: bytes
    descriptor: int

    def child(self, name: bytes) -> bytes:
        """The path of ``name`` in it."""
        return self.path + b"/" + name if self.path else name


class Folders:
    """The directories of the tree at ``root``; the last used ones stay open. A context manager.

    :param missing: makes the directory ``name`` in a folder that lacks it, or raises.
    :param rooted: whether an absolute link starts at the tree's root, as in a container, instead of being refused.
    """

    def __init__(
        self, root: Path, missing: Callable[[Folder, bytes], None] | None = None, *, rooted: bool = False
    ) -> None:
        self._root = Folder(b"", os.open(root, _FLAGS))
        self._missing = missing
        self._rooted = rooted
        self._open: OrderedDict[bytes, Folder] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in (self._root, *self._open.values()):
            os.close(folder.descriptor)

    def get(self, parts: list[bytes]) -> Folder:
        """The directory with these path components, links on the way followed.

        It stays open at least until the next call.

        :raises ValueError: with a sentence, if a link leads out of the tree or a component is not a directory.
        :raises OSError: it cannot be opened.
        """
        at, todo, links = self._root, parts[::-1], 0
        while todo:
            name = todo.pop()
            if name == b"..":
                at = self._parent(at)
                continue
            path = at.child(name)
            known = self._open.get(path)
            if known is not None:
                self._open.move_to_end(path)
                at = known
                continue
            opened = self._enter(at, name)
            if isinstance(opened, Folder):
                at = opened
                continue
            links += 1
            if links > _MOST_LINKS:
                raise ValueError(f"passes through the symbolic link {_shown(path)}, which leads in a circle")
            if opened.startswith(b"/"):
                if not self._rooted:
                    raise ValueError(f"passes through the symbolic link {_shown(path)}, which leads out of the tree")
                at = self._root
            todo += [part for part in reversed(opened.split(b"/")) if part not in {b"", b"."}]
        return at

    def forget(self, path: bytes) -> None:
        """Close a directory that is about to be removed."""
        folder = self._open.pop(path, None)
        if folder is not None:
            os.close(folder.descriptor)

    def _parent(self, at: Folder) -> Folder:
        if not at.path:
            raise ValueError("passes through a symbolic link that leads out of the tree")
        return self.get(at.path.split(b"/")[:-1])

    def _enter(self, at: Folder, name: bytes) -> Folder | bytes:
        """The directory ``name`` in ``at``, or the target of the symbolic link that it is."""
        try:
            descriptor = self._descend(at, name)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                raise
            try:
                return os.readlink(name, dir_fd=at.descriptor)
            except OSError:
                raise ValueError(f"passes through {_shown(at.child(name))}, which is not a directory") from None
        folder = Folder(at.child(name), descriptor)
        self._open[folder.path] = folder
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1].descriptor)
        return folder

    def _descend(self, at: Folder, name: bytes) -> int:
        try:
            return os.open(name, _FLAGS, dir_fd=at.descriptor)
        except FileNotFoundError:
            if self._missing is None:
                raise
            self._missing(at, name)
            return os.open(name, _FLAGS, dir_fd=at.descriptor)


def _shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))
