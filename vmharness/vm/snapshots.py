"""A machine's saved state: its memory in a file of its own, the state of its devices in another.

The memory is a file that QEMU maps. While the state is made it is shared, so that the file holds what the guest wrote;
QEMU then writes only its devices' state (a few MB, the flash among it). Resumed machines map the file privately:
nothing is read that the guest does not touch, and any number of machines share one file. (QEMU,
docs/devel/migration.rst; the capability ``x-ignore-shared``.) The memory of a machine that has no such file, or has it
privately, is written with the devices' state.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmharness.errors import ApiMisuse, QemuDied, QmpRefused
from vmharness.model.hardware import Bus, MachineSpec
from vmharness.vm.qmp import Monitor

_SECONDS = 60.0
_CAPABILITIES = [{"capability": "x-ignore-shared", "state": True}, {"capability": "events", "state": True}]
_NAME = "state"
_ENDED = "ended"


class Migration:
    """What QEMU's ``MIGRATION`` events say of the transfer under way."""

    def __init__(self) -> None:
        self._states: queue.SimpleQueue[str] = queue.SimpleQueue()

    def pass_on(self, status: str) -> None:
        """Take an event's status, from the monitor's thread."""
        self._states.put(status)

    def end(self) -> None:
        """The machine has ended: nothing more will be said."""
        self._states.put(_ENDED)

    def wait(self, what: str) -> None:
        """Wait until the transfer has ended.

        :param what: what it is for, in words.
        :raises QmpRefused: it failed.
        :raises QemuDied: QEMU does not say that it ended.
        """
        status = ""
        while status != "completed":
            try:
                status = self._states.get(timeout=_SECONDS)
            except queue.Empty:
                raise QemuDied(f"{what}: QEMU did not end it within {_SECONDS:.0f} s") from None
            if status == _ENDED:
                raise QemuDied(f"{what}: QEMU went away")
            if status in {"failed", "cancelled"}:
                raise QmpRefused(f"{what}: QEMU says that it {status}")


@contextmanager
def opened(devices: Path | None) -> Iterator[int | None]:
    """A descriptor of the file with the devices' state, as a resuming QEMU inherits it; None for a cold start."""
    if devices is None:
        yield None
        return
    descriptor = os.open(devices, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def argv(saved: int | None) -> list[str]:
    """QEMU's arguments for a start from a saved state."""
    return [] if saved is None else ["-incoming", "defer"]


def load(monitor: Monitor, migration: Migration, saved: int) -> None:
    """Take over a saved state before the first instruction.

    :raises QemuError: it does not fit this machine, or is damaged.
    """
    monitor.execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES}, within=_SECONDS)
    monitor.execute("migrate-incoming", {"uri": f"fd:{saved}"}, within=_SECONDS)
    migration.wait("resuming the machine")


def require_savable(spec: MachineSpec) -> None:
    """Refuse a machine that cannot be saved, before it is paused for nothing.

    :raises ApiMisuse: it has a disk on nvme.
    """
    for disk in spec.disks:
        if disk.bus is Bus.NVME:
            what = f"the machine cannot be saved: QEMU cannot save the nvme controller of its disk '{disk.name}'"
            raise ApiMisuse(what, None, "virtio, scsi, ahci, usb and cdrom can be saved")


def save(monitor: Monitor, migration: Migration, devices: Path) -> None:
    """Write the state of a paused machine: its devices, and its memory if that is not in a shared file.

    :raises QemuError: QEMU cannot.
    """
    monitor.execute("migrate-set-capabilities", {"capabilities": _CAPABILITIES}, within=_SECONDS)
    monitor.execute("migrate-set-parameters", {"max-bandwidth": 1 << 40}, within=_SECONDS)
    with devices.open("xb") as file:
        monitor.lend(_NAME, file.fileno(), within=_SECONDS)
        monitor.execute("migrate", {"uri": f"fd:{_NAME}"}, within=_SECONDS)
        migration.wait("saving the machine")
        os.fsync(file.fileno())
