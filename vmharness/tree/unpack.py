"""Unpacking a tar archive without privilege: the data as our own plain files, what the archive means in an index.

Only :mod:`tarfile`'s reading of headers is used. Its loop keeps every member, takes a damaged header for the end of the
archive, and follows links; the one here does not.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from attrs import evolve

from vmharness.host import index
from vmharness.host.index import Index, Metadata
from vmharness.tree.folders import Folder, Folders
from vmharness.tree.member import metadata_of, parts_of, raw, shown
from vmharness.tree.spread import spread
from vmharness.tree.stream import EndsEarly, Stream

_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNSTATED = Metadata(mode=stat.S_IFDIR | 0o755, uid=0, gid=0, atime=0, mtime=0, ctime=0)


class Damaged(Exception):
    """The archive is damaged, or none; the text is a sentence's end."""


class Refused(Exception):
    """A member cannot be unpacked; the text is a sentence that names it."""


def unpack(stream: Stream, data: Path, database: Path, *, leave_out: frozenset[bytes] = frozenset()) -> None:
    """Unpack an archive: files into the new directory ``data``, metadata into the new index ``database``.

    Every directory has mode 0700 and every file 0600 there, and device nodes are FIFOs. A later member replaces an
    earlier one of the same name. Directories that the archive does not state are root's, with mode 0755 and the time
    of the first member that needs them. The entries of huge directories end up in chunks (see ``tree/spread.py``).

    :param leave_out: paths of regular files that are not wanted.
    :raises Damaged: the archive is damaged.
    :raises Refused: a member would be written elsewhere, or means what a filesystem cannot hold.
    :raises OSError: the disk is full, or cannot be written.
    """
    with new_tree(data, database) as entries, Unpacker(data, entries, leave_out) as unpacker:
        unpack_members(stream, unpacker)


@contextmanager
def new_tree(data: Path, database: Path) -> Iterator[Index]:
    """A new directory and its index, to be filled; huge directories are spread at the end.

    :raises OSError: the disk is full, or cannot be written.
    """
    data.mkdir(mode=0o700)
    if b"system.posix_acl_default" in map(os.fsencode, os.listxattr(data)):
        os.removexattr(data, "system.posix_acl_default")  # nothing of the cache's own is to be inherited
    with index.create(database) as entries:
        yield entries
        spread(data, entries)


def unpack_members(stream: Stream, unpacker: Unpacker) -> None:
    """Unpack every member of one archive; raises what :func:`unpack` does."""
    headers = Headers(stream)
    while (info := headers.next_member()) is not None:
        try:
            unpacker.add(info, stream)
        except EndsEarly:
            raise Damaged(f"ends within the member {shown(raw(info.name))}") from None
        except ValueError as error:
            raise Refused(f"the member {shown(raw(info.name))} {error}") from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise Refused(f"the member {shown(raw(info.name))} has a name or target that is too long") from error


