"""Kernel modules: load order from what the modules say themselves."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from vmharness.errors import HostError
from vmharness.host.modules import module_bytes, needs, resolve_modules
from vmharness.model.hardware import Kernel


def elf_module(*modinfo: str) -> bytes:
    """A 64-bit ELF file that has nothing but a section ``.modinfo`` with these entries."""
    info = b"".join(entry.encode() + b"\0" for entry in modinfo)
    names = b"\0.modinfo\0.shstrtab\0"
    sections = [(0, 0, 0, 0, 0, 0), (1, 1, 0, 0, 64, len(info)), (10, 3, 0, 0, 64 + len(info), len(names))]
    table = b"".join(struct.pack("<IIQQQQIIQQ", *section, 0, 0, 1, 0) for section in sections)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, 64 + len(info) + len(names), 0, 64, 0, 0, 64, 3, 2
    )
    return head + info + names + table


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel with a few modules that need each other."""
    files = {
        "drivers/virtio/virtio.ko": elf_module("depends=virtio_ring"),
        "drivers/virtio/virtio_ring.ko": elf_module("depends="),
        "drivers/char/virtio-rng.ko.xz": lzma.compress(
            elf_module("license=GPL", "depends=virtio,virtio-ring,rng_core")
        ),
        "fs/ext4/ext4.ko": elf_module("depends=jbd2", "softdep=pre: crypto-crc32c absent"),
        "fs/jbd2/jbd2.ko": elf_module("depends="),
        "crypto/crc32c_generic.ko": elf_module("depends="),
        "fs/odd.ko": elf_module("depends=missing"),
        "fs/ring_a.ko": elf_module("depends=ring_b"),
        "fs/ring_b.ko": elf_module("depends=ring_a"),
        "fs/broken.ko": b"\x7fELF\x02\x01broken",
        "fs/damaged.ko.xz": b"not xz",
    }
    for name, content in files.items():
        path = tmp_path / "kernel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "modules.builtin").write_text("kernel/drivers/char/hw_random/rng-core.ko\nkernel/fs/nls/nls_base.ko\n")
    return Kernel(image=tmp_path / "vmlinuz", modules=tmp_path, version="1.2.3-test", reason="a test's")


def names(files: tuple[Path, ...]) -> list[str]:
    return [file.name for file in files]


def test_what_a_module_needs_comes_before_it(kernel: Kernel) -> None:
    """Needs are followed to their end, each module comes once, built-in ones not at all, ``-`` is ``_``."""
    assert names(resolve_modules(kernel, ["virtio_rng", "virtio", "nls-base"])) == [
        "virtio_ring.ko",
        "virtio.ko",
        "virtio-rng.ko.xz",
    ]


def test_what_a_module_would_like_comes_before_it_where_it_exists(kernel: Kernel) -> None:
    """A soft dependency is loaded, by its name, its alias or as the generic implementation, and not missed."""
    assert names(resolve_modules(kernel, ["ext4"])) == ["crc32c_generic.ko", "jbd2.ko", "ext4.ko"]


def test_a_circle_of_needs_ends(kernel: Kernel) -> None:
    """Modules that need each other do not hang the search."""
    assert names(resolve_modules(kernel, ["ring_a"])) == ["ring_b.ko", "ring_a.ko"]


def test_a_missing_module_is_named_with_who_needs_it(kernel: Kernel) -> None:
    """The error says which module of which kernel, and which other module needs it."""
    with pytest.raises(HostError, match=r"1\.2\.3-test has no module 'nonesuch'"):
        resolve_modules(kernel, ["nonesuch"])
    with pytest.raises(HostError, match=r"no module 'missing' \(needed by odd\)"):
        resolve_modules(kernel, ["odd"])


def test_a_damaged_module_is_named(kernel: Kernel) -> None:
    """A file that is no module, or cannot be decompressed, is an error that names the file."""
    with pytest.raises(HostError, match=r"broken\.ko is no kernel module"):
        resolve_modules(kernel, ["broken"])
    with pytest.raises(HostError, match=r"damaged\.ko\.xz"):
        resolve_modules(kernel, ["damaged"])


def test_needs_are_read_from_the_module() -> None:
    """``depends`` and the first part of ``softdep``; anything but an ELF file is refused."""
    assert needs(elf_module("softdep=pre: a b-c post: d", "depends=x,y-z")) == (("x", "y_z"), ("a", "b_c"))
    assert needs(elf_module("license=GPL")) == ((), ())
    with pytest.raises(ValueError, match="no 64-bit ELF"):
        needs(b"text")


def test_modules_are_decompressed(kernel: Kernel) -> None:
    """A plain module comes as it is, an xz one decompressed."""
    ring, _, rng = resolve_modules(kernel, ["virtio_rng"])
    assert module_bytes(ring) == ring.read_bytes()
    assert module_bytes(rng).startswith(b"\x7fELF")
