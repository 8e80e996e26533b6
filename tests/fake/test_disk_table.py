"""The partition table: written, read back, compared, checked."""

import zlib
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import finished_disk
import pytest
from attrs import evolve

from vmharness.disk import image, partitioning
from vmharness.errors import HostError, VerificationFailed
from vmharness.host import proc
from vmharness.model.image import PartitionTable
from vmharness.model.partitions import Layout, Scheme
from vmharness.model.sizes import MIB
from vmharness.plan.layout import make_layout

LAYOUT = make_layout(finished_disk.SPEC, finished_disk.IDENTIFIERS, 8 * MIB)


def partitioned(path: Path, layout: Layout = LAYOUT) -> Path:
    """A disk with a table and nothing else."""
    image.create(path, layout.size)
    partitioning.write_table(path, layout)
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk with the table."""
    return partitioned(tmp_path / "disk.raw")


def edit(disk: Path, *options: str) -> None:
    """Change the table with sgdisk."""
    proc.run(["sgdisk", *options, disk], doing="changing the table")


@pytest.mark.parametrize("name", ["disk.raw", "disk1", "a disk, p2"])
def test_table_is_written_as_planned(tmp_path: Path, name: str) -> None:
    """The table on the disk is the planned one and clean, whatever the disk's file is called."""
    disk = partitioned(tmp_path / name)
    assert partitioning.compare(LAYOUT, disk) == ()
    assert partitioning.check_table(disk) == ()


@pytest.mark.parametrize("table", list(PartitionTable))
def test_each_kind_of_table_is_written_as_planned(tmp_path: Path, table: PartitionTable) -> None:
    """Every partition table is read back as planned, MBRs with their signature and active partition, GPTs clean."""
    layout = make_layout(evolve(finished_disk.SPEC, partition_table=table), finished_disk.IDENTIFIERS, 8 * MIB)
    disk = partitioned(tmp_path / "disk.raw", layout)
    assert partitioning.compare(layout, disk) == ()
    assert layout.scheme is not Scheme.GPT or partitioning.check_table(disk) == ()


@pytest.mark.parametrize("table", [table for table in PartitionTable if table is not PartitionTable.DECLARED])
def test_tables_of_others_are_read(tmp_path: Path, table: PartitionTable) -> None:
    """A layout can be read from a disk alone: everything that the table says, and nothing that partitions hold."""
    layout = make_layout(evolve(finished_disk.SPEC, partition_table=table), finished_disk.IDENTIFIERS, 8 * MIB)
    found = partitioning.read_layout(partitioned(tmp_path / "disk.raw", layout))
    assert (found.scheme, found.identifier, found.size) == (layout.scheme, layout.identifier, layout.size)
    if layout.scheme is Scheme.GPT:
        assert found.partitions == tuple(evolve(part, filesystem=None) for part in layout.partitions)
    if layout.scheme is Scheme.MBR:
        assert [evolve(part, role="") for part in found.partitions] == [
            evolve(part, role="", filesystem=None) for part in layout.partitions
        ]


def test_roles_of_others_are_unique(disk: Path) -> None:
    """Two partitions of one type, and one of an unknown type, have names of their own; all attributes count."""
    edit(
        disk,
        "--new=3:0:+1M",
        "--typecode=3:ef00",
        "--new=4:0:+1M",
        f"--typecode=4:{UUID(int=5)}",
        "--attributes=4:set:60",
    )
    found = partitioning.read_layout(disk).partitions
    assert [part.role for part in found] == ["esp", "root", "esp-3", "partition-4"]
    assert found[3].attributes == 1 << 60


def test_damaged_tables_of_others(disk: Path, tmp_path: Path) -> None:
    """A damaged table is refused with sfdisk's words; a disk without one has none."""
    with disk.open("r+b") as file:
        file.seek(512 + 16)
        file.write(b"bad")
    with pytest.raises(VerificationFailed, match="damaged"):
        partitioning.read_layout(disk)
    image.create(tmp_path / "blank", MIB)
    assert partitioning.read_layout(tmp_path / "blank").scheme is Scheme.NONE


def test_a_missing_attribute_is_noticed(tmp_path: Path) -> None:
    """The mark of the partition that a BIOS boots from, in a GPT, is compared, too."""
    spec = evolve(finished_disk.SPEC, partition_table=PartitionTable.LEGACY_GPT)
    layout = make_layout(spec, finished_disk.IDENTIFIERS, 8 * MIB)
    disk = partitioned(tmp_path / "disk.raw", layout)
    edit(disk, "--attributes=2:clear:2")
    assert partitioning.compare(layout, disk) == ("partition 2 (root): attrs is None instead of LegacyBIOSBootable",)


@pytest.mark.parametrize(
    ("option", "finding"),
    [
        (["--disk-id", "0x1"], "the table: id is 0x00000001 instead of"),
        (["--activate", "2"], "partition 1 (boot): bootable is None instead of True"),
        (["--part-type", "1", "83"], "partition 1 (boot): type is 83 instead of c"),
        (["--delete", "2"], "partition 2 (root) is missing"),
    ],
)
def test_changes_of_an_mbr_are_noticed(tmp_path: Path, option: list[str], finding: str) -> None:
    """Another signature, active partition, type or a missing partition of an MBR is a finding."""
    spec = evolve(finished_disk.SPEC, partition_table=PartitionTable.LEGACY_BOOT)
    layout = make_layout(spec, finished_disk.IDENTIFIERS, 8 * MIB)
    disk = partitioned(tmp_path / "disk.raw", layout)
    command, *rest = option
    proc.run(["sfdisk", command, disk, *rest], doing="changing the table")
    assert partitioning.compare(layout, disk)[0].startswith(finding)


