"""Which entry the firmware boots: the installed one, wherever its disk is, and what it does without.

That a hybrid disk boots under BIOS and under UEFI is among the tests of ``tests/vm/test_boot_matrix.py``.
"""

from __future__ import annotations

from pathlib import Path

import machines
import pytest
from machines import ENTRY, FALLBACK, LOADER

from vmharness.disk import efivars
from vmharness.flows.efivars import delete, set_text
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState, Bus


def test_installed_entry_stays_first(minimal: BootState, vm_factory: MachineFactory) -> None:
    """The entry that the installer wrote is booted after a cold start, and the firmware leaves it first, twice."""
    vm = vm_factory(minimal)
    for _ in range(2):
        machines.boot(vm)
        assert vm.entry_started == ENTRY
        assert machines.first_entry(vm.variables()) == ENTRY
        vm.off()
    assert [attempt.failure for attempt in vm.attempts] == ["", ""]


def test_blank_store_takes_the_fallback_path(minimal: BootState, vm_factory: MachineFactory) -> None:
    """With a store as new the firmware makes an entry for the disk by itself, and boots its fallback loader."""
    vm = machines.boot(vm_factory(minimal.blank()))
    (attempt,) = vm.attempts
    option = vm.variables().load_option(attempt.number)
    assert option is not None
    assert option.automatic
    assert ENTRY not in vm.printed()


def test_blank_store_and_no_fallback_loader(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """Without a loader on the fallback path, a machine with a store as new does not boot, and the firmware says so."""
    state, disk = machines.own_disk(minimal.blank(), tmp_path)
    disk.delete(FALLBACK)
    vm = vm_factory(state)
    vm.start()
    vm.expect_no_boot()
    assert not vm.entry_started or "Shell" in vm.entry_started


@pytest.mark.parametrize("moved", [Bus.NVME, Bus.AHCI, Bus.USB, Bus.SCSI])
def test_disk_moves_to_another_bus(minimal: BootState, vm_factory: MachineFactory, moved: Bus) -> None:
    """The entry names a partition and not a device: it still boots when the disk is connected in another way."""
    vm = machines.boot(vm_factory(minimal.on(moved)))
    assert vm.entry_started == ENTRY
    assert len(vm.attempts) == 1
    assert machines.first_entry(vm.variables()) == ENTRY


def test_deleted_entry(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """When its entry was deleted the disk still boots, by its fallback path; nobody writes the entry anew."""
    store = machines.own_store(minimal, tmp_path)
    number = machines.number_of(efivars.read_store(store), ENTRY)
    delete(store, [f"Boot{number:04X}"])
    vm = machines.boot(vm_factory(minimal.with_store(store)))
    assert vm.entry_started not in {"", ENTRY}
    vm.off()
    assert ENTRY not in {option.description for option in vm.variables().boot_entries().values()}


def test_entry_of_a_missing_file(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """An entry whose file is gone is passed over with a message, and the disk boots by its fallback path."""
    state, disk = machines.own_disk(minimal, tmp_path)
    disk.delete(LOADER)
    vm = machines.boot(vm_factory(state))
    first, *rest = vm.attempts
    assert (first.description, first.failure) == (ENTRY, "Not Found")
    assert [attempt.failure for attempt in rest] == [""]


def test_boot_next_is_used_once(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """``BootNext`` is booted once: the firmware deletes it first, and the next start takes ``BootOrder`` again."""
    store = machines.own_store(minimal, tmp_path)
    first = machines.number_of(efivars.read_store(store), ENTRY)
    once = machines.add_entry(store, "Once", FALLBACK, like=first)
    set_text(store, "BootNext", f"{once:04X}")
    vm = vm_factory(minimal.with_store(store))
    started = []
    for _ in range(3):
        machines.boot(vm, "loader")
        started.append(vm.entry_started)
        assert vm.variables().boot_next() is None
        vm.off()
    assert started == ["Once", ENTRY, ENTRY]
    assert machines.first_entry(vm.variables()) == ENTRY
