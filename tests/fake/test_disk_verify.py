"""The last check before publication, saying yes once and no in every way."""

import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import finished_disk
import pytest
from attrs import evolve
from finished_disk import Finished, boot_entry, setup_entry

from vmharness.disk.verify import verify
from vmharness.errors import VerificationFailed
from vmharness.host import proc
from vmharness.model.variables import LOADER, SECRETS

FIRST = struct.pack("<HH", 3, 0)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished disk that no test changes."""
    return finished_disk.make(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def disk(original: Finished, tmp_path: Path) -> Finished:
    """A copy of it to be changed."""
    return original.copy_to(tmp_path)


@pytest.fixture(scope="module")
def template() -> Path:
    """The host's template of a variable store."""
    return finished_disk.template_store()


def check(finished: Finished, scratch: Path, **changes: object) -> None:
    """Verify it, with other expectations if ``changes`` says so."""
    expectations = evolve(finished.expectations, **changes)
    verify(finished.disk, finished.layout, finished.store, expectations, scratch)


def findings(finished: Finished, scratch: Path, **changes: object) -> tuple[str, ...]:
    """What verification finds."""
    with pytest.raises(VerificationFailed, match="nothing is published") as caught:
        check(finished, scratch, **changes)
    return caught.value.findings


def test_finished_disk_passes(original: Finished, tmp_path: Path) -> None:
    """A disk and a store that are what was planned pass, with nothing changed and nothing left behind."""
    before = original.disk.read_bytes(), original.store.read_bytes()
    check(original, tmp_path)
    verify(original.disk, original.layout, None, original.expectations, tmp_path)
    assert (original.disk.read_bytes(), original.store.read_bytes()) == before
    assert list(tmp_path.iterdir()) == []


def _changed_guid(disk: Finished) -> None:
    proc.run(["sgdisk", "--partition-guid=2:R", disk.disk], doing="changing the table")


def _broken_table(disk: Finished) -> None:
    disk.damage(512 + 60, b"x")


def _no_root(disk: Finished) -> None:
    disk.damage(disk.root.offset + 1024 + 56, b"xx")


def _other_root_uuid(disk: Finished) -> None:
    finished_disk.make_ext4(disk.disk, disk.root, evolve(disk.ext4, uuid=UUID(int=9)))


def _other_hash_seed(disk: Finished) -> None:
    finished_disk.make_ext4(disk.disk, disk.root, evolve(disk.ext4, hash_seed=UUID(int=9)))


def _other_label(disk: Finished) -> None:
    finished_disk.make_ext4(disk.disk, disk.root, evolve(disk.ext4, label="other"))


def _smaller_root(disk: Finished) -> None:
    finished_disk.make_ext4(disk.disk, disk.root, evolve(disk.ext4, size=disk.root.size // 2))


def _damaged_root(disk: Finished) -> None:
    disk.damage(disk.root.offset + 4096, b"\xff" * 64)


def _no_esp(disk: Finished) -> None:
    disk.damage(disk.esp.offset, bytes(512))


def _other_volume_id(disk: Finished) -> None:
    finished_disk.make_fat(disk.disk, disk.esp, evolve(disk.fat, volume_id=1))


def _other_fat_label(disk: Finished) -> None:
    finished_disk.make_fat(disk.disk, disk.esp, evolve(disk.fat, label="OTHER"))


def _few_clusters(disk: Finished) -> None:
    finished_disk.make_fat(disk.disk, disk.esp, disk.fat, "-s", "8")


def _dirty_esp(disk: Finished) -> None:
    disk.damage(disk.esp.offset + 0x41, b"\x01")


def _random_seed(disk: Finished) -> None:
    disk.put("/loader/random-seed", b"0" * 32)


def _no_loader(disk: Finished) -> None:
    finished_disk.make_fat(disk.disk, disk.esp, disk.fat)


def _short_disk(disk: Finished) -> None:
    with disk.disk.open("r+b") as file:
        file.truncate(disk.root.offset)


def _damaged_store(disk: Finished) -> None:
    finished_disk.overwrite(disk.store, 100, b"\0\0")


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (_changed_guid, "partition 2 (root): uuid is"),
        (_broken_table, "sgdisk: "),
        (_no_root, "the root partition holds no ext4 filesystem"),
        (_other_root_uuid, "the root filesystem's UUID is 00000000-0000-0000-0000-000000000009 instead of"),
        (_other_hash_seed, "the root filesystem's hash seed is 00000000-0000-0000-0000-000000000009 instead of"),
        (_other_label, "the root filesystem's label is other instead of root"),
        (_smaller_root, "the root filesystem's size is 4194304 instead of 8388608"),
        (_damaged_root, "root filesystem: "),
        (_no_esp, "the EFI system partition: there is no boot sector at the beginning"),
        (_other_volume_id, "the EFI system partition's volume id is 00000001 instead of"),
        (_other_fat_label, "the EFI system partition's label is 'OTHER' instead of 'ESP'"),
        (_few_clusters, "too few for FAT32"),
        (_dirty_esp, "EFI system partition: fsck.vfat: Dirty bit is set"),
        (_random_seed, "holds /loader/random-seed, which no two machines may share"),
        (
            _no_loader,
            "points at the file '\\EFI\\systemd\\systemd-bootx64.efi', which the EFI system partition does not",
        ),
        (_short_disk, "the disk ends before the root filesystem's superblock"),
        (_damaged_store, "is not a sound variable store: the chain of variables is broken"),
    ],
)
def test_whatever_is_wrong_is_found(
    disk: Finished, tmp_path: Path, damage: Callable[[Finished], None], finding: str
) -> None:
    """Each difference between plan and disk, and each secret, is a finding."""
    damage(disk)
    assert any(finding in line for line in findings(disk, tmp_path))