def test_table_is_the_same_every_time(tmp_path: Path) -> None:
    """Two tables of one layout are the same to the byte."""
    assert partitioned(tmp_path / "a").read_bytes() == partitioned(tmp_path / "b").read_bytes()


def test_layout_outside_the_disk_is_refused(tmp_path: Path) -> None:
    """A layout that the disk cannot hold is an error, not a shortened partition."""
    image.create(tmp_path / "disk.raw", 16 * MIB)
    with pytest.raises(HostError, match="writing the partition table: sfdisk ended"):
        partitioning.write_table(tmp_path / "disk.raw", LAYOUT)


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        (["--disk-guid=97FD5997-F390-4B4A-A3F8-D106C1723AEA"], "the table: id is 97FD5997"),
        (["--partition-guid=2:97FD5997-F390-4B4A-A3F8-D106C1723AEA"], "partition 2 (root): uuid is 97FD5997"),
        (["--typecode=2:8300"], "partition 2 (root): type is 0FC63DAF"),
        (["--change-name=1:other"], "partition 1 (esp): name is other instead of ESP"),
        (["--attributes=1:set:2"], "partition 1 (esp): attrs is LegacyBIOSBootable"),
        (["--delete=2"], "partition 2 (root) is missing"),
        (["--new=3:2048:4095"], "partition 3 is not in the plan"),
        (["--move-main-table=100"], "the table: firstlba is 132"),
    ],
)
def test_changed_tables_are_noticed(disk: Path, options: list[str], finding: str) -> None:
    """Every changed identifier, name, attribute, missing or additional partition is a finding."""
    edit(disk, *options)
    (found,) = partitioning.compare(LAYOUT, disk)
    assert found.startswith(finding)


def test_shifted_partition_is_noticed(disk: Path) -> None:
    """A partition that begins a sector later is a finding, although the table itself is sound."""
    root = LAYOUT.by_role("root")
    shifted = evolve(root, start=root.start + 1, sectors=root.sectors - 1)
    plan = evolve(LAYOUT, partitions=(LAYOUT.by_role("esp"), shifted))
    assert partitioning.compare(plan, disk) == (
        f"partition 2 (root): start is {root.start} instead of {root.start + 1}",
        f"partition 2 (root): size is {root.sectors} instead of {root.sectors - 1}",
    )


def test_disk_of_another_size_is_noticed(disk: Path) -> None:
    """A disk that was cut or grown is a finding of its own."""
    with disk.open("r+b") as file:
        file.truncate(LAYOUT.size + MIB)
    assert partitioning.compare(LAYOUT, disk) == (f"the disk has {LAYOUT.size + MIB} bytes instead of {LAYOUT.size}",)


def test_disk_without_a_table_is_noticed(tmp_path: Path) -> None:
    """A disk without a table is a finding for both checks."""
    image.create(tmp_path / "disk.raw", LAYOUT.size)
    assert "does not contain a recognized partition table" in partitioning.compare(LAYOUT, tmp_path / "disk.raw")[0]
    assert any("Creating new GPT" in line for line in partitioning.check_table(tmp_path / "disk.raw"))


def _main_header(disk: Path) -> None:
    finished_disk.overwrite(disk, 512 + 60, b"x")


def _main_entries(disk: Path) -> None:
    finished_disk.overwrite(disk, 2 * 512 + 60, b"x")


def _backup_header(disk: Path) -> None:
    finished_disk.overwrite(disk, LAYOUT.size - 512 + 60, b"x")


def _protective_mbr(disk: Path) -> None:
    finished_disk.overwrite(disk, 446, bytes(16))


@pytest.mark.parametrize("damage", [_main_header, _main_entries, _backup_header, _protective_mbr])
def test_damaged_tables_are_noticed(disk: Path, damage: Callable[[Path], None]) -> None:
    """Damage to a header, to the entries or to the protective MBR is not clean, though sgdisk ends with status 0."""
    damage(disk)
    findings = partitioning.check_table(disk)
    assert findings
    assert all(finding.startswith("sgdisk: ") for finding in findings)


def test_overlapping_partitions_are_noticed(disk: Path) -> None:
    """Partitions that overlap, in a table whose checksums are right, are not clean."""
    root = LAYOUT.by_role("root")
    edit(disk, "--delete=2", "--set-alignment=1", f"--new=2:{root.start}:{root.start + 2047}")
    with disk.open("r+b") as file:
        for header_at, entries_at in ((512, 1024), (LAYOUT.size - 512, LAYOUT.size - 33 * 512)):
            file.seek(entries_at)
            entries = bytearray(file.read(128 * 128))
            entries[128 + 32 : 128 + 40] = (root.start - 1).to_bytes(8, "little")
            file.seek(entries_at)
            file.write(entries)
            file.seek(header_at)
            header = bytearray(file.read(92))
            header[88:92] = zlib.crc32(entries).to_bytes(4, "little")
            header[16:20] = bytes(4)
            header[16:20] = zlib.crc32(header).to_bytes(4, "little")
            file.seek(header_at)
            file.write(header)
    assert any("overlap" in finding for finding in partitioning.check_table(disk))
