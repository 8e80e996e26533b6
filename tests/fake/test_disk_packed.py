"""Filesystems that were packed in the guest: labelled on the host, and the disk cut to what they take."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from attrs import evolve

from vmharness.disk import image, packed, partitioning, superblocks
from vmharness.errors import VerificationFailed
from vmharness.model.image import EfiSpec, ImageSpec, PartitionTable, RootSpec
from vmharness.model.partitions import Layout, Squashfs
from vmharness.model.sizes import MIB
from vmharness.model.sources import MinimalSource
from vmharness.plan.identity import derive
from vmharness.plan.layout import make_layout

IDENTIFIERS = derive("packed")
SPEC = ImageSpec(origin=Path("/image.toml"), name="packed", root=RootSpec(source=MinimalSource()), boot_size=34 * MIB)
BOOT_CODE = b"\xeb\x63boot code"


def disk_with(folder: Path, table: PartitionTable, superblock: bytes) -> tuple[Path, Layout]:
    """A disk whose root partition of 20 MiB begins with these bytes, and with boot code in its first sector."""
    spec = evolve(SPEC, partition_table=table, efi=EfiSpec(touch_variables=table.has_esp))
    layout = make_layout(spec, IDENTIFIERS, 20 * MIB).with_filesystem("root", Squashfs(compression="zstd"))
    disk = folder / "disk.raw"
    image.create(disk, layout.size)
    partitioning.write_table(disk, layout)
    with disk.open("r+b") as file:
        file.write(BOOT_CODE)
        file.seek(layout.by_role("root").offset)
        file.write(superblock)
    return disk, layout


@pytest.mark.parametrize("table", [table for table in PartitionTable if table is not PartitionTable.NONE])
def test_the_disk_ends_where_the_root_filesystem_does(tmp_path: Path, table: PartitionTable) -> None:
    """Partition and disk are cut to whole MiB, the tables are sound, and the boot code before them is untouched."""
    disk, layout = disk_with(tmp_path, table, struct.pack("<4s36xQ48x", b"hsqs", 5 * MIB + 1))
    shorter = packed.cut(disk, layout)
    assert shorter.by_role("root").size == 6 * MIB
    assert disk.stat().st_size == shorter.size == layout.size - 14 * MIB
    assert partitioning.compare(shorter, disk) == ()
    assert disk.read_bytes().startswith(BOOT_CODE)
    assert packed.cut(disk, shorter) == shorter


def test_a_disk_without_a_table_is_just_cut(tmp_path: Path) -> None:
    """Where the filesystem is the disk, the disk is what it takes."""
    disk, layout = disk_with(tmp_path, PartitionTable.NONE, struct.pack("<4s36xQ48x", b"hsqs", 4096))
    assert packed.cut(disk, layout).size == disk.stat().st_size == MIB


def test_what_is_not_there_is_neither_cut_nor_labelled(tmp_path: Path) -> None:
    """A root partition without the filesystem is an error, and the disk stays as it is."""
    disk, layout = disk_with(tmp_path, PartitionTable.LEGACY, b"")
    with pytest.raises(VerificationFailed, match="holds no squashfs"):
        packed.cut(disk, layout)
    with pytest.raises(VerificationFailed, match="holds no erofs"):
        packed.set_erofs_label(disk, layout.by_role("root"), "x")
    assert disk.stat().st_size == layout.size


def test_an_erofs_gets_its_label(tmp_path: Path) -> None:
    """The label is in the superblock, which keeps everything else."""
    superblock = bytearray(2048)
    struct.pack_into("<3IB23xI", superblock, 1024, superblocks.EROFS_MAGIC, 0, 1, 12, 7)
    disk, layout = disk_with(tmp_path, PartitionTable.EFI, bytes(superblock))
    packed.set_erofs_label(disk, layout.by_role("root"), "a root")
    found = superblocks.read(disk, layout.by_role("root").offset, "erofs")
    assert found is not None
    assert (found.label, found.size) == ("a root", 7 * 4096)
