"""Putting huge directories together again, whose entries ``tree/spread.py`` has staged in chunks.

``mke2fs -d`` has laid each chunk as a directory. Their blocks are copied into a file that was staged to have enough of
them, and the huge directory takes over that file's blocks; no entry is packed anew. Then the chunks' inodes are
cleared. What they occupied is still marked as used, so that nothing is overwritten until :func:`settle` has e2fsck
correct that, and build the hashed index by which the kernel finds a name among so many.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vmharness.disk.ext4 import ROOT, Volume
from vmharness.errors import HostError
from vmharness.host import index, proc
from vmharness.model.results import StagedTree

_DIRECTORY = 2  # an entry's type of file
_MOST_LINKS = 65000  # of a directory; one with more says 1 (feature dir_nlink)
# all that e2fsck may say: what the chunks have left behind, and its own doings
_EXPECTED = re.compile(
    r"(Inode bitmap|Block bitmap) differences: .*|(Free blocks|Free inodes|Directories) count wrong.*|Fix\? yes"
    r"|Pass \d\w?: .*|.*\*\*\*\*\* FILE SYSTEM WAS MODIFIED \*\*\*\*\*|.*: \d+/\d+ files \(.*\), \d+/\d+ blocks"
)


def join(disk: Path, offset: int, tree: StagedTree) -> None:
    """Make the filesystem's huge directories hold their entries, and remove the chunks.

    :param disk: the raw disk, and ``offset`` the first byte of the filesystem that mke2fs has just made from the tree.
    :raises HostError: the filesystem does not hold what was staged.
    """
    assert tree.index is not None
    with index.read(tree.index) as entries, Volume(disk, offset) as volume:
        joiner = _Joiner(volume)
        places = entries.spreads()
        for parent, place in places:
            # mke2fs has laid every directory where it was staged
            joiner.join(joiner.find(entries.place(parent) if parent else b""), joiner.find(place))
        joiner.remove_top(places[0][1].split(b"/")[0])


def settle(disk: Path, offset: int) -> None:
    """Let e2fsck free what the chunks occupied, and index the directories.

    :raises HostError: it found something else to correct: the filesystem is not what it should be.
    """
    # through a link of our own: a '?' in the path would begin the options
    with tempfile.TemporaryDirectory(prefix="vmharness-") as folder:
        (Path(folder) / "disk").symlink_to(disk.absolute())
        argv = ["e2fsck", "-fyD", f"disk?offset={offset}"]
        done = proc.run(argv, doing="indexing the directories of the root filesystem", ok=(0, 1), cwd=Path(folder))
    found = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    other = [line for line in found if not _EXPECTED.fullmatch(line)]
    if other:
        raise HostError(
            f"joining the huge directories of the root filesystem: e2fsck corrected more than expected: {other[0]}",
            hint="this is a bug of vmharness: please report it with the output of 'mke2fs -V'",
        )


class _Joiner:
    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._cleared: list[int] = []

    def find(self, place: bytes) -> int:
        """The inode number of a staged path; no directory on the way is huge."""
        number = ROOT
        for name in place.split(b"/") if place else []:
            number = self._children(number)[name]
        return number

    def join(self, number: int, folder: int) -> None:
        """Fill the directory ``number`` from the chunks in ``folder``."""
        volume = self._volume
        inode, parts = volume.inode(number), self._children(folder)
        room = parts.pop(b"room")
        chunks = [parts[name] for name in sorted(parts, key=int)]
        self._cleared += [folder, room, *chunks]
        free = volume.blocks(volume.inode(room))
        for block in volume.blocks(inode):
            volume.write_directory_block(number, next(free), bytearray(volume.read(block)))
        moved = 0
        for chunk in chunks:
            moved += self._adopt(number, chunk)
            for data in self._entries_of(chunk):
                volume.write_directory_block(number, next(free), data)
        for block in free:
            volume.write_directory_block(number, block, self._empty())
        links = struct.unpack_from("<H", inode, 0x1A)[0] + moved
        struct.pack_into("<H", inode, 0x1A, links if links < _MOST_LINKS else 1)
        volume.take_over_blocks(number, inode, volume.inode(room))

    def remove_top(self, name: bytes) -> None:
        """Remove the chunks, and the folder ``name`` of the root that holds them."""
        volume = self._volume
        root = volume.inode(ROOT)
        entry = next(entry for entry in volume.entries(root) if entry.name == name)
        data = bytearray(volume.read(entry.block))
        struct.pack_into("<I", data, entry.position, 0)
        volume.write_directory_block(ROOT, entry.block, data)
        links = struct.unpack_from("<H", root, 0x1A)[0]
        struct.pack_into("<H", root, 0x1A, links - 1 if links > 1 else 1)
        volume.set_inode(ROOT, root)
        for number in (entry.inode, *self._cleared):
            volume.clear_inode(number)

    def _children(self, number: int) -> dict[bytes, int]:
        return {entry.name: entry.inode for entry in self._volume.entries(self._volume.inode(number))}

    def _adopt(self, number: int, chunk: int) -> int:
        """Let ``..`` of a chunk's directories be the directory ``number``; say how many there are."""
        volume, count = self._volume, 0
        for entry in volume.entries(volume.inode(chunk)):
            if volume.read(entry.block)[entry.position + 7] != _DIRECTORY:
                continue
            count += 1
            first = next(volume.blocks(volume.inode(entry.inode)))
            data = bytearray(volume.read(first))
            struct.pack_into("<I", data, 12, number)  # the second entry
            volume.write_directory_block(entry.inode, first, data)
        return count

    def _entries_of(self, chunk: int) -> Iterator[bytearray]:
        """A chunk's blocks, without ``.`` and ``..``."""
        volume = self._volume
        for position, block in enumerate(volume.blocks(volume.inode(chunk))):
            data = bytearray(volume.read(block))
            if position == 0:
                length = 12 + struct.unpack_from("<H", data, 12 + 4)[0]
                struct.pack_into("<IHBB", data, 0, 0, length, 0, 0)
            yield data

    def _empty(self) -> bytearray:
        """A directory's block without entries."""
        data = bytearray(self._volume.block_size)
        struct.pack_into("<IH", data, 0, 0, self._volume.block_size - 12)
        return data
