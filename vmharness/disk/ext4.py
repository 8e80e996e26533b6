"""Inodes and directories of an ext4 filesystem that mke2fs has just made in a file: read, and patched in place.

Only what such a filesystem has is known here: extents, linear directories, 256-byte inodes, check sums of all metadata.
Everything is little-endian. The layout is that of the kernel's documentation, ``filesystems/ext4``; structure and field
names are its own.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import google_crc32c
from attrs import frozen

from vmharness.errors import HostError

ROOT = 2
_MAGIC = 0xEF53
# ext_attr aside: filetype | extents | 64bit | flex_bg, and nothing that changes what is read here
_INCOMPATIBLE = 0x2 | 0x40 | 0x80 | 0x200
_METADATA_CSUM = 0x400
_EXTENTS = slice(0x28, 0x64)  # an inode's root of its extent tree
_EXTENT_MAGIC = 0xF30A
_PIECE = 1 << 16  # bytes of an inode table that are read and written at once
_PIECES_KEPT = 64
_TAIL = 12  # of a directory block: an entry without inode whose type is 0xDE, and the check sum
_MASK = 0xFFFFFFFF
_Piece = tuple[int, int]  # block group, and number of the piece in its table


def checksum(seed: int, data: bytes | bytearray | memoryview) -> int:
    """ext4's CRC-32C: without the inversions at both ends that the library makes."""
    value: int = google_crc32c.extend(seed ^ _MASK, bytes(data))
    return value ^ _MASK


@frozen
class Entry:
    """One name in a directory.

    :param block: the filesystem block that holds it, and ``position`` the byte in that block.
    """

    inode: int
    name: bytes
    block: int
    position: int


