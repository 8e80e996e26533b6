"""What a machine is made of, as values."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from enum import Enum
from pathlib import Path

from attrs import Attribute, field, frozen

from vmharness.model.firmware import Firmware
from vmharness.model.sizes import MIB

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,19}")
_SATA_PORTS = 6  # of q35's own controller
LONGEST_SOCKET = 107
"""Bytes of a socket's path: ``sun_path`` has 108, and a zero ends it (unix(7))."""


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


class Bus(Enum):
    """How a disk is connected, which is what the guest's drivers and its device paths see."""

    VIRTIO = "virtio"
    NVME = "nvme"
    AHCI = "ahci"
    USB = "usb"
    SCSI = "scsi"
    CDROM = "cdrom"

    @property
    def is_sata(self) -> bool:
        """Whether it takes one of the board's SATA ports."""
        return self in {Bus.AHCI, Bus.CDROM}


@frozen(kw_only=True)
class Faults:
    """What is wrong with a disk.

    :param unreadable: sectors of 512 bytes, counted from the disk's beginning; every read that touches one of them
        fails. Writes succeed and mend nothing.
    """

    unreadable: tuple[int, ...] = field(default=(), converter=tuple)


def _check_name(_disk: object, _attribute: Attribute[str], name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is no name for a disk: it is its serial number, too, and has a letter and then up to 19 letters,"
            " digits, dots, dashes and underscores"
        )


def _check_block_size(disk: Disk, _attribute: Attribute[int], size: int) -> None:
    if size not in {512, 4096}:
        raise ValueError(f"a disk cannot have sectors of {size} bytes (allowed: 512, 4096)")
    if size != 512 and disk.bus.is_sata:
        allowed = "virtio, nvme, usb and scsi can"
        raise ValueError(f"a disk on {disk.bus.value} cannot have sectors of {size} bytes: {allowed}")


def _check_read_only(disk: Disk, _attribute: Attribute[bool], read_only: bool) -> None:
    if read_only and disk.bus is Bus.AHCI:
        raise ValueError("QEMU has no read-only disk on ahci; virtio, nvme, usb and scsi have one, and so has cdrom")


@frozen(kw_only=True)
class Disk:
    """A disk of a machine.

    :param name: node name in QEMU, and the serial number that the guest sees.
    :param path: image file.
    :param format: ``raw`` or ``qcow2``.
    :param bus: how it is connected.
    :param read_only: whether the guest may not write; it never may on a cdrom.
    :param backing: what a qcow2 image is laid over, the lowest first: a raw image, then qcow2 overlays. Without it,
        what the image's own header names.
    :param port: the root port that it is plugged into; None where its bus has a place for it.
    :param block_size: bytes of a sector, 512 or 4096, as the disk has them and as it shows them.
    :param faults: what is wrong with it, or None.
    """

    name: str = field(validator=_check_name)
    path: Path
    format: str = "raw"
    bus: Bus = Bus.VIRTIO
    read_only: bool = field(default=False, validator=_check_read_only)
    block_size: int = field(default=512, validator=_check_block_size)
    faults: Faults | None = None
    backing: tuple[Path, ...] = ()
    port: int | None = None

    @property
    def writable(self) -> bool:
        """Whether the guest may write to it."""
        return not (self.read_only or self.bus is Bus.CDROM)


@frozen(kw_only=True)
class DirectKernel:
    """A kernel that QEMU loads itself, without a bootloader."""

    image: Path
    initrd: Path
    command_line: tuple[str, ...]


@frozen(kw_only=True)
class UserNetwork:
    """A network of the machine's own, behind QEMU: the guest reaches what this process reaches, and nobody reaches it
    but through the port that is forwarded.

    The firmware sees the card, too, and tries to boot from it for over a minute where nothing else boots.

    :param guest_port: the guest's port to which QEMU forwards a port of this host, on its loopback address, that QEMU
        chooses.
    :param restricted: whether the guest reaches nothing at all; it has its card all the same.
    """

    guest_port: int = 22
    restricted: bool = False


def _check_disks(_spec: object, _attribute: Attribute[tuple[Disk, ...]], disks: tuple[Disk, ...]) -> None:
    names = Counter(disk.name for disk in disks)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"two disks are called {twice[0]!r}; the guest could not tell them apart")
    if sum(disk.bus.is_sata for disk in disks) > _SATA_PORTS:
        raise ValueError(f"the machine has {_SATA_PORTS} ports for disks on ahci and cdrom, and more are asked for")


def _check_clock(_spec: object, _attribute: Attribute[str | None], clock: str | None) -> None:
    if clock is None:
        return
    try:
        moment = datetime.fromisoformat(clock)
    except ValueError as error:
        raise ValueError(f"the clock cannot be set to {clock!r}: give it as 2020-01-01T00:00:00") from error
    if moment.tzinfo is not None or "T" not in clock:
        raise ValueError(f"the clock cannot be set to {clock!r}: give it as 2020-01-01T00:00:00, without a time zone")


def _check_socket(_spec: object, _attribute: Attribute[Path | None], path: Path | None) -> None:
    if path is not None and len(bytes(path)) > LONGEST_SOCKET:
        raise ValueError(f"the monitor's path {path} is longer than the {LONGEST_SOCKET} bytes that sockets can have")


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
    :param terminal: whether it has another one for a person.
    :param display: whether it has a graphics card, for screenshots; no window is shown. A PS/2 keyboard is always
        there.
    :param network: a network card with its network, or None.
    :param tpm: folder with the state of a TPM 2.0, empty for a new one; None is a machine without.
    :param clock: what the clock shows at the start (UTC), such as ``2020-01-01T00:00:00``; from then on it runs with
        the guest and stands still while that is paused. None is the host's clock.
    :param entropy: whether the guest gets random numbers from the host.
    :param resets: whether a reset restarts the guest; otherwise it ends the machine.
    :param monitor_socket: path of a socket, made by QEMU, on which a person finds QEMU's monitor.
    :param qmp_socket: path of one on which a second program finds QEMU's monitor for programs.
    """

    accelerator: Accelerator
    memory: int = 512 * MIB
    cpus: int = 1
    cpu: str = "qemu64"
    firmware: Firmware | None = None
    variables: Path | None = None
    kernel: DirectKernel | None = None
    disks: tuple[Disk, ...] = field(default=(), validator=_check_disks)
    root_ports: int = 0
    memory_file: Path | None = None
    memory_shared: bool = False
    command_console: bool = False
    terminal: bool = False
    display: bool = False
    network: UserNetwork | None = None
    tpm: Path | None = None
    clock: str | None = field(default=None, validator=_check_clock)
    entropy: bool = True
    resets: bool = False
    monitor_socket: Path | None = field(default=None, validator=_check_socket)
    qmp_socket: Path | None = field(default=None, validator=_check_socket)
