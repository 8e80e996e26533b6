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

from attrs import evolve

from vmharness.disk.ext4 import ROOT, Volume
from vmharness.errors import HostError
from vmharness.host import index, proc
from vmharness.host.index import LOST_AND_FOUND, Index, Metadata
from vmharness.model.results import StagedTree

_SECOND = 1_000_000_000
_EXTRA_SIZE = 32  # bytes that our inodes have behind the first 128
_MODE_AND_UID, _TIMES, _GID = struct.Struct("<HH"), struct.Struct("<3I"), struct.Struct("<H")
# upper halves of uid and gid, check sum, unused, extra size, check sum; times' extra words, time of creation
_REST = struct.Struct("<6H 5I")
_ENTRY_TYPE = {stat.S_IFCHR: 3, stat.S_IFBLK: 4}


class _Meant(ABC):
    """Where the metadata come from that the files are to have."""

    @abstractmethod
    def of(self, parent: bytes, name: bytes) -> Metadata | None:
        """One file's, or None if the source does not have it."""

    @abstractmethod
    def names_in(self, parent: bytes) -> int | None:
        """How many files a directory must hold, or None where that is not known."""

    def settled(self, metadata: Metadata, inode: bytearray) -> Metadata:  # noqa: ARG002 -- for those that need it
        """The metadata, with what mke2fs has recorded in the inode where it knows better."""
        return metadata


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

    def settled(self, metadata: Metadata, inode: bytearray) -> Metadata:
        # mke2fs has noted the access time before it read the file, which may have changed it since
        recorded: int = struct.unpack_from("<i", inode, 0x08)[0]
        if recorded & 0xFFFFFFFF != metadata.atime // _SECOND & 0xFFFFFFFF:
            return evolve(metadata, atime=recorded * _SECOND)
        return metadata

    def names_in(self, parent: bytes) -> int | None:  # noqa: ARG002 -- sockets are not copied, so nothing is known
        return None


class _Attributes:
    """Collects extended attributes for one run of debugfs, which knows how ext4 keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._script = folder / "script"
        self._values: set[str] = set()
        self._done: set[int] = set()

    def add(self, inode: int, metadata: Metadata, *, linked: bool) -> None:
        """Note the attributes of an inode; once, also if it has several names."""
        if inode in self._done:
            return
        if linked:
            self._done.add(inode)
        lines = []
        for name, value in metadata.xattrs:
            file = hashlib.sha256(value).hexdigest()
            if file not in self._values:
                (self._folder / file).write_bytes(value)
                self._values.add(file)
            quoted = name.replace(b'"', b'""')
            lines.append(b'ea_set -f %s <%d> "%s"\n' % (file.encode(), inode, quoted))
        with self._script.open("ab") as script:
            script.writelines(lines)

    def apply(self, disk: Path, offset: int) -> None:
        """Write them into the filesystem."""
        if not self._script.exists():
            return
        argv = ["debugfs", "-w", "-f", self._script.name, f"disk?offset={offset}"]
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
    _set(volume, ROOT, volume.inode(ROOT), root, attributes)
    todo = [(ROOT, b"")]
    while todo:
        directory, path = todo.pop()
        found = 0
        for entry in volume.entries(volume.inode(directory)):
            metadata = meant.of(path, entry.name)
            if metadata is None:
                if directory == ROOT and entry.name == LOST_AND_FOUND:
                    continue
                raise _differs(path, entry.name)
            found += 1
            inode = volume.inode(entry.inode)
            if not _same_type(inode, metadata):
                raise _differs(path, entry.name)
            _set(volume, entry.inode, inode, meant.settled(metadata, inode), attributes)
            if metadata.is_device:
                volume.set_entry_type(directory, entry, _ENTRY_TYPE[stat.S_IFMT(metadata.mode)])
            elif stat.S_ISDIR(metadata.mode):
                todo.append((entry.inode, path + b"/" + entry.name if path else entry.name))
        expected = meant.names_in(path)
        if expected is not None and found != expected:
            raise _differs(path, b"")


def _same_type(inode: bytearray, metadata: Metadata) -> bool:
    """Whether the inode is of the type that is meant, or the FIFO that stands for a device node."""
    kind = stat.S_IFMT(_MODE_AND_UID.unpack_from(inode)[0])
    return kind == stat.S_IFMT(metadata.mode) or (kind == stat.S_IFIFO and metadata.is_device)


def _set(volume: Volume, number: int, inode: bytearray, metadata: Metadata, attributes: _Attributes) -> None:
    """Set one inode; ``inode`` is a copy of it."""
    patch(inode, metadata)
    volume.set_inode(number, inode)
    if metadata.xattrs:
        links = struct.unpack_from("<H", inode, 0x1A)[0]
        attributes.add(number, metadata, linked=links > 1)


def patch(inode: bytearray, metadata: Metadata) -> None:
    """Set an inode's fields, its check sum aside (kernel documentation, ``filesystems/ext4/inodes.rst``).

    A FIFO may become a device node.
    """
    access, access_extra = encode_time(metadata.atime)
    modification, modification_extra = encode_time(metadata.mtime)
    change, change_extra = encode_time(metadata.ctime)
    uid, gid = metadata.uid, metadata.gid
    _MODE_AND_UID.pack_into(inode, 0x00, metadata.mode, uid & 0xFFFF)
    _TIMES.pack_into(inode, 0x08, access, change, modification)
    _GID.pack_into(inode, 0x18, gid & 0xFFFF)
    extra = (change_extra, modification_extra, access_extra)
    # the time of creation is that of the last change: mke2fs has put its own there
    _REST.pack_into(inode, 0x78, uid >> 16, gid >> 16, 0, 0, _EXTRA_SIZE, 0, *extra, change, change_extra)
    if metadata.is_device:
        struct.pack_into("<II", inode, 0x28, *_device_words(metadata.device))


def encode_time(time: int) -> tuple[int, int]:
    """The two words of a time in nanoseconds: the low half of the seconds; two bits above it, and the nanoseconds.

    The low half is signed: the two bits count how often it has run over (inodes.rst, "Inode Timestamps").
    """
    seconds, nanoseconds = divmod(time, _SECOND)
    epoch = (seconds + (1 << 31)) >> 32
    return seconds & 0xFFFFFFFF, nanoseconds << 2 | epoch & 3


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