class Volume:
    """An ext4 filesystem at byte ``offset`` of a file; changes are on disk when the ``with`` block ends.

    :raises HostError: it is not a filesystem as we make them.
    """

    def __init__(self, disk: Path, offset: int) -> None:
        self._disk = disk
        self._offset = offset
        self._pieces: OrderedDict[_Piece, bytearray] = OrderedDict()
        self._changed: set[_Piece] = set()
        self._file = os.open(disk, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._read_superblock()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for piece in sorted(self._changed):
                    self._write(piece, self._pieces[piece])
        finally:
            os.close(self._file)

    def inode(self, number: int) -> bytearray:
        """A copy of an inode; change it and hand it to :meth:`set_inode`."""
        piece, start = self._locate(number)
        return self._table_piece(piece)[start : start + self._inode_size]

    def set_inode(self, number: int, inode: bytearray) -> None:
        """Write an inode with its check sum, if it differs from what is there. ``inode`` gets the check sum too."""
        piece, start = self._locate(number)
        table = self._table_piece(piece)
        struct.pack_into("<H", inode, 0x7C, 0)
        struct.pack_into("<H", inode, 0x82, 0)
        value = checksum(self._inode_seed(number, inode), inode)
        struct.pack_into("<H", inode, 0x7C, value & 0xFFFF)
        struct.pack_into("<H", inode, 0x82, value >> 16)
        if table[start : start + self._inode_size] != inode:
            table[start : start + self._inode_size] = inode
            self._changed.add(piece)

    def entries(self, inode: bytearray) -> Iterator[Entry]:
        """A directory's names, without ``.`` and ``..``; one block of it in memory at a time."""
        for block in self.blocks(inode):
            data = self.read(block)
            position = 0
            while position < self.block_size - _TAIL:
                number, length, name_length = struct.unpack_from("<IHB", data, position)
                if length < 8:
                    raise self._unreadable(f"a directory entry of {length} bytes in block {block}")
                name = data[position + 8 : position + 8 + name_length]
                if number and name not in {b".", b".."}:
                    yield Entry(number, name, block, position)
                position += length

    def set_entry_type(self, directory: int, entry: Entry, kind: int) -> None:
        """Change the type of file that an entry of a directory (its inode number) announces."""
        data = bytearray(self.read(entry.block))
        data[entry.position + 7] = kind
        self.write_directory_block(directory, entry.block, data)

    def write_directory_block(self, directory: int, block: int, data: bytearray) -> None:
        """Write a block of entries of a directory (its inode number); ``data`` gets the check sum."""
        body = self.block_size - _TAIL
        struct.pack_into("<IHBBI", data, body, 0, _TAIL, 0, 0xDE, 0)
        value = checksum(self._inode_seed(directory, self.inode(directory)), memoryview(data)[:body])
        struct.pack_into("<I", data, body + 8, value)
        os.pwrite(self._file, data, self._place_of_block(block))

    def blocks(self, inode: bytearray) -> Iterator[int]:
        """The blocks of a file or directory, in their order."""
        return self._blocks(bytes(inode[_EXTENTS]))

    def read(self, block: int) -> bytes:
        """One block."""
        return os.pread(self._file, self.block_size, self._place_of_block(block))

    def take_over_blocks(self, number: int, inode: bytearray, giver: bytearray) -> None:
        """Give the file ``number`` all blocks of another one, and its size; the file's own blocks are forgotten.

        The giver still names them: clear its inode. What the blocks hold is not touched.
        """
        for words in (_EXTENTS, slice(0x04, 0x08), slice(0x6C, 0x70), slice(0x1C, 0x20), slice(0x74, 0x76)):
            inode[words] = giver[words]
        self.set_inode(number, inode)
        self._sign_nodes(bytes(inode[_EXTENTS]), self._inode_seed(number, inode))

    def clear_inode(self, number: int) -> None:
        """Make an inode look as if it had never been used. Bitmaps and counts are left as they are."""
        piece, start = self._locate(number)
        self._table_piece(piece)[start : start + self._inode_size] = bytes(self._inode_size)
        self._changed.add(piece)

    def _read_superblock(self) -> None:
        block = os.pread(self._file, 1024, self._offset + 1024)
        if len(block) < 1024 or struct.unpack_from("<H", block, 0x38)[0] != _MAGIC:
            raise self._unreadable("no superblock")
        incompatible, compatible = struct.unpack_from("<II", block, 0x60)
        if incompatible != _INCOMPATIBLE or not compatible & _METADATA_CSUM:
            raise self._unreadable(f"features {incompatible:#x} and {compatible:#x}")
        self.block_size: int = 1024 << struct.unpack_from("<I", block, 0x18)[0]
        self._inodes_per_group: int = struct.unpack_from("<I", block, 0x28)[0]
        self._inode_size: int = struct.unpack_from("<H", block, 0x58)[0]
        self._descriptor_size: int = struct.unpack_from("<H", block, 0xFE)[0]
        inodes = struct.unpack_from("<I", block, 0)[0]
        first = struct.unpack_from("<I", block, 0x14)[0]
        self._seed = checksum(_MASK, block[0x68:0x78])
        groups = -(-inodes // self._inodes_per_group)
        table = os.pread(self._file, groups * self._descriptor_size, self._offset + (first + 1) * self.block_size)
        self._tables = [self._table(table, group) for group in range(groups)]

    def _table(self, descriptors: bytes, group: int) -> int:
        start = group * self._descriptor_size
        low: int = struct.unpack_from("<I", descriptors, start + 0x08)[0]
        high: int = struct.unpack_from("<I", descriptors, start + 0x28)[0]
        return high << 32 | low

    def _inode_seed(self, number: int, inode: bytearray) -> int:
        return checksum(self._seed, struct.pack("<I", number) + inode[0x64:0x68])

    def _locate(self, number: int) -> tuple[_Piece, int]:
        """The piece of an inode table that holds an inode, and the inode's first byte in it."""
        group, index = divmod(number - 1, self._inodes_per_group)
        piece, start = divmod(index * self._inode_size, _PIECE)
        return (group, piece), start

    def _table_piece(self, piece: _Piece) -> bytearray:
        """A piece of an inode table, from memory if it was used lately."""
        data = self._pieces.get(piece)
        if data is not None:
            self._pieces.move_to_end(piece)
            return data
        if len(self._pieces) >= _PIECES_KEPT:
            old, data = self._pieces.popitem(last=False)
            if old in self._changed:
                self._write(old, data)
                self._changed.remove(old)
        # the next table may follow at once: the last piece of a table ends with it
        size = min(_PIECE, self._inodes_per_group * self._inode_size - piece[1] * _PIECE)
        data = bytearray(os.pread(self._file, size, self._place(piece)))
        self._pieces[piece] = data
        return data

    def _write(self, piece: _Piece, data: bytearray) -> None:
        os.pwrite(self._file, data, self._place(piece))

    def _place(self, piece: _Piece) -> int:
        return self._offset + self._tables[piece[0]] * self.block_size + piece[1] * _PIECE

    def _read(self, block: int) -> bytes:
        return os.pread(self._file, self.block_size, self._offset + block * self.block_size)

    def _sign_nodes(self, node: bytes, seed: int) -> None:
        """Renew the check sums of the blocks of an extent tree below ``node``."""
        _magic, count, _most, depth = struct.unpack_from("<HHHH", node)
        for index in range(count if depth else 0):
            low, high = struct.unpack_from("<IH", node, 12 + 12 * index + 4)
            child = bytearray(self.read(high << 32 | low))
            tail = 12 + 12 * struct.unpack_from("<H", child, 4)[0]
            struct.pack_into("<I", child, tail, checksum(seed, memoryview(child)[:tail]))
            os.pwrite(self._file, child, self._place_of_block(high << 32 | low))
            self._sign_nodes(bytes(child), seed)

    def _place_of_block(self, block: int) -> int:
        return self._offset + block * self.block_size

    def _blocks(self, node: bytes) -> Iterator[int]:
        """The blocks of a file, from a node of its extent tree."""
        magic, count, _most, depth = struct.unpack_from("<HHHH", node)
        if magic != _EXTENT_MAGIC:
            raise self._unreadable("a directory without extents")
        for index in range(count):
            start = 12 + 12 * index
            if depth:
                low, high = struct.unpack_from("<IH", node, start + 4)
                yield from self._blocks(self.read(high << 32 | low))
            else:
                length, high, low = struct.unpack_from("<HHI", node, start + 4)
                yield from range(high << 32 | low, (high << 32 | low) + length)

    def _unreadable(self, what: str) -> HostError:
        return HostError(
            f"the filesystem that mke2fs made in {self._disk} at byte {self._offset} is not as expected: {what}",
            hint="this is a bug of vmharness, or a new kind of mke2fs: please report it with the output of 'mke2fs -V'",
        )
