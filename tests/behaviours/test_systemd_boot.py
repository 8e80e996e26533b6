"""How systemd-boot behaves: what it starts by itself, for how long it waits, and what people and bootctl make it do."""

from __future__ import annotations

import time

import pytest
from generations import SECONDS, SystemMaker, command_line, generation

from vmharness.model.outcome import Stalled
from vmharness.model.picture import Picture
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import Machine, checks

LOADER_MENU = ("New", "Old", "Reboot Into Firmware Interface")


def at_menu(vm: Machine) -> None:
    """Start a machine and wait for its menu."""
    vm.start()
    vm.expect_boot("loader")
    assert vm.menu.wait(within=SECONDS) == LOADER_MENU


def test_bootctl_chooses(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """The newest generation starts first. ``set-oneshot`` is for the next boot only, and stronger than ``set-default``,
    which stays; both outlast the machine's being switched off.
    """
    state, _ = system()
    vm = vm_factory(state)
    vm.start()
    assert generation(vm) == 2
    vm.run("bootctl set-default old.conf && bootctl set-oneshot new.conf")
    checks.entry_selected(vm, "new.conf")
    assert vm.variables().loader_text("LoaderEntryOneShot") == "new.conf"
    vm.off()
    vm.start()
    assert generation(vm) == 2
    assert vm.variables().loader_text("LoaderEntryOneShot") is None
    for _ in range(2):
        vm.reset()
        assert generation(vm) == 1
    checks.booted_times(vm, 4)
    assert vm.variables().loader_text("LoaderEntryDefault") == "old.conf"


@pytest.mark.parametrize("seconds", [3, 6])
def test_menu_waits_as_long_as_it_should(system: SystemMaker, vm_factory: MachineFactory, seconds: int) -> None:
    """The menu counts its time-out down in seconds of real time, then starts the selected entry."""
    state, _ = system(loader=f"timeout {seconds}\n")
    vm = vm_factory(state)
    vm.start()
    shown = vm.screen.wait_for(rf"Boot in {seconds} s", within=SECONDS)
    began = time.monotonic()
    assert not isinstance(shown, Stalled), shown
    gone = vm.screen.wait_until(_without_countdown, within=SECONDS, waiting_for="end of the countdown")
    waited = time.monotonic() - began
    assert gone is True
    assert generation(vm) == 2
    assert seconds - 0.5 <= waited < seconds + 4, f"the menu was there for {waited:.1f} s"


def _without_countdown(picture: Picture) -> bool:
    return "Boot in" not in picture.text


def test_no_timeout_no_menu(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """Without a time-out the newest generation starts, and no menu is drawn on the way."""
    state, _ = system()
    vm = vm_factory(state)
    vm.start()
    assert generation(vm) == 2
    assert "Old" not in vm.printed()


def test_a_key_chooses_the_older_generation(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """A forced menu waits for ever; the older generation is chosen there, for this boot only."""
    state, _ = system(loader="timeout menu-force\n")
    vm = vm_factory(state)
    at_menu(vm)
    waiting = vm.reach("kernel", within=3)
    assert isinstance(waiting, Stalled)
    assert vm.menu.selected() == "New"
    assert vm.menu.choose("Old") == "Old"
    assert generation(vm) == 1
    vm.reset()
    assert vm.menu.wait(within=SECONDS) == LOADER_MENU
    assert vm.menu.selected() == "New"


def test_a_command_line_is_edited_for_one_boot(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """What is put behind the command line in the menu's editor reaches the kernel, and is not kept."""
    state, own = system(loader="timeout 20\n")
    vm = vm_factory(state)
    at_menu(vm)
    editor = vm.menu.edit("Old")
    editor.append("own.word=edited")
    editor.boot()
    line = command_line(vm)
    assert "generation=1" in line
    assert line.endswith(" own.word=edited\n")
    vm.off()
    assert b"own.word" not in own.read("/loader/entries/old.conf")


def test_the_editor_can_be_forbidden(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """With ``editor no`` the key ``e`` does nothing, while the arrows still move."""
    state, _ = system(loader="timeout menu-force\neditor no\n")
    vm = vm_factory(state)
    at_menu(vm)
    before = vm.screen.text()
    vm.keyboard.send("e")
    assert vm.menu.select("Old") == "Old"  # it has listened since
    assert vm.screen.text() == before
