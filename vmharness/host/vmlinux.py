"""The kernel without its compression, which QEMU enters directly (PVH): the guest then need not unpack it.

A bzImage holds the compressed ELF file at a place that its header names (Linux, ``Documentation/arch/x86/boot.rst``,
``payload_offset`` and ``payload_length``). QEMU enters an ELF file that has Xen's note with a 32-bit entry point.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import cache, proc
from vmharness.model.hardware import Uncompressed

_FORMAT = 1
_MAGIC = b"HdrS"
_SIZE_WORD = 4  # after the compressed data: the size of what comes out
_NOTE_SEGMENT = 4  # elf(5), PT_NOTE
_PVH_ENTRY = 18  # xen/include/public/elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY
_NAME, _WHY_NOT = "vmlinux", "why-not"


def uncompressed(image: Path) -> Uncompressed:
    """The kernel in a bzImage, from the cache or unpacked now; without an image where QEMU could not enter it.

    :raises OSError: the image cannot be read.
    """

    def make(folder: Path) -> None:
        try:
            (folder / _NAME).write_bytes(_unpacked(image.read_bytes()))
        except ValueError as error:
            (folder / _WHY_NOT).write_text(str(error))

    try:
        place = cache.entry("vmlinux", cache.key_of([_FORMAT, cache.remembered_digest(image)]), make)
    except HostError as error:  # no program that unpacks it, say
        return Uncompressed(image=None, reason=error.what)
    why_not = place / _WHY_NOT
    if why_not.is_file():
        return Uncompressed(image=None, reason=why_not.read_text())
    return Uncompressed(image=place / _NAME, reason="")


def _unpacked(image: bytes) -> bytes:
    """The ELF file in a bzImage.

    :raises ValueError: there is none that can be entered; a clause that says why.
    :raises HostError: the program that unpacks it is missing or failed.
    """
    if image[0x202:0x206] != _MAGIC:
        raise ValueError("the kernel is no bzImage")
    sectors = image[0x1F1] or 4  # setup_sects
    offset, length = struct.unpack_from("<II", image, 0x248)  # payload_offset, payload_length
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    unpack = next((unpack for magic, unpack in _UNPACKERS.items() if payload.startswith(magic)), None)
    if unpack is None:
        raise ValueError("the kernel's compression is not known")
    kernel = unpack(payload[:-_SIZE_WORD])
    (size,) = struct.unpack("<I", payload[-_SIZE_WORD:])
    if len(kernel) != size:
        raise ValueError(f"the kernel unpacks to {len(kernel)} bytes instead of {size}")
    if not _has_pvh_entry(kernel):
        raise ValueError("the kernel has no PVH entry point")
    return kernel


def _has_pvh_entry(kernel: bytes) -> bool:
    """Whether a 64-bit little-endian ELF file has the note (elf(5))."""
    if kernel[:6] != b"\x7fELF\x02\x01":
        return False
    (headers,) = struct.unpack_from("<Q", kernel, 32)  # e_phoff
    size, count = struct.unpack_from("<HH", kernel, 54)  # e_phentsize, e_phnum
    for index in range(count):
        kind, _flags, offset, _virtual, _physical, length = struct.unpack_from(
            "<IIQQQQ", kernel, headers + index * size
        )
        if kind == _NOTE_SEGMENT and _PVH_ENTRY in _xen_notes(kernel[offset : offset + length]):
            return True
    return False


def _xen_notes(notes: bytes) -> set[int]:
    """The types of Xen's notes."""
    found, at = set(), 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        if notes[at + 12 : at + 12 + name_size] == b"Xen\0":
            found.add(kind)
        at += 12 + (name_size + 3) // 4 * 4 + (size + 3) // 4 * 4
    return found


def _unxz(packed: bytes) -> bytes:
    try:
        return lzma.decompress(packed)
    except lzma.LZMAError as error:
        raise ValueError(f"the kernel cannot be unpacked: {error}") from error


def _gunzip(packed: bytes) -> bytes:
    try:
        return zlib.decompress(packed, wbits=31)
    except zlib.error as error:
        raise ValueError(f"the kernel cannot be unpacked: {error}") from error


def _by(program: str) -> Callable[[bytes], bytes]:
    return lambda packed: proc.run([program, "-dc"], doing="unpacking the kernel", stdin=packed).stdout


_UNPACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x02\x21\x4c\x18": _by("lz4"),  # the legacy frame
    b"\x28\xb5\x2f\xfd": _by("zstd"),
    b"\xfd7zXZ\0": _unxz,
    b"\x1f\x8b": _gunzip,
}
"""How each compression is undone, by what it begins with."""
