"""The files of a tree that will go to its boot partitions, and their sizes."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from vmharness.model.results import StagedContents, StagedTree
from vmharness.tree import lookup


def boot_files(tree: StagedTree, contents: StagedContents | None, also: tuple[str, ...] = ()) -> dict[str, int]:
    """Sizes of the tree's files below ``/boot`` and of the kernels in ``/usr/lib/modules``, by their paths.

    :param contents: the grafted files, which replace the tree's own.
    :param also: more paths that count where the tree has them.
    :returns: with links as what they lead to; those that lead nowhere are left out.
    """
    found = dict(_sizes(tree, [*_below(tree, "/boot"), *_in_modules(tree), *also]))
    if contents is not None:
        with tarfile.open(contents.archive, encoding="utf-8", errors="surrogateescape") as archive:
            for member in archive:
                path = f"/{member.name}"
                if member.isreg() and (path in also or path.startswith(("/boot/", "/usr/lib/modules/"))):
                    found[path] = member.size
    return found


def _sizes(tree: StagedTree, paths: list[str]) -> Iterator[tuple[str, int]]:
    for path in paths:
        place = lookup.find(tree, path)
        if place is not None and stat.S_ISREG((status := place.lstat()).st_mode):
            yield path, status.st_size


def _below(tree: StagedTree, folder: str) -> Iterator[str]:
    """Every path below a folder that is no folder itself."""
    for name in _names(tree, folder):
        path = f"{folder}/{name}"
        place = tree.directory / path.lstrip("/")
        if place.is_dir() and not place.is_symlink():
            yield from _below(tree, path)
        else:
            yield path


def _in_modules(tree: StagedTree) -> Iterator[str]:
    for version in _names(tree, "/usr/lib/modules"):
        yield f"/usr/lib/modules/{version}/vmlinuz"
        yield f"/usr/lib/modules/{version}/initrd"


def _names(tree: StagedTree, folder: str) -> list[str]:
    place: Path | None = lookup.find(tree, folder)
    return sorted(os.listdir(place)) if place is not None and place.is_dir() else []  # noqa: PTH208 -- names only
