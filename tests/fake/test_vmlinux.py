"""The kernel without its compression: taken where QEMU can enter it, left with a reason where not."""

import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from vmharness.host import proc
from vmharness.host.vmlinux import uncompressed

PVH, OTHER = 18, 7


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def elf(note: int, name: bytes = b"Xen\0") -> bytes:
    """A 64-bit ELF file with one other segment, and one that holds two notes, the second of type ``note``."""
    notes = struct.pack("<III", 4, 5, 1) + b"GNU\0" + b"abcde\0\0\0"
    notes += struct.pack("<III", len(name), 8, note) + name + bytes(8)
    start = 64 + 2 * 56
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 64, 64, 4096)
    return header + load + struct.pack("<IIQQQQQQ", 4, 4, start, 0, 0, len(notes), len(notes), 4) + notes


def bz_image(folder: Path, payload: bytes, size: int, *, sectors: int = 3) -> Path:
    """A bzImage with a compressed kernel that should unpack to ``size`` bytes."""
    head = bytearray((sectors + 1) * 512)
    head[0x1F1] = sectors
    head[0x202:0x206] = b"HdrS"
    whole = payload + struct.pack("<I", size)
    struct.pack_into("<II", head, 0x248, 16, len(whole))
    path = folder / "vmlinuz"
    path.write_bytes(head + bytes(16) + whole + b"what follows is the unpacker's")
    return path


def program(*argv: str) -> Callable[[bytes], bytes]:
    """A compressor that is a program."""
    return lambda data: proc.run(argv, doing="packing", stdin=data).stdout


COMPRESSIONS = {
    "lz4": program("lz4", "-l", "-c"),
    "zstd": program("zstd", "-qc"),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "gzip": gzip.compress,
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_kernel_comes_out_of_each_compression(name: str, tmp_path: Path) -> None:
    """The ELF file that went into the bzImage comes out of it, and the second time from the cache."""
    kernel = elf(PVH)
    image = bz_image(tmp_path, COMPRESSIONS[name](kernel), len(kernel))
    found = uncompressed(image)
    assert found.image is not None
    assert found.image.read_bytes() == kernel
    assert uncompressed(image) == found


@pytest.mark.parametrize("kernel", [elf(OTHER), elf(PVH, b"GNU\0"), b"no ELF file, but long enough for a header"])
def test_kernel_without_the_entry_is_not_taken(kernel: bytes, tmp_path: Path) -> None:
    """QEMU would refuse a kernel without Xen's note of the entry point: it is named as the reason, each time."""
    image = bz_image(tmp_path, gzip.compress(kernel), len(kernel))
    for _ in range(2):
        found = uncompressed(image)
        assert (found.image, found.reason) == (None, "the kernel has no PVH entry point")


def test_kernel_of_another_size_is_not_taken(tmp_path: Path) -> None:
    """What does not unpack to the size that the image notes is not the kernel."""
    kernel = elf(PVH)
    found = uncompressed(bz_image(tmp_path, gzip.compress(kernel), len(kernel) + 1))
    assert found.image is None
    assert found.reason == f"the kernel unpacks to {len(kernel)} bytes instead of {len(kernel) + 1}"


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_damaged_kernel_is_not_taken(name: str, tmp_path: Path) -> None:
    """A payload that cannot be unpacked is a reason, not the end of the build: firmware may still start the image."""
    kernel = elf(PVH)
    packed = COMPRESSIONS[name](kernel)
    found = uncompressed(bz_image(tmp_path, packed[: len(packed) // 2], len(kernel)))
    assert found.image is None
    assert "unpack" in found.reason


@pytest.mark.parametrize(
    ("payload", "reason"), [(b"\x5d\0\0LZMA", "the kernel's compression is not known"), (b"", "not known")]
)
def test_unknown_compression_is_not_taken(payload: bytes, reason: str, tmp_path: Path) -> None:
    """A compression that nobody here undoes is named as the reason."""
    found = uncompressed(bz_image(tmp_path, payload, 100))
    assert found.image is None
    assert reason in found.reason


@pytest.mark.parametrize("content", [b"", elf(PVH)])
def test_what_is_no_bzimage_is_not_taken(content: bytes, tmp_path: Path) -> None:
    """A file of another kind, such as an ELF kernel of the user's, stays as it is."""
    image = tmp_path / "vmlinuz"
    image.write_bytes(content)
    assert uncompressed(image).reason == "the kernel is no bzImage"


def test_missing_program_is_a_reason_and_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the decompressor is not installed the reason says so; once it is, the kernel is unpacked."""
    kernel = elf(PVH)
    image = bz_image(tmp_path, COMPRESSIONS["lz4"](kernel), len(kernel))
    with monkeypatch.context() as without:
        without.setattr(proc, "find", lambda _name: None)
        assert uncompressed(image).reason == "the program 'lz4' is not installed"
    assert uncompressed(image).image is not None
