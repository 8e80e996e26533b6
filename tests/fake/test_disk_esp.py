"""The EFI system partition, read where it lies."""

from pathlib import Path

import finished_disk
import pytest
from finished_disk import Finished

from vmharness.disk import esp
from vmharness.errors import HostError
from vmharness.model.partitions import FAT32_CLUSTERS, SECTOR
from vmharness.model.sizes import MIB


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished disk that no test changes."""
    return finished_disk.make(tmp_path_factory.mktemp("a folder, @@ and 'more'"))


@pytest.fixture
def disk(original: Finished, tmp_path: Path) -> Finished:
    """A copy of it to be changed."""
    return original.copy_to(tmp_path)


def test_header_is_read(original: Finished) -> None:
    """The boot sector's label, volume id and size are the planned ones, and the smallest ESP allowed is FAT32."""
    header = esp.read_header(original.disk, original.esp.offset)
    assert header.label == "ESP"
    assert header.volume_id == finished_disk.IDENTIFIERS.esp_volume_id
    assert original.esp.size - MIB < header.size <= original.esp.size
    assert header.clusters >= FAT32_CLUSTERS
    assert header.is_fat32


def test_fat32_by_label_only_is_not_fat32(disk: Finished) -> None:
    """Clusters too large for the size make too few of them: FAT32 tables, but not FAT32 to every driver."""
    finished_disk.make_fat(disk.disk, disk.esp, disk.fat, "-s", "8")
    header = esp.read_header(disk.disk, disk.esp.offset)
    assert header.clusters < FAT32_CLUSTERS
    assert not header.is_fat32


def test_other_filesystems_are_no_header(original: Finished) -> None:
    """Neither ext4 nor the end of the disk is taken for a FAT."""
    with pytest.raises(ValueError, match="no boot sector"):
        esp.read_header(original.disk, original.root.offset)
    with pytest.raises(ValueError, match="no boot sector"):
        esp.read_header(original.disk, original.layout.size)


def test_fat16_is_no_header(disk: Finished) -> None:
    """A FAT16 is refused as such."""
    finished_disk.make_fat(disk.disk, disk.esp, disk.fat, "-F", "16", "-s", "4")
    with pytest.raises(ValueError, match="is not FAT32"):
        esp.read_header(disk.disk, disk.esp.offset)


def test_files_are_found(disk: Finished) -> None:
    """Files in folders and with odd names are listed, read, and found in any case and with either slash."""
    disk.put("/EFI/Linux/entry with a blank é.conf", b"title x\n")
    assert set(esp.list_files(disk.disk, disk.esp.offset)) == {
        "/EFI/systemd/systemd-bootx64.efi",
        "/EFI/Linux/entry with a blank é.conf",
    }
    assert esp.read_file(disk.disk, disk.esp.offset, "\\EFI\\Linux\\entry with a blank é.conf") == b"title x\n"
    assert esp.exists(disk.disk, disk.esp.offset, "\\efi\\SYSTEMD\\systemd-bootx64.EFI")
    assert esp.exists(disk.disk, disk.esp.offset, "EFI/systemd/systemd-bootx64.efi")
    assert not esp.exists(disk.disk, disk.esp.offset, "\\EFI\\systemd")
    assert not esp.exists(disk.disk, disk.esp.offset, "\\EFI\\BOOT\\BOOTX64.EFI")


def test_settings_of_the_user_do_not_count(original: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mtoolsrc of the user's cannot break the reading."""
    (tmp_path / "mtoolsrc").write_text("nonsense = = 1\n")
    monkeypatch.setenv("MTOOLSRC", str(tmp_path / "mtoolsrc"))
    assert len(esp.list_files(original.disk, original.esp.offset)) == 1


def test_binary_files_are_read_whole(disk: Finished) -> None:
    """A file's bytes arrive unchanged, line ends and zeros included."""
    data = bytes(range(256)) * 1000 + b"\r\n\x1a\0"
    disk.put("/loader/x.bin", data)
    assert esp.read_file(disk.disk, disk.esp.offset, "/loader/x.bin") == data


def test_empty_filesystem_has_no_files(disk: Finished) -> None:
    """An ESP without files is not an error."""
    finished_disk.make_fat(disk.disk, disk.esp, disk.fat)
    assert esp.list_files(disk.disk, disk.esp.offset) == ()


def test_unreadable_filesystem_is_an_error(original: Finished) -> None:
    """Where there is no FAT, "no files" would be a lie."""
    with pytest.raises(HostError, match=r"mdir says: .*non DOS media"):
        esp.list_files(original.disk, original.root.offset)


def test_missing_file_is_an_error(original: Finished) -> None:
    """Reading a file that is not there names it."""
    with pytest.raises(HostError, match="nothing"):
        esp.read_file(original.disk, original.esp.offset, "/nothing")


def test_clean_filesystem_has_no_findings(original: Finished, tmp_path: Path) -> None:
    """A sound ESP is clean, and the check leaves nothing in the scratch folder."""
    assert esp.check_fat(original.disk, original.esp.offset, original.esp.size, tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "data", "finding"),
    [
        (0x41, b"\x01", "Dirty bit is set"),
        (0x43, b"\xff", "differences between boot sector and its backup"),
        (512 + 488, b"\x01\x00\x00\x00", "Free cluster summary wrong"),
        (32 * SECTOR + 8, b"\x00\x00\x00\x00", "FATs differ"),
        (0, bytes(512), "fsck.vfat: "),
    ],
)
def test_damaged_filesystem_is_noticed(disk: Finished, tmp_path: Path, place: int, data: bytes, finding: str) -> None:
    """Damage is a finding, also where fsck.vfat itself ends with status 0."""
    disk.damage(disk.esp.offset + place, data)
    findings = esp.check_fat(disk.disk, disk.esp.offset, disk.esp.size, tmp_path)
    assert any(finding in line for line in findings)


def test_lost_clusters_are_noticed(disk: Finished, tmp_path: Path) -> None:
    """A file whose folder entry is gone, as after a crash, is a finding."""
    disk.put("/lost.bin", b"x" * 5000)
    blob = disk.disk.read_bytes()
    disk.damage(blob.index(b"LOST    BIN", disk.esp.offset), b"\xe5")
    assert esp.check_fat(disk.disk, disk.esp.offset, disk.esp.size, tmp_path)


def test_copy_for_the_check_takes_no_more_room_than_the_data(original: Finished, tmp_path: Path) -> None:
    """The partition is copied with its holes, and byte for byte."""
    esp._extract(original.disk, original.esp.offset, original.esp.size, tmp_path / "copy")
    copied = tmp_path / "copy"
    assert copied.stat().st_blocks * 512 < 2 * MIB
    begin, end = original.esp.offset, original.esp.offset + original.esp.size
    assert copied.read_bytes() == original.disk.read_bytes()[begin:end]


def test_partition_behind_the_end_of_the_disk(disk: Finished, tmp_path: Path) -> None:
    """A disk that was cut off inside the ESP is a finding, not a crash."""
    with disk.disk.open("r+b") as file:
        file.truncate(disk.esp.offset + MIB // 8)
    assert esp.check_fat(disk.disk, disk.esp.offset, disk.esp.size, tmp_path)
