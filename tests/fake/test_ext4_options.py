"""What a definition asks of mke2fs besides reaches the filesystem, which stays sound."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from vmharness.disk import filesystems
from vmharness.host import proc
from vmharness.model.partitions import Ext4
from vmharness.model.sizes import MIB
from vmharness.model.sources import DirectorySource
from vmharness.tree.directory import stage_directory

OPTIONS = ("-m", "5", "-e", "remount-ro", "-M", "/sysroot", "-O", "^has_journal")


def test_options_reach_the_filesystem(tmp_path: Path) -> None:
    """Reserved blocks, behaviour on errors, last mount point and the missing journal are as asked; files arrive."""
    source, disk = tmp_path / "tree", tmp_path / "disk.raw"
    source.mkdir()
    (source / "file").write_text("content")
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
    tree = stage_directory(DirectorySource(path=source), origin="image.toml")
    ext4 = Ext4(label="x", uuid=UUID(int=1), hash_seed=UUID(int=2), size=64 * MIB, inodes=1024, options=OPTIONS)
    filesystems.make_ext4(disk, 0, ext4, tree)
    assert filesystems.check_ext4(disk, 0) == ()
    said = proc.run(["dumpe2fs", "-h", disk], doing="reading").text
    assert "Errors behavior:          Remount read-only" in said
    assert "Last mounted on:          /sysroot" in said
    assert "has_journal" not in said
    assert f"Reserved block count:     {64 * MIB // 4096 * 5 // 100}" in said
    assert proc.run(["debugfs", "-R", "cat /file", disk], doing="reading").text == "content"
