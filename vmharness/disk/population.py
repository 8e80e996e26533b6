"""Giving the files that mke2fs has laid on a disk the metadata that are meant.

``mke2fs -d`` copies data at full speed, but what a plain user can stage is not what is meant: owners, modes, device
nodes and privileged attributes are in an index; and mke2fs knows no nanoseconds and no year behind 2038. So the new
filesystem is walked once, side by side with the index or the source directory, and each inode is set right in place.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmharness.disk.ext4 import ROOT, Volume
from vmharness.errors import HostError
from vmharness.host import index, proc
from vmharness.host.index import Index, Metadata
from vmharness.model.results import StagedTree

_SECOND = 1_000_000_000
_EXTRA_SIZE = 32  # bytes that our inodes have behind the first 128
_ENTRY_TYPE = {stat.S_IFCHR: 3, stat.S_IFBLK: 4}
_LOST_AND_FOUND = b"lost+found"


class _Meant(ABC):
    """Where the metadata come from that the files are to have."""

    @abstractmethod
    def of(self, parent: bytes, name: bytes) -> Metadata | None:
        """One file's, or None if the source does not have it."""

    @abstractmethod
    def names_in(self, parent: bytes) -> int | None:
        """How many files a directory must hold, or None where that is not known."""


class _FromIndex(_Meant):
    def __init__(self, entries: Index) -> None:
        self._entries = entries

    def of(self, parent: bytes, name: bytes) -> Metadata | None:
        return self._entries.get(parent, name)

    def names_in(self, parent: bytes) -> int | None:
        return self._entries.count(parent)


class _FromDirectory(_Meant):
    """The source's own metadata; mke2fs itself has copied the extended attributes."""

    def __init__(self, root: Path, *, owner_root: bool) -> None:
        self._root = os.fsencode(root)
        self._owner_root = owner_root

    def of(self, parent: bytes, name: bytes) -> Metadata | None:
        try:
            status = os.lstat(b"/".join(part for part in (self._root, parent, name) if part))
        except FileNotFoundError:
            return None
        return Metadata(
            mode=status.st_mode,
            uid=0 if self._owner_root else status.st_uid,
            gid=0 if self._owner_root else status.st_gid,
            device=status.st_rdev,
            atime=status.st_atime_ns,
            mtime=status.st_mtime_ns,
            ctime=status.st_ctime_ns,
        )

    def names_in(self, parent: bytes) -> int | None:  # noqa: ARG002 -- sockets are not copied, so nothing is known
        return None