class Headers(tarfile.TarFile):
    """What :meth:`tarfile.TarInfo.fromtarfile` needs of a TarFile, without its loop.

    :param stream: the archive, at its beginning: a stream, or a file.
    """

    def __init__(self, stream: Stream | BinaryIO) -> None:
        # not super().__init__(), which reads the first member its own way
        self.fileobj = cast("Any", stream)  # enough of a file for what is called
        self.stream = stream
        self.encoding, self.errors = "utf-8", "surrogateescape"
        self.pax_headers = {}
        self.offset = 0

    def next_member(self) -> tarfile.TarInfo | None:
        """The next member, or None at the archive's end mark.

        :raises Damaged: there is neither.
        """
        try:
            self.stream.seek(self.offset)
            return tarfile.TarInfo.fromtarfile(self)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            return None
        except (EndsEarly, tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
            if self.stream.tell() == 0:
                raise Damaged("is empty") from None
            raise Damaged("ends early, without a tar archive's end mark") from None
        except (tarfile.TarError, ValueError, RecursionError) as error:
            if self.offset == 0:
                raise Damaged(f"is not a tar archive ({error})") from error
            raise Damaged(f"is damaged: {error} in the header at byte {self.offset}") from error


class Unpacker:
    """Puts members into a tree and its index. A context manager; when it ends, the tree has a root at least.

    :param leave_out: paths of regular files that are not wanted.
    :param rooted: whether absolute symbolic links on a member's way start at the tree's root.
    """

    def __init__(
        self, data: Path, entries: Index, leave_out: frozenset[bytes] = frozenset(), *, rooted: bool = False
    ) -> None:
        self._entries = entries
        self._leave_out = leave_out
        self._folders = Folders(data, self._make_unstated, rooted=rooted)
        self._unstated: Metadata | None = None

    def __enter__(self) -> Self:
        self._folders.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.__exit__()
        if self._unstated is None:  # an archive without members
            self._entries.put(b"", b"", _UNSTATED)

    def add(self, info: tarfile.TarInfo, stream: Stream) -> None:
        """Unpack one member.

        :raises ValueError: it cannot be; the text is the sentence's end.
        """
        parts = parts_of(raw(info.name))
        metadata = metadata_of(info)
        if self._unstated is None:
            time = metadata.mtime
            self._entries.put(b"", b"", evolve(_UNSTATED, atime=time, mtime=time, ctime=time))
        self._unstated = metadata
        if not parts:
            if not info.isdir():
                raise ValueError("stands for the root directory and is not a directory")
            self._entries.put(b"", b"", metadata)
            return
        if info.isreg() and b"/".join(parts) in self._leave_out:
            return
        folder, name = self._folders.get(parts[:-1]), parts[-1]
        if info.islnk():
            self._link(parts_of(raw(info.linkname)), folder, name)
            return
        if info.isdir():
            self._make_directory(folder, name)
        elif info.issym():
            self._make_symlink(raw(info.linkname), folder, name)
        elif stat.S_ISREG(metadata.mode):
            self._make_file(info, stream, folder, name)
        else:
            self._make_node(folder, name)
        self._entries.put(folder.path, name, metadata)

    def _make_unstated(self, folder: Folder, name: bytes) -> None:
        assert self._unstated is not None
        time = self._unstated.mtime
        os.mkdir(name, 0o700, dir_fd=folder.descriptor)
        self._entries.put(folder.path, name, evolve(_UNSTATED, atime=time, mtime=time, ctime=time))

    def _make_directory(self, folder: Folder, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=folder.descriptor)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder.descriptor).st_mode):
                self._remove(folder, name)
                os.mkdir(name, 0o700, dir_fd=folder.descriptor)

    def _make_symlink(self, target: bytes, folder: Folder, name: bytes) -> None:
        if not target:
            raise ValueError("is a symbolic link to nothing")
        try:
            os.symlink(target, name, dir_fd=folder.descriptor)
        except FileExistsError:
            self._remove(folder, name)
            os.symlink(target, name, dir_fd=folder.descriptor)

    def _make_node(self, folder: Folder, name: bytes) -> None:
        try:
            os.mkfifo(name, 0o600, dir_fd=folder.descriptor)
        except FileExistsError:
            self._remove(folder, name)
            os.mkfifo(name, 0o600, dir_fd=folder.descriptor)

    def _make_file(self, info: tarfile.TarInfo, stream: Stream, folder: Folder, name: bytes) -> None:
        try:
            descriptor = os.open(name, _FILE, 0o600, dir_fd=folder.descriptor)
        except FileExistsError:
            self._remove(folder, name)
            descriptor = os.open(name, _FILE, 0o600, dir_fd=folder.descriptor)
        try:
            stream.seek(info.offset_data)
            if info.sparse is None:
                stream.copy(info.size, descriptor)
                return
            # typeshed takes it for one number
            for offset, size in cast("list[tuple[int, int]]", info.sparse):
                if not 0 <= offset <= offset + size <= info.size:
                    raise ValueError("has a damaged map of its holes")
                os.lseek(descriptor, offset, os.SEEK_SET)
                stream.copy(size, descriptor)
            os.ftruncate(descriptor, info.size)
        finally:
            os.close(descriptor)

    def _link(self, target: list[bytes], folder: Folder, name: bytes) -> None:
        """Make a hard link; its metadata are those of the file it joins."""
        if not target:
            raise ValueError("is a hard link to the root directory")
        here = folder.path.split(b"/") if folder.path else []
        source = self._folders.get(target[:-1])
        folder = self._folders.get(here)  # the call before may have closed it
        if (source.path, target[-1]) == (folder.path, name):
            return
        if self._entries.get(source.path, target[-1]) is None:
            raise ValueError(f"is a hard link to {shown(b'/'.join(target))}, which the archive does not hold before it")
        if (source.path + b"/").startswith(folder.child(name) + b"/"):
            raise ValueError(f"is a hard link to {shown(b'/'.join(target))}, which lies in what it replaces")
        self._remove(folder, name)
        try:
            os.link(target[-1], name, src_dir_fd=source.descriptor, dst_dir_fd=folder.descriptor, follow_symlinks=False)
        except PermissionError as error:
            raise ValueError(f"is a hard link to {shown(b'/'.join(target))}, which is a directory") from error
        self._entries.duplicate((source.path, target[-1]), (folder.path, name))

    def _remove(self, folder: Folder, name: bytes) -> None:
        """Make room for a member that replaces an earlier one."""
        try:
            mode = os.lstat(name, dir_fd=folder.descriptor).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            self._folders.forget(folder.child(name))
            try:
                os.rmdir(name, dir_fd=folder.descriptor)
            except OSError as error:
                raise ValueError("replaces a directory that is not empty") from error
        else:
            os.unlink(name, dir_fd=folder.descriptor)
        self._entries.remove(folder.path, name)
