"""Disks that are full, damaged, cut off or hard to read: what still boots, and what shows where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import machines
from machines import ENTRY, FALLBACK, LOADER, SECTOR

from vmharness.model.outcome import Panicked, describe
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState


def middle_of(sectors: range) -> int:
    """The sector in the middle of a file."""
    return sectors[len(sectors) // 2]


def test_first_allocation_table_lost(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """The firmware does not boot from an ESP whose first allocation table is lost, though there is a second copy."""
    state, disk = machines.own_disk(minimal, tmp_path)
    begin, size = disk.table
    disk.overwrite(begin, bytes(size))
    vm = vm_factory(state)
    vm.start()
    vm.expect_no_boot("firmware-shell")
    assert vm.attempts[0].description == ENTRY
    assert vm.attempts[0].failure == "Not Found"
    vm.off()
    disk.overwrite(begin, disk.read(begin + size, size))  # what fsck.vfat would do
    machines.boot(vm_factory(state))


def test_second_allocation_table_lost(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """Nobody who boots misses the second copy of the allocation table."""
    state, disk = machines.own_disk(minimal, tmp_path)
    begin, size = disk.table
    disk.overwrite(begin + size, bytes(size))
    vm = machines.boot(vm_factory(state))
    assert vm.entry_started == ENTRY


def test_dirty_bit(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """An ESP that was not unmounted boots as ever; the system that mounts it says so."""
    state, disk = machines.own_disk(minimal, tmp_path)
    disk.overwrite(disk.esp + 0x41, b"\1")  # Linux, fs/fat: BS_Reserved1 of FAT32, "volume is dirty"
    vm = machines.boot(vm_factory(state), "login")
    assert vm.entry_started == ENTRY
    said = vm.run("mount -t vfat /dev/vda1 /efi; dmesg | tail -n 3").text
    assert "Volume was not properly unmounted" in said


def test_truncated_loader(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """A loader that was written halfway is refused, and the one on the fallback path boots; if both are, none does."""
    state, disk = machines.own_disk(minimal, tmp_path)
    half = disk.get(LOADER)[:40_000]
    disk.put(LOADER, half)
    vm = machines.boot(vm_factory(state))
    assert vm.attempts[0].description == ENTRY
    assert vm.attempts[0].failure
    assert vm.entry_started not in {"", ENTRY}
    vm.off()
    disk.put(FALLBACK, half)
    ruined = vm_factory(state)
    ruined.start()
    ruined.expect_no_boot("firmware-shell")


def test_unreadable_loader(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """A sector of the loader that cannot be read costs its entry only: the firmware boots the other copy.

    It reads 64 KiB at a time, so that what lies beside such a sector is lost with it.
    """
    state, disk = machines.own_disk(minimal, tmp_path)
    middle = middle_of(disk.sectors(LOADER))
    vm = machines.boot(vm_factory(machines.unreadable(state, [middle])))
    assert vm.attempts[0].description == ENTRY
    assert vm.attempts[0].failure
    assert vm.entry_started not in {"", ENTRY}
    vm.off()
    both = [middle, middle_of(disk.sectors(FALLBACK))]
    ruined = vm_factory(machines.unreadable(state, both))
    ruined.start()
    ruined.expect_no_boot("firmware-shell")


def test_full_esp(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """A full ESP boots; writing a second kernel to it fails inside, and the machine boots again afterwards."""
    state, disk = machines.own_disk(minimal, tmp_path)
    disk.put("/fill", os.urandom(disk.free))
    assert disk.free == 0
    vm = machines.boot(vm_factory(state), "login")
    vm.run("mount -t vfat /dev/vda1 /efi")
    copied = vm.run("cp /vmlinuz /efi/new; sync; umount /efi", check=False)
    assert b"No space left on device" in copied.stderr
    vm.off()
    machines.boot(vm)
    assert vm.entry_started == ENTRY


def test_second_half_gone(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """A disk that was cut in half still starts loader and kernel, and the system says that its root is missing."""
    state, disk = machines.own_disk(minimal, tmp_path)
    os.truncate(disk.path, disk.path.stat().st_size // 2 // SECTOR * SECTOR)
    vm = vm_factory(state)
    vm.start()
    outcome = vm.reach("login")
    assert isinstance(outcome, Panicked), describe(outcome)
    assert vm.entry_started == ENTRY
    assert "kernel" in vm.milestones
