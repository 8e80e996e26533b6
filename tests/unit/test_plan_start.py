"""How the appliance starts: every choice with its reason."""

from pathlib import Path

import pytest

from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, DirectKernel, Kernel, MachineSpec, Uncompressed
from vmharness.plan.start import Bootable, choose_start

PACKED, ELF = Path("/boot/vmlinuz"), Path("/cache/vmlinux")
KERNEL = Kernel(image=PACKED, modules=Path("/lib/modules/1"), version="1", reason="the only one")


def machine(firmware: Firmware | None = None, accelerator: Accelerator = Accelerator.TCG) -> MachineSpec:
    """The appliance's machine before the choice."""
    return MachineSpec(accelerator=accelerator, firmware=firmware)


def bootable(image: Path | None, reason: str = "") -> Bootable:
    """A kernel with its uncompressed form."""
    direct = DirectKernel(image=PACKED, initrd=Path("/initrd"), command_line=("quiet", "tsc=reliable"))
    return Bootable(kernel=KERNEL, direct=direct, uncompressed=Uncompressed(image=image, reason=reason))


def image_of(spec: MachineSpec) -> Path:
    """The kernel that QEMU gets."""
    assert spec.kernel is not None
    return spec.kernel.image


def test_without_firmware_the_unpacked_kernel_is_entered() -> None:
    """Neither firmware nor unpacking is waited for."""
    taken, start = choose_start(machine(), bootable(ELF))
    assert image_of(taken) == ELF
    assert start.entry.taken == "PVH, uncompressed"


def test_reason_against_the_unpacked_kernel_is_told() -> None:
    """A kernel that cannot be entered so starts as it was distributed, and the plan says why."""
    taken, start = choose_start(machine(), bootable(None, "it has no entry"))
    assert image_of(taken) == PACKED
    assert start.entry.taken == "boot protocol"
    assert start.entry.reason.endswith("it has no entry")


def test_firmware_starts_the_kernel_as_it_was_distributed() -> None:
    """Firmware enters the EFI stub, which the unpacked kernel does not have."""
    firmware = Firmware(code=Path("/CODE.fd"), template=Path("/VARS.fd"))
    taken, start = choose_start(machine(firmware), bootable(ELF))
    assert image_of(taken) == PACKED
    assert start.entry.taken == "EFI stub"


@pytest.mark.parametrize(("accelerator", "cpu"), [(Accelerator.TCG, "qemu64"), (Accelerator.KVM, "host")])
def test_other_choices_are_told(accelerator: Accelerator, cpu: str) -> None:
    """Kernel, processor and clock are named as they are, each with a reason."""
    _, start = choose_start(machine(accelerator=accelerator), bootable(ELF))
    assert (start.kernel.taken, start.kernel.reason) == ("1", "the only one")
    assert (start.cpu.taken, start.clock.taken) == (cpu, "tsc=reliable")
    assert all(choice.reason for choice in (start.cpu, start.clock, start.console, start.entry))
