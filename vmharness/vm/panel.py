"""The outside of a running machine: its buttons, keyboard and screen, and the gauges that QEMU has for it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from vmharness.errors import ApiMisuse, QemuDied
from vmharness.model.hardware import MachineSpec
from vmharness.vm.resets import Resets

CALLS = "reset(), power_button(), send_keys(), screenshot(), ssh_port(), registers(), block_io()"
_RESET_SECONDS = 30.0
_COMMAND_SECONDS = 30.0


@frozen(kw_only=True)
class BlockIO:
    """What a machine has read from and written to its disks and its variable store so far, in bytes."""

    read_bytes: int
    written_bytes: int


class Panel(ABC):
    """What is done to a machine from outside, each by one monitor command.

    It is legal wherever :meth:`qmp` is, and none of it ends or pauses the machine by itself. The calls raise
    :class:`~vmharness.errors.ApiMisuse` in another state, or where the machine lacks the device, and
    :class:`~vmharness.errors.QemuDied` when QEMU went away.
    """

    spec: MachineSpec

    @property
    @abstractmethod
    def resets(self) -> Resets:
        """The machine's resets so far."""

    @abstractmethod
    def qmp(self, command: str, arguments: Mapping[str, Any] | None = None, *, within: float = _COMMAND_SECONDS) -> Any:
        """Run one monitor command and give its return value."""

    def reset(self) -> None:
        """Press the reset button: the guest starts anew at once, without a chance to end. Returns when it has.

        What it had written is on its disks, since QEMU and the host live on: this is no power cut.
        """
        if not self.spec.resets:
            raise ApiMisuse("a reset ends this machine; specify resets")
        wanted = self.resets.by_us + 1
        self.qmp("system_reset")
        if not self.resets.wait_for_ours(wanted, _RESET_SECONDS):
            self.qmp("query-status")  # a machine that is gone says so
            raise QemuDied(f"QEMU did not reset the machine within {_RESET_SECONDS:.0f} s")

    def power_button(self) -> None:
        """Press the power button. What happens is up to the guest: nothing, in firmware and in most bootloaders."""
        self.qmp("system_powerdown")

    def send_keys(self, names: Sequence[str]) -> None:
        """Press some keys of the emulated keyboard at the same time, and let them go.

        :param names: QEMU's names (``QKeyCode``), such as ``["ctrl", "x"]`` or ``["ret"]``.
        :raises QmpRefused: there is no key of that name.
        """
        self.qmp("send-key", {"keys": [{"type": "qcode", "data": name} for name in names]})

    def screenshot(self, path: Path) -> None:
        """Write a picture of the screen to ``path``, as PNG.

        :raises QmpRefused: the file cannot be written.
        """
        if not self.spec.display:
            raise ApiMisuse("this machine has no screen; specify display")
        self.qmp("screendump", {"filename": str(path.absolute()), "format": "png"})

    def ssh_port(self) -> int:
        """The port on this host's loopback address that leads to the guest's forwarded port."""
        if self.spec.network is None:
            raise ApiMisuse("this machine has no network; specify network")
        said = self._ask_human_monitor("info usernet")
        forward = re.search(_FORWARD.format(guest_port=self.spec.network.guest_port), said)
        if forward is None:
            raise QemuDied(f"QEMU does not name the port that it forwards; it says: {said.strip()}")
        return int(forward[1])

    def registers(self) -> str:
        """The registers of every processor, as QEMU shows them; of a guest that hangs they tell where."""
        return self._ask_human_monitor("info registers -a")

    def block_io(self) -> BlockIO:
        """How much it has read and written so far; a guest whose figures grow is slow and does not hang."""
        stats = [device["stats"] for device in self.qmp("query-blockstats")]
        return BlockIO(
            read_bytes=sum(stat["rd_bytes"] for stat in stats), written_bytes=sum(stat["wr_bytes"] for stat in stats)
        )

    def _ask_human_monitor(self, line: str) -> str:
        said: str = self.qmp("human-monitor-command", {"command-line": line})
        return said.replace("\r\n", "\n")


# A line of "info usernet" (libslirp, slirp_connection_info): protocol, descriptor, host's and guest's address and port.
_FORWARD = r"TCP\[HOST_FORWARD\] +\d+ +\S+ +(\d+) +\S+ +{guest_port} "