def test_everything_is_reported_at_once(disk: Finished, tmp_path: Path) -> None:
    """Several faults are several findings of one error."""
    _dirty_esp(disk)
    _other_label(disk)
    _damaged_store(disk)
    assert len(findings(disk, tmp_path)) >= 3


@pytest.mark.parametrize(
    ("variables", "finding"),
    [
        ({}, "BootOrder names no entry that the firmware would boot"),
        ({"BootOrder": FIRST, "Boot0000": setup_entry()}, "BootOrder names no entry"),
        ({"BootOrder": b"\x01", "Boot0003": b""}, "cannot be followed: an order of an odd number"),
        ({"BootOrder": FIRST, "Boot0003": b"xx"}, "cannot be followed: a boot entry of fewer"),
        ({"BootOrder": FIRST, "Boot0003": setup_entry(attributes=1)}, "points at FvFile(462caa21"),
    ],
)
def test_boot_order_without_our_loader(
    disk: Finished, tmp_path: Path, template: Path, variables: dict[str, bytes], finding: str
) -> None:
    """No entry, a damaged one, or one of the firmware's own before ours is a finding, if a loader was installed."""
    finished_disk.write_store(disk.store, template, variables)
    (found,) = findings(disk, tmp_path)
    assert finding in found
    check(disk, tmp_path, boot_entry=False)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"guid": UUID(int=9)}, "00000000-0000-0000-0000-000000000009"),
        ({"number": 2}, "number=2"),
        ({"start": 2048}, "start=2048"),
        ({"sectors": 1}, "sectors=1"),
        ({"file": "\\EFI\\other.efi"}, "the file '\\EFI\\other.efi'"),
        ({"file": ""}, "the file ''"),
        ({"attributes": 0}, "BootOrder names no entry"),
    ],
)
def test_boot_entry_that_points_elsewhere(
    disk: Finished, tmp_path: Path, template: Path, change: dict[str, object], finding: str
) -> None:
    """An entry for another partition, for a file that is not there, or an inactive one is a finding."""
    entry = boot_entry(disk.esp, **change)
    finished_disk.write_store(disk.store, template, {"BootOrder": FIRST, "Boot0003": entry})
    (found,) = findings(disk, tmp_path)
    assert finding in found


def test_setup_menu_before_the_loader_is_no_fault(disk: Finished, tmp_path: Path, template: Path) -> None:
    """The firmware never boots its tools by itself, so they may come first."""
    variables = {"BootOrder": struct.pack("<HH", 0, 3), "Boot0000": setup_entry(), "Boot0003": boot_entry(disk.esp)}
    finished_disk.write_store(disk.store, template, variables)
    check(disk, tmp_path)


def test_secret_in_the_store_is_found(disk: Finished, tmp_path: Path) -> None:
    """systemd-boot's token is a finding, also when it was deleted and just its bytes are left."""
    finished_disk.write_store(disk.store, disk.store, {SECRETS[0]: b"token"}, LOADER)
    (alive,) = findings(disk, tmp_path)
    at = disk.store.read_bytes().index(SECRETS[0].encode("utf-16-le")) - 60
    finished_disk.overwrite(disk.store, at + 2, b"\x3d")
    (dead,) = findings(disk, tmp_path)
    assert alive == dead
    assert "LoaderSystemToken" in alive


def test_store_of_another_size_is_found(original: Finished, tmp_path: Path) -> None:
    """A store of another size class than its firmware's is a finding."""
    (found,) = findings(original, tmp_path, store_size=131_072)
    assert found == "the variable store has 540672 bytes, but its firmware's have 131072"
