"""One machine: a QEMU process with its monitor, consoles and drives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from attrs import evolve

from vmharness.errors import ApiMisuse, QemuDied, QmpRefused, VmharnessError
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Bus, Disk, MachineSpec
from vmharness.model.outcome import Died, Ended, PoweredOff, Stalled, describe
from vmharness.plan import qemu_disks
from vmharness.vm import layers, snapshots
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
        self._tops = {disk.name: disk.name for disk in spec.disks}
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
    def terminal(self) -> Console:
        """The console on which the appliance has a shell for a person."""
        if self._powered.terminal is None:
            raise ApiMisuse("this machine has no terminal")
        return self._powered.terminal

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
        free = set(range(self.spec.root_ports)) - {other.port for other in self.spec.disks}
        if not free:
            raise ApiMisuse("this machine has no free root port; specify more root_ports")
        plugged = evolve(disk, port=min(free))
        self.qmp("blockdev-add", qemu_disks.blockdev(plugged))
        try:
            self.qmp("device_add", qemu_disks.disk_device(plugged))
        except QmpRefused:
            self.qmp("blockdev-del", {"node-name": disk.name})
            raise
        self.spec = evolve(self.spec, disks=(*self.spec.disks, plugged))
        self._tops[disk.name] = disk.name

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
        snapshots.require_savable(self.spec)
        if self._state is State.RUNNING:
            self.pause()
        snapshots.save(self._powered.monitor, self._records.migration, devices)
        self._state = State.SAVED

    def checkpoint(self, state: Path, overlays: Mapping[str, Path], meanwhile: Callable[[], None]) -> None:
        """Write the guest's state to a new file and let it go on as it did; it stands still meanwhile.

        What it writes to its disks from now on goes to the overlays. A machine that is started from the state, with the
        disks as they were, goes on from here. ``spec`` names the disks as they are now.

        :param state: gets the memory, too, unless that is in a shared file.
        :param overlays: a fresh qcow2 image for each writable disk, by the disk's name, that names no backing file.
        :param meanwhile: is called while the guest stands still, for what has to be copied beside it.
        :raises QemuError: QEMU cannot, such as for want of space. The guest goes on all the same.
        """
        self._require(State.RUNNING, State.PAUSED, State.DEAD)
        snapshots.require_savable(self.spec)
        ran = self._state is State.RUNNING and self.state is not State.DEAD
        if ran:
            self.pause()
        try:
            # First, since a machine whose state was written lets go of its disks until it goes on.
            self._lay(overlays)
            snapshots.save(self._powered.monitor, self._records.migration, state)
            meanwhile()
        finally:
            if ran:
                self.unpause()

    def join(self, name: str) -> None:
        """Write what the overlays of a disk hold into its lowest image, so that this alone is the disk again.

        :param name: the disk's; it has no overlays afterwards.
        :raises QemuError: QEMU cannot, such as for want of space.
        """
        self._require(State.RUNNING, State.PAUSED)
        disk = self._disk(name)
        if disk.backing:
            layers.join(self._powered.monitor, self._tops[name])
            self._tops[name] = name
            self._replace(evolve(disk, path=disk.backing[0], format="raw", backing=()))

    def _lay(self, overlays: Mapping[str, Path]) -> None:
        numbered = {name: f"{name}-{len(self._disk(name).backing) + 1}" for name in overlays}
        layers.lay(self._powered.monitor, {numbered[name]: (self._tops[name], path) for name, path in overlays.items()})
        for name, path in overlays.items():
            self._tops[name] = numbered[name]
            disk = self._disk(name)
            self._replace(evolve(disk, path=path, format="qcow2", backing=(*disk.backing, disk.path)))

    def _disk(self, name: str) -> Disk:
        return next(disk for disk in self.spec.disks if disk.name == name)

    def _replace(self, disk: Disk) -> None:
        disks = tuple(disk if old.name == disk.name else old for old in self.spec.disks)
        self.spec = evolve(self.spec, disks=disks)

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
