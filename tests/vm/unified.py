"""Makes a unified kernel image as ukify does: sections put behind those of systemd's stub."""

from __future__ import annotations

import struct

from vmharness.host import kernel, packages
from vmharness.tree import minimal

_HEADER = struct.Struct("<8sIIIIIIHHI")
_DATA = 0x40000040  # initialised, readable


def unified_kernel_image(stub: bytes, sections: dict[str, bytes]) -> bytes:
    """The stub with more sections, such as ``.linux``, ``.initrd`` and ``.cmdline`` (PE/COFF specification)."""
    image = bytearray(stub)
    (coff,) = struct.unpack_from("<I", image, 0x3C)
    count, optional_size = struct.unpack_from("<H12xH", image, coff + 6)
    optional = coff + 24
    alignment, file_alignment = struct.unpack_from("<II", image, optional + 32)
    size_of_image, size_of_headers = struct.unpack_from("<II", image, optional + 56)
    headers = optional + optional_size
    assert headers + (count + len(sections)) * _HEADER.size <= size_of_headers, "no room for more section headers"
    for name, data in sections.items():
        image += bytes(-len(image) % file_alignment)
        padded = data + bytes(-len(data) % file_alignment)
        _HEADER.pack_into(
            image, headers + count * _HEADER.size,
            name.encode(), len(data), size_of_image, len(padded), len(image), 0, 0, 0, 0, _DATA,
        )  # fmt: skip
        image += padded
        size_of_image += len(data) + -len(data) % alignment
        count += 1
    struct.pack_into("<H", image, coff + 6, count)
    struct.pack_into("<I", image, optional + 56, size_of_image)
    return bytes(image)


def of_minimal(command_line: str) -> bytes:
    """The minimal tree's kernel and initrd as one image, with systemd's stub."""
    unpacked = packages.unpack(("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2"))
    boot = minimal.stage(kernel.appliance_kernel(None, None), systemd_boot=True).directory / "boot"
    (linux,), (initrd,) = boot.glob("vmlinuz-*"), boot.glob("initrd*")
    sections = {
        ".osrel": b"ID=minimal\nVERSION_ID=1\n",
        ".cmdline": command_line.encode(),
        ".linux": linux.read_bytes(),
        ".initrd": initrd.read_bytes(),
    }
    return unified_kernel_image((unpacked / "usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes(), sections)
