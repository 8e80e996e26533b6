"""Boot counting and rollback: a new generation is tried a few times, and then the older one starts again."""

from __future__ import annotations

from pathlib import Path

import pytest
from generations import SystemMaker, entries, generation

from vmharness.host import packages
from vmharness.model.outcome import Panicked
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import checks

BOOT_PACKAGES = ("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2")  # those of the minimal tree


@pytest.fixture(scope="module")
def bless_boot() -> Path:
    """systemd's own program that marks a boot as good."""  # noqa: D403 -- its name is written so
    (program,) = (path for path in packages.unpack(BOOT_PACKAGES).rglob("systemd-bless-boot") if path.is_file())
    return program


def test_a_generation_that_never_works_is_given_up(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """An entry with three tries is started three times, each counted in its name before it starts; then the older
    generation starts.
    """
    state, own = system(new="new+3")
    vm = vm_factory(state, persist=True)
    for left in (2, 1, 0):
        vm.start()
        assert generation(vm) == 2
        vm.off()
        assert entries(own) == [f"new+{left}-{3 - left}.conf", "old.conf"]
    vm.start()
    assert generation(vm) == 1
    checks.booted_times(vm, 4)


def test_a_generation_that_works_is_kept(system: SystemMaker, vm_factory: MachineFactory, bless_boot: Path) -> None:
    """Marked as good from inside, the entry loses its counter, and goes on to be started."""
    state, own = system(new="new+3")
    vm = vm_factory(state, persist=True)
    vm.start()
    assert generation(vm) == 2
    vm.put(bless_boot, "/root/bless", mode=0o755)
    vm.run(
        "mount -t vfat /dev/vda1 /efi && SYSTEMD_RELAX_ESP_CHECKS=1 /root/bless --path=/efi good && umount /efi; sync"
    )
    vm.off()
    assert entries(own) == ["new.conf", "old.conf"]


def test_a_broken_generation_and_the_way_back(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """A new generation without its initrd panics, which is named as such; the older one, chosen in the menu, boots on
    the same machine, and starts by itself once the new one is removed.
    """
    state, own = system(loader="timeout 20\n")
    broken = own.read("/loader/entries/new.conf").decode().replace("initrd", "#")
    own.write("/loader/entries/new.conf", broken.encode())
    vm = vm_factory(state, persist=True)
    vm.start()
    outcome = vm.reach("login")
    assert isinstance(outcome, Panicked), outcome
    assert outcome.pattern.startswith("kernel")
    vm.off()
    vm.start()
    vm.expect_boot("loader")
    vm.menu.wait(within=300)
    assert vm.menu.choose("Old") == "Old"
    vm.expect_boot("login")
    vm.off()
    own.delete("/loader/entries/new.conf")
    vm.start()
    assert generation(vm) == 1
