"""The digest by which firmware knows an EFI binary.

(Microsoft, "Windows Authenticode Portable Executable Signature Format".)

It covers the binary without its check sum and its signatures, so that signing does not change it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

_CERTIFICATE_TABLE = 4  # its index among the data directories (PE Format, "Optional Header Data Directories")
_DIRECTORIES = {0x10B: 96, 0x20B: 112}  # where they begin in the optional header, by its magic: PE32, PE32+


def is_efi_binary(data: bytes) -> bool:
    """Whether ``data`` is an EFI binary: a PE image. Linux kernels with the EFI stub are, too."""
    try:
        _optional_header(data)
    except (ValueError, struct.error):
        return False
    return True


def digest(data: bytes) -> bytes:
    """The SHA-256 digest of an EFI binary, as edk2 computes it (``DxeImageVerificationLib``, ``HashPeImage``).

    :raises ValueError: with a sentence, if ``data`` is no EFI binary, or a damaged one.
    """
    try:
        ranges = list(_ranges(data))
    except struct.error as error:
        raise ValueError("the EFI binary is cut off") from error
    if any(not 0 <= begin <= end <= len(data) for begin, end in ranges):
        raise ValueError("the EFI binary's sections reach beyond its end")
    total = hashlib.sha256()
    for begin, end in ranges:
        total.update(data[begin:end])
    return total.digest()


def digests(data: bytes) -> tuple[bytes, ...]:
    """The digest of an EFI binary as it is; and where signing changes it, that of the signed binary, too.

    A signature begins at a multiple of 8 bytes, so signers fill up what is shorter, and the filling counts.

    :raises ValueError: as :func:`digest`.
    """
    there = digest(data)
    filled = digest(data + bytes(-len(data) % 8))
    return (there,) if filled == there else (there, filled)


def _optional_header(data: bytes) -> int:
    """Where the optional header begins."""
    if data[:2] != b"MZ" or len(data) < 0x40:
        raise ValueError("it is no EFI binary")
    (pe,) = struct.unpack_from("<I", data, 0x3C)
    if data[pe : pe + 4] != b"PE\0\0":
        raise ValueError("it is no EFI binary")
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    if magic not in _DIRECTORIES:
        raise ValueError("it is no EFI binary")
    return int(optional)


def _certificates(data: bytes, optional: int) -> tuple[int, int]:
    """Place and size of the signatures; nothing where there is no such directory."""
    entry = _certificate_entry(data, optional)
    if entry is None:
        return 0, 0
    place, size = struct.unpack_from("<II", data, entry)
    return place, size


def _certificate_entry(data: bytes, optional: int) -> int | None:
    (magic,) = struct.unpack_from("<H", data, optional)
    directories = optional + _DIRECTORIES[magic]
    (count,) = struct.unpack_from("<I", data, directories - 4)
    return directories + 8 * _CERTIFICATE_TABLE if count > _CERTIFICATE_TABLE else None


def _ranges(data: bytes) -> Iterator[tuple[int, int]]:
    """The parts that count, in order: the headers without the check sum and the entry of the signatures, the sections
    as they lie in the file, and what follows them up to the signatures.
    """
    optional = _optional_header(data)
    (header_size,) = struct.unpack_from("<I", data, optional + 60)
    check_sum = optional + 64
    yield 0, check_sum
    entry = _certificate_entry(data, optional)
    if entry is None:
        yield check_sum + 4, header_size
    else:
        yield check_sum + 4, entry
        yield entry + 8, header_size
    end = header_size
    for begin, size in sorted(_sections(data, optional)):
        yield begin, begin + size
        end += size
    _place, size = _certificates(data, optional)
    if end < len(data) - size:
        yield end, len(data) - size


def _sections(data: bytes, optional: int) -> Iterator[tuple[int, int]]:
    (count,) = struct.unpack_from("<H", data, optional - 18)
    (optional_size,) = struct.unpack_from("<H", data, optional - 4)
    for number in range(count):
        size, place = struct.unpack_from("<II", data, optional + optional_size + 40 * number + 16)
        if size:
            yield place, size
