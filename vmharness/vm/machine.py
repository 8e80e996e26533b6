"""One machine: a QEMU process with its monitor, consoles and drives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from vmharness.errors import ApiMisuse, QemuDied, QmpRefused, VmharnessError
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Bus, Disk, MachineSpec
from vmharness.model.outcome import Died, Ended, PoweredOff, Stalled, describe
from vmharness.plan import qemu_disks
from vmharness.vm import snapshots
from vmharness.vm.console import Console
from vmharness.vm.lines import DEATHS, DeathPattern
from vmharness.vm.live import MONITOR_SECONDS, Live, Order, bring_up
from vmharness.vm.panel import Panel
from vmharness.vm.resets import Resets
from vmharness.vm.states import LEGAL, State
from vmharness.vm.watcher import Records

__all__ = ["Machine", "State"]

_CLOSE_SECONDS = 5.0


class Machine(Panel):
    """A QEMU machine, from its start to its end; use it as a context manager.

    States go ``NEW -> RUNNING <-> PAUSED -> OFF``, with ``SAVED`` before ``OFF`` where it was saved, and ``DEAD`` or
    ``GONE`` when it ended by itself; a call in the wrong state raises :class:`~vmharness.errors.ApiMisuse`. Leaving
    the context ends QEMU by a ladder (quit, TERM, KILL) and leaves no process, descriptor or thread behind.

    :param spec: what the machine is made of.
    :param run: where its evidence goes.
    :param deaths: texts on the log console that end the machine's life for its users.
    :param on_line: called with each line of the log console, from another thread.
    :param on_output: called with the log console's bytes as they come, from another thread and from the first one on.
    :param program: QEMU's program.
    """

    def __init__(  # noqa: PLR0913 -- each is a different thing
        self,
        spec: MachineSpec,
        run: RunDirectory,
        *,
        deaths: Sequence[DeathPattern] = DEATHS,
        on_line: Callable[[str], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
        program: str = "qemu-system-x86_64",
    ) -> None:
        self.spec = spec
        self.run = run
        self._records = Records()
        self._order = Order(
            spec=spec,
            run=run,
            program=program,
            deaths=deaths,
            on_line=on_line,
            on_output=on_output,
            records=self._records,
        )
        self._state = State.NEW
        self._resources = ExitStack()
        self._free_ports = list(range(spec.root_ports))
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def state(self) -> State:
        """What the machine is doing now."""
        if self._state not in {State.RUNNING, State.PAUSED, State.SAVED} or self.ending is None:
            return self._state
        return State.DEAD if self._powered.process.runs else State.GONE

    @property
    def ending(self) -> Ended | None:
        """How the machine ended by itself, or None."""
        return self._records.ending.cause

    @property
    def resets(self) -> Resets:
        """Its resets so far; a machine that was not specified to go on after one has none."""
        return self._records.resets

    @property
    def log(self) -> Console:
        """The log console: firmware, bootloader, kernel, login."""
        return self._powered.log

    @property
    def command(self) -> Console:
        """The command console, on which the appliance's agent speaks."""
        if self._powered.command is None:
            raise ApiMisuse("this machine has no command console")
        return self._powered.command

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, from another thread, once the machine has ended by itself. It must return soon."""
        self._records.ending.subscribe(listener)

    def start(self, *, resume: Path | None = None) -> None:
        """Start QEMU and let the guest run; both consoles are drained from before its first instruction.

        Call from a thread that lives as long as the machine: the kernel kills QEMU when that thread ends.

        :param resume: file that :meth:`save` wrote; the guest goes on where it was saved. The variable store's file is
            overwritten with the saved one.
        :raises QemuError: QEMU does not start. The state is ``OFF`` after any error.
        :raises HostError: QEMU, or the TPM that the machine is to have, is not installed.
        """
        self._require(State.NEW)
        self._state = State.OFF  # until it runs: a start that fails cannot be repeated
        with ExitStack() as undo:
            self._live = bring_up(self._order, resume, undo)
            self._state = State.RUNNING
            self._resources = undo.pop_all()

    def qmp(self, command: str, arguments: Mapping[str, Any] | None = None, *, within: float = MONITOR_SECONDS) -> Any:
        """Run one monitor command and give its return value.

        :raises QmpRefused: QEMU answered with an error.
        :raises QemuDied: QEMU is gone or does not answer.
        """
        self._require(State.RUNNING, State.PAUSED, State.DEAD)
        return self._powered.ask(command, arguments or {}, within)

    def plug(self, disk: Disk) -> None:
        """Plug a disk into a free root port; the guest finds it by its serial number, ``disk.name``.

        :raises QmpRefused: QEMU cannot take it; the port stays free.
        """
        self._require(State.RUNNING, State.PAUSED)
        if disk.bus not in {Bus.VIRTIO, Bus.NVME}:
            raise ApiMisuse(f"a disk on {disk.bus.value} cannot be plugged into a running machine; virtio and nvme can")
        if not self._free_ports:
            raise ApiMisuse("this machine has no free root port; specify more root_ports")
        self.qmp("blockdev-add", qemu_disks.blockdev(disk))
        try:
            self.qmp("device_add", qemu_disks.disk_device(disk, self._free_ports[0]))
        except QmpRefused:
            self.qmp("blockdev-del", {"node-name": disk.name})
            raise
        del self._free_ports[0]

    def pause(self) -> None:
        """Let the guest stand still. The state is ``PAUSED`` afterwards."""
        self._require(State.RUNNING)
        self.qmp("stop")
        self._state = State.PAUSED

    def unpause(self) -> None:
        """Let the guest go on. The state is ``RUNNING`` afterwards."""
        self._require(State.PAUSED)
        self.qmp("cont")
        self._state = State.RUNNING

    def save(self, devices: Path) -> None:
        """Pause the guest and write its state to a new file, but for memory in a shared ``spec.memory_file``.

        The state is ``SAVED`` afterwards, or ``PAUSED`` after an error of QEMU. A machine that is started from it, with
        the disks as they are now, goes on from here.

        :raises QemuError: QEMU cannot save it, such as for want of space.
        """
        self._require(State.RUNNING, State.PAUSED)
        snapshots.require_savable(self.spec, plugged=len(self._free_ports) < self.spec.root_ports)
        if self._state is State.RUNNING:
            self.pause()
        snapshots.save(self._powered.monitor, self._records.migration, devices)
        self._state = State.SAVED

    def wait_off(self, *, within: float) -> Stalled | Ended:
        """Wait until the machine has ended by itself, as after :meth:`~Panel.power_button`; its disks are written then.

        :param within: seconds.
        """
        self._require(State.RUNNING, State.DEAD, State.GONE)
        live = self._powered
        ended = threading.Event()
        self.when_ended(ended.set)
        if not ended.wait(within):
            return Stalled(waiting_for="power-off", seconds=within, last_words=live.log.last_words)
        cause = self.ending
        assert cause is not None
        if not isinstance(cause, PoweredOff) or live.process.exit_reason(MONITOR_SECONDS) is not None:
            return cause
        reason = "the guest switched the machine off, but QEMU still runs"
        return Died(reason=reason, stderr=live.process.stderr, last_words=cause.last_words)

    def kill(self) -> None:
        """Kill QEMU. What the guest has written so far is in the host's cache and stays: this is no power cut.

        The state is ``OFF`` afterwards.
        """
        self._require(State.RUNNING, State.PAUSED, State.SAVED, State.DEAD)
        self._state = State.OFF
        self._records.ending.seal()
        self._powered.process.kill()

    def off(self, *, within: float = MONITOR_SECONDS) -> None:
        """Switch the machine off from outside, with everything that the guest has written on the disks' files.

        The state is ``OFF`` afterwards. What the guest still holds in its memory is lost: unmount first.

        :raises QemuDied: QEMU did not end, or not as it should.
        """
        self._require(State.RUNNING, State.PAUSED, State.SAVED, State.DEAD)
        self._state = State.OFF
        self._records.ending.seal()
        self._powered.quit(within)

    def close(self) -> None:
        """End QEMU in whatever state it is, and release everything; a second call does nothing."""
        try:
            if self.state in {State.RUNNING, State.PAUSED, State.SAVED, State.DEAD}:
                with suppress(VmharnessError):  # the ladder goes on with TERM and KILL
                    self.off(within=_CLOSE_SECONDS)
            if self.state is not State.GONE:
                self._state = State.OFF
        finally:
            self._resources.close()

    @property
    def _powered(self) -> Live:
        if self._live is None:
            raise self._misuse()
        return self._live

    def _require(self, *states: State) -> None:
        state = self.state
        if state in states:
            return
        if state not in {State.DEAD, State.GONE} or State.NEW in states:
            raise self._misuse()
        assert self.ending is not None
        what = f"the machine cannot be used any more: {describe(self.ending)}"
        raise QemuDied(what, self.run.transcript, None, self._powered.process.stderr)

    def _misuse(self) -> ApiMisuse:
        return ApiMisuse(f"the machine is {self.state.value}; legal now: {LEGAL[self.state]}")
