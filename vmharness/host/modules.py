"""Kernel modules: which files to load, in which order.

Each module says itself what it needs (``.modinfo``, see modinfo(8)), so neither ``modules.dep``, which Debian makes
only at installation, nor kmod is needed.
"""

from __future__ import annotations

import lzma
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.model.hardware import Kernel

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def resolve_modules(kernel: Kernel, names: Sequence[str]) -> tuple[Path, ...]:
    """The files of the modules ``names`` and of all that they need, in load order.

    What the kernel has built in is left out. ``-`` and ``_`` are the same in names.

    :raises HostError: a module is neither a file nor built in.
    """
    files, builtin = _files(kernel.modules), _builtin(kernel.modules)
    order: dict[str, Path] = {}
    visited: set[str] = set()

    def visit(name: str, needed_by: str) -> None:
        if name in visited or name in builtin:
            return
        visited.add(name)
        if name not in files:
            raise HostError(
                f"the kernel {kernel.version} has no module '{name}'{needed_by}: "
                f"it is neither in {kernel.modules} nor built in",
                hint="use Debian's cloud kernel (the default), or a kernel with that driver",
            )
        file = Path(files[name])
        try:
            hard, soft = needs(module_bytes(file))
        except (ValueError, struct.error) as error:
            raise HostError(f"{file} is no kernel module: {error}") from error
        for wish in soft:
            # a module's name, or what the kernel's own cipher code asks for: "crypto-crc32c" is in crc32c_generic
            plain = wish.removeprefix("crypto_")
            known = next((word for word in (wish, plain, f"{plain}_generic") if word in files), None)
            if known:
                visit(known, "")
        for need in hard:
            visit(need, f" (needed by {name})")
        order[name] = file

    for name in names:
        visit(_normal(name), "")
    return tuple(order.values())


def needs(module: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a module (an ELF file) needs loaded before it: what it must have, and what it would like to have.

    :raises ValueError: it is no module.
    """
    hard: list[str] = []
    soft: list[str] = []
    for entry in _modinfo(module).split(b"\0"):
        key, _, value = entry.decode("utf-8", "replace").partition("=")
        if key == "depends":
            hard += [_normal(name) for name in value.split(",") if name]
        elif key == "softdep" and value.startswith("pre:"):
            soft += [_normal(name) for name in value.removeprefix("pre:").partition("post:")[0].split()]
    return tuple(hard), tuple(soft)


def module_bytes(path: Path) -> bytes:
    """Content of a module's file, decompressed.

    :raises HostError: it cannot be decompressed.
    """
    if path.name.endswith(".zst"):
        return proc.run(["zstd", "-dcq", path], doing=f"decompressing {path.name}").stdout
    if path.name.endswith(".gz"):
        return proc.run(["gzip", "-dc", path], doing=f"decompressing {path.name}").stdout
    content = path.read_bytes()
    if not path.name.endswith(".xz"):
        return content
    try:
        return lzma.decompress(content)
    except lzma.LZMAError as error:
        raise HostError(f"decompressing {path}: {error}") from error


def _files(modules: Path) -> dict[str, str]:
    """Every module's file by its name; as text, since there are thousands and a handful is taken."""
    found: dict[str, str] = {}
    for base, folders, files in os.walk(modules):
        folders.sort()
        for file in sorted(files):
            suffix = next((suffix for suffix in _SUFFIXES if file.endswith(suffix)), None)
            if suffix:
                found.setdefault(_normal(file.removesuffix(suffix)), f"{base}/{file}")
    return found


def _builtin(modules: Path) -> frozenset[str]:
    try:
        lines = (modules / "modules.builtin").read_text().split()
    except FileNotFoundError:
        return frozenset()
    return frozenset(_normal(Path(line).name.removesuffix(".ko")) for line in lines)


def _normal(name: str) -> str:
    return name.strip().replace("-", "_")


def _modinfo(module: bytes) -> bytes:
    """The section ``.modinfo`` of a 64-bit little-endian ELF file (elf(5))."""
    if module[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it is no 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", module, 40)  # e_shoff
    entry_size, count, names_index = struct.unpack_from("<HHH", module, 58)  # e_shentsize, e_shnum, e_shstrndx
    sections = [struct.unpack_from("<IIQQQQ", module, table + index * entry_size) for index in range(count)]
    names = sections[names_index][4]  # sh_offset
    for name, _type, _flags, _address, offset, size in sections:
        start = names + name
        if module[start : start + 9] == b".modinfo\0":
            return module[offset : offset + size]
    raise ValueError("it has no section .modinfo")
