"""What a tree costs on an ext4 filesystem, counted by walking it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from vmharness.host import index
from vmharness.model.results import TreeMeasure
from vmharness.tree import xattrs
from vmharness.tree.folders import Folder, Folders

BLOCK = 4096
_INLINE_SYMLINK = 59  # a longer target takes a block
_INLINE_XATTRS = 88  # what a 256-byte inode has room for
_INLINE_EXTENTS = 4  # more extents take blocks of their own
_EXTENTS_PER_BLOCK = 170  # half of 340: the tree's blocks are split in halves
_LONGEST_EXTENT = 32768
_DIRECTORY_BLOCK = BLOCK - 12  # the last entry is a check sum
_DOTS = 24  # "." and ".."


@frozen
class Found:
    """One file of a tree: the folder that holds it (None for the root itself), its name and its status."""

    folder: Folder | None
    name: bytes
    status: os.stat_result

    @property
    def path(self) -> bytes:
        """Path relative to the tree's root."""
        return b"" if self.folder is None else self.folder.child(self.name)


class Meter:
    """Adds up files, hard links once."""

    def __init__(self) -> None:
        self.data_blocks = self.inodes = self.directory_blocks = self.extra_blocks = 0
        self._links: dict[tuple[int, int], int] = {}

    def add(self, found: Found) -> bool:
        """Count one file, unless it is another name of one that was; say whether it was counted.

        Directories' blocks are counted by :meth:`add_directory`.
        """
        status = found.status
        if not stat.S_ISDIR(status.st_mode) and self._seen(status):
            return False
        self.inodes += 1
        if stat.S_ISREG(status.st_mode):
            self._add_data(found)
        elif stat.S_ISLNK(status.st_mode) and status.st_size > _INLINE_SYMLINK:
            self.extra_blocks += 1
        return True

    def add_directory(self, names: Iterator[bytes]) -> None:
        """Count the blocks of a directory with these names."""
        blocks, left = 1, _DIRECTORY_BLOCK - _DOTS
        for name in names:
            size = 8 + -(-len(name) // 4) * 4
            if size > left:
                blocks, left = blocks + 1, _DIRECTORY_BLOCK
            left -= size
        self.directory_blocks += blocks + extent_blocks(blocks)

    def total(self) -> TreeMeasure:
        """The sum."""
        return TreeMeasure(
            data_blocks=self.data_blocks,
            inodes=self.inodes,
            directory_blocks=self.directory_blocks,
            extra_blocks=self.extra_blocks,
        )

    def _seen(self, status: os.stat_result) -> bool:
        """Whether another name of this file was counted. Symbolic links count each: mke2fs separates them."""
        if status.st_nlink < 2 or stat.S_ISLNK(status.st_mode):
            return False
        key = (status.st_dev, status.st_ino)
        left = self._links.pop(key, 0)
        if left == 0:
            self._links[key] = status.st_nlink - 1
            return False
        if left > 1:
            self._links[key] = left - 1
        return True

    def _add_data(self, found: Found) -> None:
        status = found.status
        blocks = -(-status.st_size // BLOCK)
        extents = 1 + blocks // _LONGEST_EXTENT
        if status.st_blocks * 512 < status.st_size:
            assert found.folder is not None
            descriptor = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.folder.descriptor)
            try:
                blocks, extents = _occupied(descriptor, status.st_size)
            finally:
                os.close(descriptor)
        self.data_blocks += blocks
        self.extra_blocks += extent_blocks(extents)


def extent_blocks(extents: int) -> int:
    """Blocks that the extent tree of a file takes outside of its inode, at most."""
    return 0 if extents <= _INLINE_EXTENTS else 1 + -(-extents // _EXTENTS_PER_BLOCK)


def walk(root: Path) -> Iterator[Found | list[bytes]]:
    """Every file below ``root`` in a fixed order: each directory's sorted names as a list, then its files.

    :raises OSError: a directory cannot be read; its ``filename`` says which.
    """
    with Folders(root) as folders:
        yield Found(None, b"", root.lstat())
        todo: list[bytes] = [b""]
        while todo:
            path = todo.pop()
            parts = path.split(b"/") if path else []
            try:
                folder = folders.get(parts)  # open until another one is asked for
                names = sorted(map(os.fsencode, os.listdir(folder.descriptor)))  # noqa: PTH208 -- by descriptor
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
            yield names
            for name in names:
                status = os.lstat(name, dir_fd=folder.descriptor)
                if stat.S_ISDIR(status.st_mode):
                    todo.append(folder.child(name))
                yield Found(folder, name, status)


def measure_unpacked(data: Path, database: Path) -> TreeMeasure:
    """The cost of a tree that was unpacked from an archive.

    :raises OSError: it cannot be read.
    """
    meter = Meter()
    for found in walk(data):
        if isinstance(found, list):
            meter.add_directory(iter(found))
        else:
            meter.add(found)
    with index.read(database) as entries:
        meter.extra_blocks += sum(xattrs.room(entry.xattrs) > _INLINE_XATTRS for entry in entries.with_xattrs())
    return meter.total()


@frozen(kw_only=True)
class Survey:
    """What a look through a directory has shown.

    :param identity: a digest, the same for the same tree.
    :param most_entries: how many entries its most crowded directory has.
    """

    measure: TreeMeasure
    identity: str
    most_entries: int


def survey(directory: Path) -> Survey:
    """Look through a directory of the host.

    The identity is a digest over every file's path, metadata, size and modification time, the targets of symbolic links
    and extended attributes; file contents are not read. Access and change times are left out.

    :raises OSError: something in it cannot be read; its ``filename`` says what.
    """
    meter, digest, most = Meter(), hashlib.sha256(), 0
    for found in walk(directory):
        if isinstance(found, list):
            meter.add_directory(iter(found))
            most = max(most, len(found))
            continue
        attributes = _attributes(directory, found)
        if meter.add(found) and xattrs.room(attributes) > _INLINE_XATTRS:
            meter.extra_blocks += 1
        status = found.status
        # a directory's size is its filesystem's affair
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        facts = (status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, status.st_rdev)
        digest.update(repr((found.path, facts, _content(found), attributes)).encode())
    return Survey(measure=meter.total(), identity=digest.hexdigest()[:32], most_entries=most)


def _content(found: Found) -> bytes:
    """A symbolic link's target; for a file only whether it can be read.

    :raises OSError: it cannot.
    """
    if found.folder is None:
        return b""
    if stat.S_ISLNK(found.status.st_mode):
        return os.readlink(found.name, dir_fd=found.folder.descriptor)
    if stat.S_ISREG(found.status.st_mode) and not os.access(found.name, os.R_OK, dir_fd=found.folder.descriptor):
        raise PermissionError(13, os.strerror(13), os.fsdecode(found.path))
    return b""


def _attributes(directory: Path, found: Found) -> tuple[tuple[bytes, bytes], ...]:
    """The file's extended attributes."""
    if found.folder is None:
        path = os.fsencode(directory)
    else:
        # there is no call by descriptor and name that leaves symbolic links alone
        path = b"/proc/self/fd/%d/" % found.folder.descriptor + found.name
    try:
        names = sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False)))
        return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(found.path)) from error


def _occupied(descriptor: int, size: int) -> tuple[int, int]:
    """Blocks and extents that hold a sparse file's data."""
    blocks = extents = position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        run = -(-position // BLOCK) - start // BLOCK
        blocks += run
        extents += 1 + run // _LONGEST_EXTENT
    return blocks, extents
