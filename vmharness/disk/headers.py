"""What VDI and VHD files say about themselves besides the disk: an identifier, and the time at which they were made.

``qemu-img`` draws the one at random and takes the other from the clock. Both are set here, so that the same disk makes
the same file.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from vmharness.errors import HostError
from vmharness.model.image import Format

# VirtualBox, Storage/VDICore.h: the header's fields uuidCreate and uuidModify.
_VDI_SIGNATURE = (0x40, b"\x7f\x10\xda\xbe")
_VDI_IDENTIFIERS = 0x188
# Microsoft's Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format".
_VHD_COOKIE = b"conectix"
_VHD_FOOTER = 512
_VHD_TIME, _VHD_CHECKSUM, _VHD_IDENTIFIER = 24, 64, 68


def set_identifier(path: Path, form: Format, identifier: UUID) -> None:
    """Give an image file its identifier, where its format has one; a VHD's time becomes the first that it can say.

    :raises HostError: the file is not what ``qemu-img`` writes for that format.
    """
    if form is Format.VDI:
        with path.open("r+b") as file:
            _require(path, file, *_VDI_SIGNATURE)
            file.seek(_VDI_IDENTIFIERS)
            file.write(2 * identifier.bytes_le)
    elif form is Format.VPC:
        with path.open("r+b") as file:
            end = file.seek(-_VHD_FOOTER, os.SEEK_END)
            for place in (0, end):  # a dynamic disk begins with a copy
                _require(path, file, place, _VHD_COOKIE)
                _set_footer(file, place, identifier)


def _set_footer(file: BinaryIO, place: int, identifier: UUID) -> None:
    file.seek(place)
    footer = bytearray(file.read(_VHD_FOOTER))
    struct.pack_into(">I", footer, _VHD_TIME, 0)
    struct.pack_into(">I", footer, _VHD_CHECKSUM, 0)
    footer[_VHD_IDENTIFIER : _VHD_IDENTIFIER + 16] = identifier.bytes
    struct.pack_into(">I", footer, _VHD_CHECKSUM, ~sum(footer) & 0xFFFFFFFF)
    file.seek(place)
    file.write(footer)


def _require(path: Path, file: BinaryIO, place: int, mark: bytes) -> None:
    file.seek(place)
    if file.read(len(mark)) != mark:
        raise HostError(f"{path} has an unknown header, so it cannot be given its identifier")
