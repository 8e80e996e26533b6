"""Variable stores that fill up, that outlive a disk, and that removable media must leave alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import machines
import pytest
import trees
from attrs import evolve
from machines import ENTRY
from running import Workplace

from vmharness.disk import efivars
from vmharness.flows.efivars import fill, set_text
from vmharness.model.outcome import Reached, Stalled, describe
from vmharness.model.sizes import KIB
from vmharness.model.variable_changes import Area, changes
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState, Bus


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootState]:
    """A disk that was installed without touching variables, for machines that have another."""
    folder = tmp_path_factory.mktemp("stick")
    text = trees.MINIMAL.replace('name = "minimal"', 'name = "stick"').replace("[root]", 'format = "raw"\n\n[root]')
    parameters = trees.SYSTEMD_BOOT.replace('"console', '"medium=stick", "console')
    yield BootState.of(Workplace(folder=folder).build(f"{text}{parameters}\n[efi]\ntouch-variables = false\n"))
    shutil.rmtree(folder)


def filled(state: BootState, folder: Path, kib: int) -> BootState:
    """The state with so much of its store taken."""
    store = machines.own_store(state, folder)
    fill(store, used=kib * KIB)
    return state.with_store(store)


def test_nearly_full_store(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """With 208 of 256 KiB taken the machine boots as ever; with 232 its firmware takes several times longer."""
    seconds = {}
    for kib in (208, 232):
        vm = vm_factory(filled(minimal, tmp_path, kib))
        vm.start()
        outcome = vm.reach("loader", idle=60)
        assert isinstance(outcome, Reached), describe(outcome)
        assert vm.entry_started == ENTRY
        seconds[kib] = vm.milestones["bootloader"]
        vm.off()
    assert seconds[232] > 2 * seconds[208], seconds


def test_full_store(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """With 252 of 256 KiB taken the firmware hangs before it starts anything; given room, it boots again."""
    vm = vm_factory(filled(minimal, tmp_path, 252))
    vm.start()
    outcome = vm.reach("firmware", idle=10)
    assert isinstance(outcome, Stalled), describe(outcome)
    assert outcome.hung
    assert outcome.after == "power on"
    assert vm.attempts == []
    vm.off()
    left = vm.state.variables
    assert left is not None
    fill(left, used=208 * KIB)
    machines.boot(vm, "loader")
    assert vm.entry_started == ENTRY


def boots_of(state: BootState, vm_factory: MachineFactory, until: str = "kernel") -> list[str]:
    """What a machine's firmware says of the entries that it tries, in order."""
    vm = vm_factory(state)
    machines.boot(vm, until)
    vm.off()
    return [f"{attempt.description}: {attempt.failure}" for attempt in vm.attempts]


def test_second_install_into_the_same_store(minimal: BootState, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """A second install puts its entry first and leaves the first one's, which is stale once that disk is gone.

    The stale entry does no harm where it is; put first, it is passed over with a message.
    """
    assert minimal.firmware is not None
    store = machines.own_store(minimal, tmp_path)
    firmware = f'\n[efi]\nfirmware = {{ code = "{minimal.firmware.code}", variables = "{store}" }}\n'
    text = trees.MINIMAL.replace('name = "minimal"', 'name = "second"') + trees.SYSTEMD_BOOT + firmware
    second = BootState.of(Workplace(folder=tmp_path).build(text))
    assert second.variables is not None
    entries = efivars.read_store(second.variables)
    (stale,) = efivars.read_store(store).boot_order()[:1]
    (new,) = entries.boot_order()[:1]
    assert new != stale
    assert stale in entries.boot_order()
    assert boots_of(second, vm_factory) == [f"{ENTRY}: "]
    machines.set_order(second.variables, [stale, new])
    assert boots_of(second, vm_factory) == [f"{ENTRY}: Not Found", f"{ENTRY}: "]


def test_removable_medium_leaves_entries_alone(
    minimal: BootState, stick: BootState, vm_factory: MachineFactory
) -> None:
    """A stick is started once from the boot menu and taken out again: the machine's own entries are as they were."""
    (inserted,) = stick.on(Bus.USB).disks
    both = minimal.plus(evolve(inserted, name="stick"))
    vm = vm_factory(both)
    machines.boot(vm, "loader")
    assert vm.entry_started == ENTRY
    vm.off()
    (number,) = (number for number, option in vm.variables().boot_entries().items() if "USB" in option.description)
    assert vm.state.variables is not None
    set_text(vm.state.variables, "BootNext", f"{number:04X}")
    machines.boot(vm, "medium=stick")
    vm.off()
    alone = evolve(vm.state, disks=vm.state.disks[:1])
    after = vm_factory(alone)
    machines.boot(after)
    assert after.entry_started == ENTRY
    after.off()
    assert minimal.variables is not None
    before = efivars.read_store(minimal.variables)
    assert changes(before, after.variables(), only={Area.BOOT}, ignore_volatile=True) == ()
