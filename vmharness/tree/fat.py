"""What a tree costs on a FAT filesystem, and whether it can be there at all."""

from __future__ import annotations

import os
import stat

from vmharness.errors import SpecError
from vmharness.host.staged import files
from vmharness.model.results import FatMeasure, StagedTree

# Microsoft's FAT specification, "Long File Name Implementation"
_ENTRY = 32
_NAME_PER_ENTRY = 13
_LARGEST_FILE = (1 << 32) - 1
_FORBIDDEN = set('"*/:<>?\\|') | {chr(number) for number in (*range(32), 127)}
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device node",
    stat.S_IFBLK: "a device node",
    stat.S_IFSOCK: "a socket",
}


def measure_for_fat(tree: StagedTree, *, origin: str, key: str) -> FatMeasure:
    """Add up a tree that goes to a FAT filesystem.

    :param origin: the definition file, and ``key`` the place in it, for messages.
    :raises SpecError: it holds what FAT cannot: links, device nodes, names that differ in case only, and so on.
    """
    sizes: list[int] = []
    directories: dict[bytes, int] = {}
    seen: dict[bytes, bytes] = {}
    for file in files(tree):
        if file.path:
            problem = _problem(file.path, file.metadata.mode, file.status.st_size)
            twin = seen.setdefault(_folded(file.path), file.path)
            if twin != file.path:
                problem = f"/{_text(twin)} has the same name but for its case, which FAT does not tell apart"
            if problem:
                raise SpecError(f"/{_text(file.path)}: {problem}", origin=origin, key=key)
            directories[file.path.rpartition(b"/")[0]] += _entries(file.path)
        if stat.S_ISDIR(file.metadata.mode):
            # "." and ".." of a directory; the label of the root
            directories[file.path] = 2 * _ENTRY
        else:
            sizes.append(file.status.st_size)
    return FatMeasure(files=tuple(sizes), directories=tuple(directories.values()))


def _problem(path: bytes, mode: int, size: int) -> str | None:
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        return f"FAT cannot hold {kind}"
    if stat.S_ISREG(mode) and size > _LARGEST_FILE:
        return "FAT holds no file of 4 GiB or more"
    try:
        name = path.rpartition(b"/")[2].decode("utf-8")
    except UnicodeDecodeError:
        return "the name is not UTF-8, which FAT needs"
    if set(name) & _FORBIDDEN or name.endswith((" ", ".")) or len(name.encode("utf-16-le")) > 2 * 255:
        return "FAT does not take this name"
    return None


def _folded(path: bytes) -> bytes:
    return path.decode("utf-8", "surrogateescape").upper().encode("utf-8", "surrogateescape")


def _entries(path: bytes) -> int:
    """Bytes that a name takes in its directory, written out at full length."""
    name = os.fsdecode(path.rpartition(b"/")[2])
    return _ENTRY * (1 + -(-len(name) // _NAME_PER_ENTRY))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
