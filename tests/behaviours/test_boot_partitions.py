"""Where kernels lie: on an extended boot loader partition, and in one file with their initrd and command line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trees
from generations import ENTRIES, SECONDS, Esp, SystemMaker, command_line, copied
from running import Workplace
from unified import unified_kernel_image

from vmharness.host import packages
from vmharness.host.published import read_manifest
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState, checks

BOOT_PACKAGES = ("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2")  # those of the minimal tree
UNIFIED = "/EFI/Linux/minimal-7.efi"


@pytest.fixture(scope="module")
def xbootldr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The minimal image with an extended boot loader partition, on a raw disk; no test changes it."""
    folder = tmp_path_factory.mktemp("xbootldr")
    table = trees.MINIMAL.replace("[root]", 'format = "raw"\npartition-table = "efixbootldr"\n\n[root]')
    yield Workplace(folder=folder).build(table + trees.SYSTEMD_BOOT)
    shutil.rmtree(folder)


def test_kernel_and_entry_on_their_own_partition(xbootldr: Path, tmp_path: Path, vm_factory: MachineFactory) -> None:
    """The ESP holds the loader only; entry and kernel are found on the extended boot loader partition. Without its
    kernel the loader has no entry but its own for the firmware's setup.
    """
    state, on_esp = copied(BootState.of(xbootldr), tmp_path)
    boot = Esp(disk=on_esp.disk, offset=read_manifest(xbootldr).table.by_role("boot").offset)
    checks.esp_has(state, "/EFI/systemd/systemd-bootx64.efi")
    assert [path for path in on_esp.files() if path.startswith(ENTRIES) or path.endswith("/linux")] == []
    (kernel,) = (path for path in boot.files() if path.endswith("/linux"))
    assert [path for path in boot.files() if path.startswith(ENTRIES)] != []
    vm = vm_factory(state, persist=True)
    vm.start()
    assert kernel.split("/")[1] in command_line(vm)
    vm.off()
    boot.delete(kernel)
    vm.start()
    assert vm.menu.wait(within=SECONDS) == ("Reboot Into Firmware Interface",)
    assert "Linux version" not in vm.printed()
    on_esp.disk.unlink()


@pytest.fixture(scope="module")
def stub() -> bytes:
    """systemd's stub for unified kernel images."""  # noqa: D403 -- its name is written so
    return (packages.unpack(BOOT_PACKAGES) / "usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()


def test_a_unified_kernel_image_is_an_entry(system: SystemMaker, vm_factory: MachineFactory, stub: bytes) -> None:
    """systemd-boot finds the image without an entry for it, sorts it by its version with the others, starts it when it
    is chosen, and the kernel gets the command line that is in it.
    """
    state, own = system(loader="timeout menu-force\n")
    (kernel,) = (path for path in own.files() if path.endswith("/linux"))
    (initrd,) = (path for path in own.files() if "/initrd" in path)
    release = b'ID=minimal\nVERSION_ID=7\nPRETTY_NAME="Unified"\n'
    sections = {
        ".osrel": release,
        ".cmdline": b"root=LABEL=root rw console=ttyS0 own.word=unified",
        ".linux": own.read(kernel),
        ".initrd": own.read(initrd),
    }
    own.write(UNIFIED, unified_kernel_image(stub, sections))
    vm = vm_factory(state)
    vm.start()
    vm.expect_boot("loader")
    assert set(vm.menu.wait(within=SECONDS)) >= {"New", "Old", "Unified"}
    vm.menu.choose("Unified")
    assert command_line(vm).endswith("own.word=unified\n")
