"""The directory source: what it costs, what it is, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unprivileged import run_as_ordinary_user

from vmharness.errors import SpecError
from vmharness.model.results import StagedTree
from vmharness.model.sources import DirectorySource, SourceOwner
from vmharness.tree.directory import stage_directory


def stage(path: Path, owner: SourceOwner = SourceOwner.KEEP) -> StagedTree:
    """Stage a directory."""
    return stage_directory(DirectorySource(path=path, owner=owner), origin="image.toml")


def test_a_tree_is_measured(tmp_path: Path) -> None:
    """Hard links count once, holes not at all, long links and large attributes take a block."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "three").write_bytes(b"x" * 8193)
    (root / "again").hardlink_to(root / "three")
    with (root / "holes").open("wb") as file:
        file.truncate(10_000_000)
        file.seek(4096 * 7)
        file.write(b"x" * 4096)
    (root / "short").symlink_to("s" * 59)
    (root / "long").symlink_to("l" * 60)
    os.setxattr(root / "three", "user.big", b"v" * 500)
    measure = stage(root).measure
    assert (measure.data_blocks, measure.inodes, measure.directory_blocks, measure.extra_blocks) == (4, 5, 1, 2)


def test_the_identity_follows_what_matters(tmp_path: Path) -> None:
    """A change of name, mode, time, link or attribute makes another tree; reading it does not."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(b"1")
    (root / "link").symlink_to("a")
    seen = [stage(root).identity]
    (root / "file").read_bytes()
    assert stage(root).identity == seen[0]
    changes = (
        lambda: (root / "file").chmod(0o600),
        lambda: os.utime(root / "file", ns=(1, 1)),
        lambda: os.setxattr(root / "file", "user.x", b"1"),
        lambda: (root / "file").rename(root / "renamed"),
    )
    for change in changes:
        change()
        seen.append(stage(root).identity)
    seen.append(stage(root, SourceOwner.ROOT).identity)
    assert len(set(seen)) == len(seen)


def test_a_missing_directory_is_the_definitions_fault(tmp_path: Path) -> None:
    """The error names the path and the key."""
    with pytest.raises(SpecError, match=r"image.toml: root.source.directory: .*/none does not exist"):
        stage(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="is not a directory"):
        stage(tmp_path / "file")


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_what_cannot_be_read_is_named_before_anything_starts(tmp_path: Path, closed: str) -> None:
    """An ordinary user learns which file or directory is closed to them, and a way out."""
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(b"")
    (root / closed).chmod(0o000)

    def refused() -> None:
        with pytest.raises(SpecError, match=rf"(?s)cannot read .*root/{closed}: Permission denied.*tar archive"):
            stage(root)

    run_as_ordinary_user(tmp_path, refused)
    (root / closed).chmod(0o700)