class _Attributes:
    """Collects extended attributes for one run of debugfs, which knows how ext4 keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._script = (folder / "script").open("wb")
        self._values: set[str] = set()
        self._done: set[int] = set()
        self.empty = True

    def add(self, inode: int, metadata: Metadata, *, linked: bool) -> None:
        """Note the attributes of an inode; once, also if it has several names."""
        if inode in self._done:
            return
        if linked:
            self._done.add(inode)
        for name, value in metadata.xattrs:
            file = hashlib.sha256(value).hexdigest()
            if file not in self._values:
                (self._folder / file).write_bytes(value)
                self._values.add(file)
            quoted = name.replace(b'"', b'""')
            self._script.write(b'ea_set -f %s <%d> "%s"\n' % (file.encode(), inode, quoted))
            self.empty = False

    def apply(self, disk: Path, offset: int) -> None:
        """Write them into the filesystem."""
        self._script.close()
        if self.empty:
            return
        argv = ["debugfs", "-w", "-f", "script", f"disk?offset={offset}"]
        (self._folder / "disk").symlink_to(disk.absolute())  # a '?' in the path would begin the options
        done = proc.run(argv, doing="setting extended attributes", cwd=self._folder)
        said = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if not line.startswith("debugfs ")]
        if said:
            raise HostError(f"setting extended attributes: debugfs says: {said[0]}")


def apply_metadata(disk: Path, offset: int, tree: StagedTree) -> None:
    """Set the metadata of every file of a filesystem that ``mke2fs -d`` has just made from ``tree.directory``.

    :param disk: the raw disk, and ``offset`` the filesystem's first byte.
    :raises HostError: the filesystem does not hold what the tree holds, or debugfs failed.
    """
    with tempfile.TemporaryDirectory(prefix="attributes-", dir=disk.absolute().parent) as folder:
        attributes = _Attributes(Path(folder))
        with _meant(tree) as meant, Volume(disk, offset) as volume:
            _walk(volume, meant, attributes)
        attributes.apply(disk, offset)


@contextmanager
def _meant(tree: StagedTree) -> Iterator[_Meant]:
    if tree.index is None:
        yield _FromDirectory(tree.directory, owner_root=tree.owner_root)
        return
    with index.read(tree.index) as entries:
        yield _FromIndex(entries)


def _walk(volume: Volume, meant: _Meant, attributes: _Attributes) -> None:
    root = meant.of(b"", b"")
    assert root is not None
    _set(volume, ROOT, root, attributes)
    todo = [(ROOT, b"")]
    while todo:
        directory, path = todo.pop()
        found = 0
        for entry in volume.entries(volume.inode(directory)):
            metadata = meant.of(path, entry.name)
            if metadata is None:
                if directory == ROOT and entry.name == _LOST_AND_FOUND:
                    continue
                raise _differs(path, entry.name)
            found += 1
            _set(volume, entry.inode, metadata, attributes)
            if metadata.is_device:
                volume.set_entry_type(directory, entry, _ENTRY_TYPE[stat.S_IFMT(metadata.mode)])
            elif stat.S_ISDIR(metadata.mode):
                todo.append((entry.inode, path + b"/" + entry.name if path else entry.name))
        expected = meant.names_in(path)
        if expected is not None and found != expected:
            raise _differs(path, b"")


def _set(volume: Volume, number: int, metadata: Metadata, attributes: _Attributes) -> None:
    """Set one inode."""
    inode = volume.inode(number)
    patch(inode, metadata)
    volume.set_inode(number, inode)
    if metadata.xattrs:
        links = struct.unpack_from("<H", inode, 0x1A)[0]
        attributes.add(number, metadata, linked=links > 1)


def patch(inode: bytearray, metadata: Metadata) -> None:
    """Set an inode's fields, its check sum aside (kernel documentation, ``filesystems/ext4/inodes.rst``).

    A FIFO may become a device node.
    """
    struct.pack_into("<HH", inode, 0x00, metadata.mode, metadata.uid & 0xFFFF)
    struct.pack_into("<H", inode, 0x18, metadata.gid & 0xFFFF)
    struct.pack_into("<HH", inode, 0x78, metadata.uid >> 16, metadata.gid >> 16)
    struct.pack_into("<H", inode, 0x80, _EXTRA_SIZE)
    # field for seconds and field for nanoseconds of: change, modification, access, creation
    fields = ((0x0C, 0x84), (0x10, 0x88), (0x08, 0x8C), (0x90, 0x94))
    times = (metadata.ctime, metadata.mtime, metadata.atime, metadata.ctime)
    for (low, extra), time in zip(fields, times, strict=True):
        seconds, nanoseconds = divmod(time, _SECOND)
        # the low half is signed: two bits count how often it has run over (inodes.rst, "Inode Timestamps")
        epoch = (seconds + (1 << 31)) >> 32
        struct.pack_into("<I", inode, low, seconds & 0xFFFFFFFF)
        struct.pack_into("<I", inode, extra, nanoseconds << 2 | epoch & 3)
    if metadata.is_device:
        struct.pack_into("<II", inode, 0x28, *_device_words(metadata.device))


def _device_words(device: int) -> tuple[int, int]:
    """The two words of a device node: the old encoding where the number fits, else the new one (fs/ext4/inode.c)."""
    major, minor = os.major(device), os.minor(device)
    if major < 256 and minor < 256:
        return major << 8 | minor, 0
    return 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _differs(path: bytes, name: bytes) -> HostError:
    place = "/" + (path + b"/" + name).strip(b"/").decode("utf-8", "backslashreplace")
    return HostError(
        f"what mke2fs copied differs from the source at {place!r}",
        hint="did something change the source while it was copied?",
    )
