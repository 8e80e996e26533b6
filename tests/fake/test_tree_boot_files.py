"""The files that go to boot partitions: found in a staged tree and among the grafted files."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmharness.model.image import Content
from vmharness.model.results import StagedTree
from vmharness.model.sources import DirectorySource
from vmharness.tree.boot_files import boot_files
from vmharness.tree.contents import stage_contents
from vmharness.tree.directory import stage_directory


@pytest.fixture
def tree(tmp_path: Path) -> StagedTree:
    """A tree with two kernels, links to one of them, links that lead nowhere, and files elsewhere."""
    root = tmp_path / "root"
    (root / "boot/grub").mkdir(parents=True)
    (root / "usr/lib/modules/2/kernel").mkdir(parents=True)
    (root / "boot/vmlinuz-1").write_bytes(b"k" * 100)
    (root / "boot/vmlinuz").symlink_to("vmlinuz-1")
    (root / "boot/absolute").symlink_to("/usr/lib/modules/2/vmlinuz")
    (root / "boot/broken").symlink_to("/nowhere")
    (root / "boot/itself").symlink_to(".")
    (root / "boot/grub/grub.cfg").write_bytes(b"c" * 10)
    (root / "usr/lib/modules/2/vmlinuz").write_bytes(b"k" * 200)
    (root / "usr/lib/modules/2/kernel/odd.ko").write_bytes(b"m")
    (root / "opt").mkdir()
    (root / "opt/a.efi").write_bytes(b"e" * 50)
    return stage_directory(DirectorySource(path=root), origin="image.toml")


def test_boot_and_kernels_are_found(tree: StagedTree) -> None:
    """Everything below /boot, links as what they lead to inside the tree, and the kernels in /usr/lib/modules."""
    assert boot_files(tree, None) == {
        "/boot/absolute": 200,
        "/boot/grub/grub.cfg": 10,
        "/boot/vmlinuz": 100,
        "/boot/vmlinuz-1": 100,
        "/usr/lib/modules/2/vmlinuz": 200,
    }


def test_more_paths_count_where_they_are(tree: StagedTree) -> None:
    """What is asked for besides is found; what is not there is left out."""
    found = boot_files(tree, None, also=("/opt/a.efi", "/opt/none"))
    assert found["/opt/a.efi"] == 50
    assert "/opt/none" not in found


def test_grafted_files_replace_the_tree_s(tmp_path: Path, tree: StagedTree) -> None:
    """A grafted kernel counts with its own size, once; a grafted file elsewhere does not count."""
    (tmp_path / "data").write_bytes(b"x" * 70)
    contents = [
        Content(source=str(tmp_path / "data"), target=target)
        for target in ("/boot/vmlinuz-1", "/boot/initrd.img-1", "/opt/a.efi", "/opt/other")
    ]
    staged = stage_contents(contents, tree, tmp_path / "contents.tar", origin="image.toml")
    found = boot_files(tree, staged, also=("/opt/a.efi",))
    assert (found["/boot/vmlinuz-1"], found["/boot/initrd.img-1"], found["/opt/a.efi"]) == (70, 70, 70)
    assert "/opt/other" not in found


def test_a_tree_without_kernels_has_none(tmp_path: Path) -> None:
    """Neither /boot nor modules: nothing."""
    (tmp_path / "empty").mkdir()
    assert boot_files(stage_directory(DirectorySource(path=tmp_path / "empty"), origin="image.toml"), None) == {}
