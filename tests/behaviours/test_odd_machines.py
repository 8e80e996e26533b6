"""Machines with less than usual, with a wrong clock, with large sectors, or with the same disk twice."""

from __future__ import annotations

from pathlib import Path

import gpt
import machines
import pytest
from attrs import evolve
from machines import ENTRY

from vmharness.model.sizes import MIB
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState, Bus, Hardware, checks

CLONE = "which=clone"


@pytest.fixture
def clone(minimal: BootState, tmp_path: Path) -> BootState:
    """The image's disk copied with all its identifiers, as ``dd`` does it, with a word more on its command line."""
    state, disk = machines.own_disk(minimal, tmp_path)
    (entry,) = (path for path in disk.files() if path.endswith(".conf") and "/entries/" in path)
    disk.put(entry, disk.get(entry).replace(b"console=", f"{CLONE} console=".encode()))
    (copied,) = state.disks
    return evolve(state, disks=(evolve(copied, name="clone"),))


@pytest.mark.parametrize("moment", ["2001-06-01T12:00:00", "2045-06-01T12:00:00"])
def test_wrong_clock(minimal: BootState, vm_factory: MachineFactory, moment: str) -> None:
    """A clock that is decades wrong keeps nothing from booting, and the system shows that time."""
    vm = machines.boot(vm_factory(minimal, Hardware(clock=moment)), "login")
    assert vm.entry_started == ENTRY
    checks.prints(vm, "date -u +%Y-%m-%d", moment[:10])


def test_low_memory(minimal: BootState, vm_factory: MachineFactory) -> None:
    """160 MiB are enough for firmware, loader, kernel and a small system."""
    vm = machines.boot(vm_factory(minimal, Hardware(memory=160 * MIB)), "login")
    (total,) = checks.prints(vm, "cat /proc/meminfo", r"MemTotal: +(\d+) kB").groups()
    assert int(total) < 160 * 1024


def test_one_cpu_and_no_entropy_device(minimal: BootState, vm_factory: MachineFactory) -> None:
    """One processor and no source of random numbers keep nothing from booting."""
    vm = machines.boot(vm_factory(minimal, Hardware(cpus=1, entropy=False)), "login")
    checks.prints(vm, "nproc", r"^1\s*$")
    checks.prints(vm, "ls /sys/bus/virtio/drivers/virtio_rng && echo end", r"(?s)\A(?!.*virtio\d).*end")
    checks.prints(vm, "head -c 8 /dev/urandom | wc -c", "8")


def test_disk_for_other_sectors(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """With sectors of 4096 bytes an image that was made for 512 does not boot; with its table made anew, it does.

    The entry still finds the partition: it is compared by its GUID, not by its first sector.
    """
    state, disk = machines.own_disk(minimal, tmp_path)
    large = state.on(Bus.VIRTIO, block_size=4096)
    vm = vm_factory(large)
    vm.start()
    vm.expect_no_boot("firmware-shell")
    vm.off()
    gpt.rewrite(disk.path, 4096)
    mended = machines.boot(vm_factory(large), "login")
    assert mended.entry_started == ENTRY
    checks.prints(mended, "cat /sys/block/vda/queue/logical_block_size", "^4096")


def test_two_disks_with_the_same_identifiers(minimal: BootState, clone: BootState, vm_factory: MachineFactory) -> None:
    """An entry cannot tell a disk from its copy: the firmware boots the one that it finds first, whichever that is."""
    for disks, booted in (((*minimal.disks, *clone.disks), ""), ((*clone.disks, *minimal.disks), CLONE)):
        vm = machines.boot(vm_factory(evolve(minimal, disks=disks)), r"Command line: .*console=\S+")
        assert vm.entry_started == ENTRY
        assert len(vm.attempts) == 1
        assert (CLONE in vm.printed()) == bool(booted)
        vm.off()
