"""The trees that make-disk-image has no room for, in their full size, in the disk that is reckoned for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from vmharness.disk import filesystems
from vmharness.host import proc
from vmharness.model.partitions import Ext4
from vmharness.model.sizes import MIB
from vmharness.model.sources import DirectorySource
from vmharness.plan.sizing import root_size
from vmharness.tree.directory import stage_directory

_EACH = 500  # entries of one directory


def _folders(tree: Path, entries: int) -> None:
    for number in range(-(-entries // _EACH)):
        (tree / f"{number:03}").mkdir()


def _tiny_files(tree: Path) -> None:
    _folders(tree, 200_000)
    for number in range(200_000):
        descriptor = os.open(tree / f"{number // _EACH:03}" / f"{number}", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(descriptor, b"x")
        os.close(descriptor)


def _symbolic_links(tree: Path) -> None:
    _folders(tree, 300_000)
    for number in range(300_000):
        (tree / f"{number // _EACH:03}" / f"{number}").symlink_to("/nix/store/target")


def _hard_links(tree: Path) -> None:
    (tree / "0").write_bytes(os.urandom(MIB))
    for number in range(1, 200):
        (tree / str(number)).hardlink_to(tree / "0")


def _large_files(tree: Path) -> None:
    for number in range(100):
        (tree / str(number)).write_bytes(os.urandom(MIB))


@pytest.mark.parametrize(
    ("fill", "additional", "most"),
    [
        (_tiny_files, 0, 1000 * MIB),
        (_symbolic_links, 0, 200 * MIB),
        (_hard_links, 0, 16 * MIB),
        (_large_files, 8 * MIB, 128 * MIB),
    ],
)
def test_it_fits(tmp_path: Path, fill: Callable[[Path], None], additional: int, most: int) -> None:
    """The tree fits into what was reckoned, with the space that was asked for left over, and without much waste."""
    source = tmp_path / "tree"
    source.mkdir()
    fill(source)
    tree = stage_directory(DirectorySource(path=source), origin="image.toml")
    planned = root_size(tree.measure, additional)
    assert planned.size <= most
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(planned.size)
    ext4 = Ext4(label="", uuid=UUID(int=1), hash_seed=UUID(int=2), size=planned.size, inodes=planned.inodes)
    filesystems.make_ext4(disk, 0, ext4, tree)
    assert filesystems.check_ext4(disk, 0) == ()
    said = proc.run(["dumpe2fs", "-h", disk], doing="reading").text
    free = next(int(line.split()[-1]) for line in said.splitlines() if line.startswith("Free blocks:"))
    assert free * 4096 >= additional
    # thousands of small files are no evidence that is worth the room
    proc.run(["rm", "-r", source, disk], doing="removing the tree")
