"""How the appliance comes up when it boots cold, each choice with its reason."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve, frozen

from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, DirectKernel, Kernel, MachineSpec, Uncompressed
from vmharness.model.image import ImageSpec

_CLOCK_PARAMETERS = {"tsc=reliable", "no_timer_check"}


@frozen(kw_only=True)
class Choice:
    """What was taken, and why."""

    taken: str
    reason: str


@frozen(kw_only=True)
class Start:
    """What decides how long a cold boot takes.

    :param kernel: which kernel.
    :param entry: how it is entered.
    :param cpu: the processor that the guest sees.
    :param clock: how the guest's kernel treats its clocks.
    :param console: where messages and commands go.
    """

    kernel: Choice
    entry: Choice
    cpu: Choice
    clock: Choice
    console: Choice


@frozen(kw_only=True)
class Bootable:
    """What the appliance can be started with.

    :param kernel: its kernel.
    :param direct: the same as it was distributed, with initramfs and command line.
    :param uncompressed: the same without its compression; None where firmware starts it.
    """

    kernel: Kernel
    direct: DirectKernel
    uncompressed: Uncompressed | None


def appliance_firmware(spec: ImageSpec, firmware: Firmware | None) -> Firmware | None:
    """The firmware that the appliance starts with: the image's where EFI variables are written, otherwise none.

    It takes longer to start than the kernel.
    """
    return firmware if spec.efi.touch_variables else None


def choose_start(machine: MachineSpec, bootable: Bootable) -> tuple[MachineSpec, Start]:
    """The machine with the kernel that it starts, and the choices.

    :param machine: the appliance's, without a kernel.
    """
    entry, image = _entry(bootable, with_firmware=machine.firmware is not None)
    direct = evolve(bootable.direct, image=image)
    clock_words = [word for word in direct.command_line if word in _CLOCK_PARAMETERS]
    return evolve(machine, kernel=direct), Start(
        kernel=Choice(taken=bootable.kernel.version, reason=bootable.kernel.reason),
        entry=entry,
        cpu=_cpu(machine),
        clock=Choice(taken=" ".join(clock_words), reason="tests of emulated clocks fail on a busy host"),
        console=Choice(
            taken="commands on a virtio console, messages on ttyS0",
            reason="its round trip takes a twentieth of the serial port's, and no message can damage an answer",
        ),
    )


def _entry(bootable: Bootable, *, with_firmware: bool) -> tuple[Choice, Path]:
    packed, unpacked = bootable.direct.image, bootable.uncompressed
    if with_firmware:
        return Choice(taken="EFI stub", reason="EFI variables are written, for which firmware has to run"), packed
    assert unpacked is not None, "without firmware the kernel's uncompressed form is looked at"
    if unpacked.image is None:
        return Choice(taken="boot protocol", reason=f"PVH would be faster, but {unpacked.reason}"), packed
    reason = "no EFI variables are written, so no firmware has to run, and the guest need not unpack its kernel"
    return Choice(taken="PVH, uncompressed", reason=reason), unpacked.image


def _cpu(machine: MachineSpec) -> Choice:
    if machine.accelerator is Accelerator.KVM:
        return Choice(taken="host", reason="KVM runs on the host's own processor")
    return Choice(taken=machine.cpu, reason="the model that TCG runs fastest")
