"""Headers of qcow2 images that come from strangers.

A qcow2 image can name other files of the host, which QEMU then opens: a backing file, a file for the data. Such images
are refused here, before QEMU sees them. The format is QEMU's ``docs/interop/qcow2.txt``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from vmharness.errors import SpecError
from vmharness.model.sizes import MIB, format_size

_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_EXTENSION = struct.Struct(">II")
_DIRTY = 1 << 0  # an image that was in use when QEMU was killed
_END, _FEATURE_NAMES = 0, 0x6803F857
_EXTENSIONS = {
    0xE2792ACA: "a backing file",
    0x44415441: "a file of its own for its data",
    0x0537BE77: "encryption",
    0x23852875: "bitmaps",
}
_CLUSTER_BITS = range(9, 22)
_LARGEST_TABLE = 32 * MIB  # QEMU, block/qcow2.h: QCOW_MAX_L1_SIZE


@frozen(kw_only=True)
class _Header:
    """The fields of a header of version 3, by their names in the format's description."""

    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible_features: int
    compatible_features: int
    autoclear_features: int
    refcount_order: int
    header_length: int


def require_plain_qcow2(path: Path, size_limit: int) -> None:
    """Refuse an image that is more than a disk's content in one file.

    :param size_limit: bytes of the disk that it may show at most.
    :raises SpecError: it names another file, is encrypted, or has features or sizes that none of our images has.
    """
    try:
        with path.open("rb") as file:
            problem = next(_problems(file, path.stat().st_size, size_limit), None)
    except (OSError, struct.error) as error:
        raise SpecError(f"it cannot be read as a qcow2 image: {error}", origin=str(path)) from error
    if problem is not None:
        raise SpecError(f"the qcow2 image is refused: {problem}", origin=str(path))


def _problems(file: BinaryIO, length: int, size_limit: int) -> Iterator[str]:
    """What is wrong with it; the first counts, since those that follow rely on it."""
    header = _Header(**dict(zip(_Header.__annotations__, _HEADER.unpack(file.read(_HEADER.size)), strict=True)))
    if header.magic != _MAGIC or header.version != 3:
        yield "it has no header of a qcow2 image of version 3"
    if header.backing_file_offset or header.backing_file_size:
        yield "it names a backing file"
    if header.crypt_method:
        yield "it is encrypted"
    if header.incompatible_features & ~_DIRTY:
        yield f"it has the features {header.incompatible_features:#x}, such as a damage or data in another file"
    if header.nb_snapshots:
        yield "it has snapshots"
    if header.cluster_bits not in _CLUSTER_BITS:
        yield f"its clusters have 2^{header.cluster_bits} bytes"
    if header.size > size_limit or header.size % 512:
        yield f"its disk has {format_size(header.size)}, and at most {format_size(size_limit)} are possible"
    yield from _table_problems(header, length)
    yield from _extension_problems(file, header)


def _table_problems(header: _Header, length: int) -> Iterator[str]:
    cluster = 1 << header.cluster_bits
    tables = (
        ("mapping", header.l1_table_offset, header.l1_size * 8),
        ("reference", header.refcount_table_offset, header.refcount_table_clusters * cluster),
    )
    for name, offset, size in tables:
        if offset % cluster or size > _LARGEST_TABLE or offset + size > length or (size and not offset):
            yield f"its {name} table does not lie in it"
    if header.refcount_order > 6:
        yield "its reference counts have more than 64 bits"


def _extension_problems(file: BinaryIO, header: _Header) -> Iterator[str]:
    """The extensions that follow the header, in its cluster."""
    if not _HEADER.size <= header.header_length <= 1 << header.cluster_bits or header.header_length % 8:
        yield f"its header has {header.header_length} bytes"
    place = header.header_length
    while place + _EXTENSION.size <= 1 << header.cluster_bits:
        file.seek(place)
        kind, size = _EXTENSION.unpack(file.read(_EXTENSION.size))
        if kind == _END:
            return
        if kind != _FEATURE_NAMES:
            yield f"it has {_EXTENSIONS.get(kind, f'the unknown extension {kind:#x}')}"
        place += _EXTENSION.size + (-(-size // 8) * 8)
    yield "the list of its extensions has no end"
