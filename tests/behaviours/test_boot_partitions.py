"""Kernels in one file with their initrd and command line."""

from __future__ import annotations

import pytest
from generations import SECONDS, SystemMaker, command_line
from unified import unified_kernel_image

from vmharness.host import packages
from vmharness.pytest_plugin import MachineFactory

BOOT_PACKAGES = ("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2")  # those of the minimal tree
UNIFIED = "/EFI/Linux/minimal-7.efi"


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
