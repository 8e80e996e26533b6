"""One ISO image, two ways to connect it: the firmware finds its loader on a CD-ROM and on a USB stick."""

from __future__ import annotations

from pathlib import Path

import iso
import machines
import pytest

from vmharness.disk import partitioning
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState, Bus, Disk


def fat_of(state: BootState) -> bytes:
    """The EFI system partition of a state's raw disk."""
    disk = state.disks[0].path
    (esp, *_) = partitioning.read_partitions(disk)
    with disk.open("rb") as file:
        file.seek(esp.start * machines.SECTOR)
        return file.read(esp.sectors * machines.SECTOR)


@pytest.mark.parametrize("connected", [Bus.CDROM, Bus.USB])
def test_iso_boots(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory, connected: Bus) -> None:
    """The same image boots to its kernel from a CD-ROM drive and from a USB stick, on a machine with a blank store."""
    image = tmp_path / "small.iso"
    iso.write(image, fat_of(minimal))
    disk = Disk(name="iso", path=image, bus=connected, read_only=True)
    vm = machines.boot(vm_factory(BootState(disks=(disk,), firmware=minimal.firmware)))
    (attempt,) = vm.attempts
    assert ("Sata" in attempt.path) == (connected is Bus.CDROM)


def test_iso_without_a_catalogue(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """Without its boot catalogue the image is nothing that a CD-ROM drive boots, and the firmware says so."""
    image = tmp_path / "small.iso"
    iso.write(image, fat_of(minimal), catalogue=False)
    disk = Disk(name="iso", path=image, bus=Bus.CDROM)
    vm = vm_factory(BootState(disks=(disk,), firmware=minimal.firmware))
    vm.start()
    vm.expect_no_boot()
