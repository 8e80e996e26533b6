"""What a machine is made of, as values."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from attrs import field, frozen

from vmharness.model.firmware import Firmware
from vmharness.model.sizes import MIB


class Accelerator(Enum):
    """How QEMU runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"

    @property
    def time_scale(self) -> float:
        """Factor on every deadline: TCG is several times slower."""
        return 1.0 if self is Accelerator.KVM else 4.0


@frozen(kw_only=True)
class AcceleratorVerdict:
    """The accelerator taken, and why, in one line."""

    accelerator: Accelerator
    reason: str


@frozen(kw_only=True)
class Kernel:
    """A Linux kernel for the appliance.

    :param image: the bootable image (``vmlinuz``).
    :param modules: the folder ``lib/modules/VERSION`` that belongs to it.
    :param version: ``uname -r``.
    :param reason: why this kernel.
    """

    image: Path
    modules: Path
    version: str
    reason: str


@frozen(kw_only=True)
class Uncompressed:
    """A kernel without its compression, as an ELF file.

    :param image: the file, or None where that is of no use.
    :param reason: why it is not; empty otherwise.
    """

    image: Path | None
    reason: str


@frozen(kw_only=True)
class Disk:
    """A disk of a machine.

    :param name: node name in QEMU, and the serial number that the guest sees.
    :param path: image file.
    :param format: ``raw`` or ``qcow2``.
    :param read_only: whether the guest may write.
    """

    name: str
    path: Path
    format: str = "raw"
    read_only: bool = False


@frozen(kw_only=True)
class DirectKernel:
    """A kernel that QEMU loads itself, without a bootloader."""

    image: Path
    initrd: Path
    command_line: tuple[str, ...]


@frozen(kw_only=True)
class MachineSpec:
    """Everything that QEMU is asked for.

    :param memory: bytes.
    :param cpu: QEMU's CPU model under TCG; KVM gives the guest the host's. ``qemu64`` is the cheapest, ``max`` runs the
        most systems.
    :param firmware: UEFI firmware, or None for BIOS.
    :param variables: this machine's own variable store (raw); needed with ``firmware``.
    :param kernel: direct kernel, or None to boot from a disk.
    :param disks: disks present from the start.
    :param root_ports: empty PCI Express ports for disks that are plugged later.
    :param memory_file: file that holds the guest's memory, so that its state can be saved and resumed; None keeps the
        memory to the process.
    :param memory_shared: whether what the guest writes to its memory goes to ``memory_file`` (while a state is made) or
        stays private (when it is resumed, so that many machines share one file).
    :param command_console: whether the machine has a second console for the appliance's agent.
    """

    accelerator: Accelerator
    memory: int = 512 * MIB
    cpus: int = 1
    cpu: str = "qemu64"
    firmware: Firmware | None = None
    variables: Path | None = None
    kernel: DirectKernel | None = None
    disks: tuple[Disk, ...] = field(default=())
    root_ports: int = 0
    memory_file: Path | None = None
    memory_shared: bool = False
    command_console: bool = False
