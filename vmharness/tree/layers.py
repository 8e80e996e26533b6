"""A container image's layers, laid over each other: whiteouts, opaque directories, files of other types replaced.

What a layer means is in the OCI image specification, "Image Layer Filesystem Changeset". Where that is silent, this
does as containerd and Docker do: symbolic links on a member's way are followed inside the tree, absolute ones from its
root; a member replaces whatever has its name, and only a directory joins a directory.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import frozen

from vmharness.host.index import Index
from vmharness.tree.folders import Folder, Folders
from vmharness.tree.member import parts_of, raw
from vmharness.tree.stream import Stream
from vmharness.tree.unpack import Damaged, Refused, Unpacker, new_tree, unpack_members

_WHITEOUT = b".wh."
_META = b".wh..wh."  # AUFS' own files
_OPAQUE = b".wh..wh..opq"
_NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST}


@frozen(kw_only=True)
class Layer:
    """One layer: its name for messages, and what opens its plain bytes.

    ``open`` may raise ``Damaged``, also when its block ends.
    """

    name: str
    open: Callable[[], AbstractContextManager[Stream]]


def apply_layers(layers: Iterable[Layer], data: Path, database: Path) -> None:
    """Unpack layers, the lowest first, as :func:`~vmharness.tree.unpack.unpack` does one archive.

    :raises Damaged: a layer is damaged.
    :raises Refused: a member would be written elsewhere, or means what a filesystem cannot hold.
    :raises OSError: the disk is full, or cannot be written.
    """
    with new_tree(data, database) as entries, _LayerUnpacker(data, entries) as unpacker:
        for layer in layers:
            unpacker.begin_layer()
            try:
                _apply(layer, unpacker)
            except (Damaged, Refused) as error:
                raise type(error)(f"{layer.name}: {error}") from error


def _apply(layer: Layer, unpacker: Unpacker) -> None:
    damaged: Damaged | None = None
    with layer.open() as stream:
        try:
            unpack_members(stream, unpacker)
        except Damaged as error:
            # leave the stream's block first: its program may know better what is wrong
            damaged = error
    if damaged is not None:
        raise damaged


class _LayerUnpacker(Unpacker):
    """Puts the members of one layer after the other into a tree."""

    def __init__(self, data: Path, entries: Index) -> None:
        super().__init__(data, entries, rooted=True)
        self._data = data
        self._layers = 0

    def begin_layer(self) -> None:
        """What comes now is the next layer's."""
        self._layers += 1
        if self._layers > 1:  # the first has nothing below that it could hide
            self._entries.begin_layer()

    def add(self, info: tarfile.TarInfo, stream: Stream) -> None:
        """Unpack one member, or hide what it says is not there."""
        info.name, info.linkname = info.name.lstrip("/"), _target(info)
        parts = parts_of(raw(info.name))
        if not any(part.startswith(_WHITEOUT) for part in parts):
            super().add(info, stream)
        elif parts[-1] == _OPAQUE:
            self._hide_below(parts[:-1])
        elif any(part.startswith(_META) for part in parts):
            return
        elif any(part.startswith(_WHITEOUT) for part in parts[:-1]):
            raise ValueError("lies in a directory whose name stands for a deleted file")
        else:
            self._hide(parts[:-1], parts[-1].removeprefix(_WHITEOUT))

    def _hide(self, parents: list[bytes], name: bytes) -> None:
        """A whiteout: what the layers below have under this name is not there."""
        if name in {b"", b".", b".."}:
            raise ValueError("is a whiteout that names no file")
        folder = self._existing(parents)
        if folder is not None and self._entries.get(folder, name) is not None:
            self._clear(folder, name, new_too=False)

    def _hide_below(self, parents: list[bytes]) -> None:
        """An opaque directory: of what it holds, only this layer's own is there."""
        folder = self._existing(parents)
        for name in list(self._entries.names(folder)) if folder is not None else ():
            self._clear(folder or b"", name, new_too=False)

    def _existing(self, parts: list[bytes]) -> bytes | None:
        """A directory's path without symbolic links; None where nothing can be hidden."""
        if self._layers == 1:
            return None
        with Folders(self._data, rooted=True) as folders:
            try:
                return folders.get(parts).path
            except FileNotFoundError:
                return None

    def _remove(self, folder: Folder, name: bytes) -> None:
        if self._entries.get(folder.path, name) is not None:
            self._clear(folder.path, name, new_too=True)

    def _clear(self, parent: bytes, name: bytes, *, new_too: bool) -> None:
        """Remove a file, or a directory with what is in it.

        :param new_too: whether what this layer has put there goes, too.
        """
        todo = [(parent, name, False)]
        # not the folders that the unpacker has open: it relies on those staying so
        with Folders(self._data) as folders:
            while todo:
                parent, name, emptied = todo.pop()
                folder = folders.get(parent.split(b"/") if parent else [])
                is_directory = stat.S_ISDIR(os.lstat(name, dir_fd=folder.descriptor).st_mode)
                path = folder.child(name)
                if is_directory and not emptied:
                    todo.append((parent, name, True))
                    todo += [(path, child, False) for child in self._entries.names(path)]
                elif new_too or not self._entries.is_new(parent, name):
                    folders.forget(path)
                    self._take_away(folder, name, is_directory=is_directory)

    def _take_away(self, folder: Folder, name: bytes, *, is_directory: bool) -> None:
        if is_directory:
            try:
                os.rmdir(name, dir_fd=folder.descriptor)
            except OSError as error:
                if error.errno not in _NOT_EMPTY:
                    raise
                return  # it holds something that this layer brought
            self._folders.forget(folder.child(name))
        else:
            os.unlink(name, dir_fd=folder.descriptor)
        self._entries.remove(folder.path, name)


def _target(info: tarfile.TarInfo) -> str:
    """A hard link's target relative to the root; a symbolic link's as it is."""
    return info.linkname.lstrip("/") if info.islnk() else info.linkname
