"""One machine: a QEMU process with its monitor, consoles and drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from enum import Enum
from pathlib import Path
from socket import socket
from types import TracebackType
from typing import Any, Self

from vmharness.errors import ApiMisuse, LaunchFailed, QemuDied, QmpRefused, VmharnessError
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Disk, MachineSpec
from vmharness.model.outcome import Died, Panicked, describe
from vmharness.plan import qemu_args
from vmharness.vm import snapshots
from vmharness.vm.console import Console
from vmharness.vm.ending import Ending
from vmharness.vm.lines import DEATHS, DeathPattern
from vmharness.vm.process import QemuProcess, launch, pidfd
from vmharness.vm.qmp import Monitor

_MONITOR_SECONDS = 30.0
_SETTLE_SECONDS = 0.5
_DRAIN_SECONDS = 0.25
_CLOSE_SECONDS = 5.0


class State(Enum):
    """What a machine is doing; ``GONE`` means that it ended by itself."""

    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    GONE = "gone"


_LEGAL = {
    State.NEW: "start(), close()",
    State.RUNNING: "qmp(), plug(), save(), off(), close()",
    State.PAUSED: "qmp(), plug(), off(), close()",
    State.OFF: "close()",
    State.GONE: "close()",
}


class Machine:
    """A QEMU machine, from its start to its end; use it as a context manager.

    States go ``NEW -> RUNNING <-> PAUSED -> OFF``, and ``GONE`` when it died by itself; a call in the wrong state
    raises :class:`~vmharness.errors.ApiMisuse`. Leaving the context ends QEMU by a ladder (quit, TERM, KILL) and leaves
    no process, descriptor or thread behind.

    :param spec: what the machine is made of.
    :param run: where its evidence goes.
    :param deaths: texts on the log console that end the machine's life for its users.
    :param on_line: called with each line of the log console, from another thread.
    :param program: QEMU's program.
    """

    def __init__(
        self,
        spec: MachineSpec,
        run: RunDirectory,
        *,
        deaths: Sequence[DeathPattern] = DEATHS,
        on_line: Callable[[str], None] | None = None,
        program: str = "qemu-system-x86_64",
    ) -> None:
        self.spec = spec
        self.run = run
        self._deaths = deaths
        self._on_line = on_line
        self._program = program
        self._ending = Ending()
        self._state = State.NEW
        self._resources = ExitStack()
        self._free_ports = list(range(spec.root_ports))
        self._process: QemuProcess | None = None
        self._monitor: Monitor | None = None
        self._log: Console | None = None
        self._command: Console | None = None
        self._shutdown_reason: str | None = None
        self._migration = snapshots.Migration()
        self._ending.subscribe(self._migration.end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        """What the machine is doing now."""
        lives = self._state in (State.RUNNING, State.PAUSED)
        return State.GONE if lives and self._ending.cause is not None else self._state

    @property
    def ending(self) -> Panicked | Died | None:
        """How the machine ended by itself, or None."""
        return self._ending.cause

    @property
    def log(self) -> Console:
        """The log console: firmware, bootloader, kernel, login."""
        if self._log is None:
            raise self._misuse()
        return self._log

    @property
    def command(self) -> Console:
        """The command console, on which the appliance's agent speaks."""
        if self._command is None:
            raise self._misuse() if self.spec.command_console else ApiMisuse("this machine has no command console")
        return self._command

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, from another thread, once the machine has ended by itself. It must return soon."""
        self._ending.subscribe(listener)

    def start(self, *, resume: Path | None = None) -> None:
        """Start QEMU and let the guest run; both consoles are drained from before its first instruction.

        Call from a thread that lives as long as the machine: the kernel kills QEMU when that thread ends.

        :param resume: file with the state of the devices that :meth:`save` wrote; the guest goes on where it was saved,
            with the memory in ``spec.memory_file``. The variable store's file is overwritten with the saved one.
        :raises LaunchFailed: QEMU ended before its monitor was up. The state is ``OFF`` after any error.
        :raises QemuError: it ended, or refused, right after that.
        """
        self._require(State.NEW)
        self._state = State.OFF  # until it runs: a start that fails cannot be repeated
        with ExitStack() as undo, snapshots.opened(resume) as saved:
            process = self._process = launch(
                lambda channels: [*qemu_args.argv(self._program, self.spec, channels), "-S", *snapshots.argv(saved)],
                command_console=self.spec.command_console,
                argv_path=self.run.qemu_argv,
                stderr_path=self.run.qemu_stderr,
                inherit=() if saved is None else (saved,),
            )
            undo.callback(process.streams.close)
            undo.callback(process.end)
            self._monitor = Monitor(on_event=self._on_event, on_lost=self._on_lost)
            undo.callback(self._monitor.close)
            self._log = self._console("log", process.streams.log)
            undo.callback(self._log.close)
            if process.streams.command is not None:
                self._command = self._console("command", process.streams.command)
                undo.callback(self._command.close)
            undo.callback(self._ending.seal)
            self._monitor.watch(pidfd(process), self._on_exit)
            self._connect(self._monitor, process)
            if saved is not None:
                snapshots.load(self._monitor, self._migration, saved)
            self._monitor.execute("cont", {}, within=_MONITOR_SECONDS)
            self._state = State.RUNNING
            self._resources = undo.pop_all()

    def qmp(self, command: str, arguments: Mapping[str, Any] | None = None, *, within: float = _MONITOR_SECONDS) -> Any:
        """Run one monitor command and give its return value.

        :raises QmpRefused: QEMU answered with an error.
        :raises QemuDied: QEMU is gone or does not answer.
        """
        self._require(State.RUNNING, State.PAUSED)
        assert self._monitor is not None
        assert self._process is not None
        try:
            return self._monitor.execute(command, arguments or {}, within=within)
        except QemuDied as error:
            what = f"{error.what}: {self._process.exit_reason(_SETTLE_SECONDS) or 'it still runs'}"
            raise QemuDied(what, self.run.transcript, None, self._process.stderr) from error

    def plug(self, disk: Disk) -> None:
        """Plug a disk into a free root port; the guest finds it by its serial number, ``disk.name``.

        :raises QmpRefused: QEMU cannot take it; the port stays free.
        """
        self._require(State.RUNNING, State.PAUSED)
        if not self._free_ports:
            raise ApiMisuse("this machine has no free root port; specify more root_ports")
        self.qmp("blockdev-add", qemu_args.blockdev(disk))
        try:
            self.qmp("device_add", qemu_args.disk_device(disk, self._free_ports[0]))
        except QmpRefused:
            self.qmp("blockdev-del", {"node-name": disk.name})
            raise
        del self._free_ports[0]

    def save(self, devices: Path) -> None:
        """Pause the guest and write the state of its devices to a new file; its memory is in ``spec.memory_file``.

        The state is ``PAUSED`` afterwards. A machine that was started from the two files goes on from here.

        :raises QemuError: QEMU cannot save it, such as for want of space.
        """
        self._require(State.RUNNING)
        if self.spec.memory_file is None or not self.spec.memory_shared:
            raise ApiMisuse("only a machine with a shared memory file can be saved")
        assert self._monitor is not None
        self.qmp("stop")
        self._state = State.PAUSED
        snapshots.save(self._monitor, self._migration, devices)

    def off(self, *, within: float = _MONITOR_SECONDS) -> None:
        """Switch the machine off from outside, with everything that the guest has written on the disks' files.

        The state is ``OFF`` afterwards. What the guest still holds in its memory is lost: unmount first.

        :param within: seconds.
        :raises QemuDied: QEMU did not end, or not as it should.
        """
        self._require(State.RUNNING, State.PAUSED)
        self._state = State.OFF
        self._ending.seal()
        assert self._monitor is not None
        assert self._process is not None
        with suppress(QemuDied):  # it may close the monitor before it has answered; its exit status is what counts
            self._monitor.execute("quit", {}, within=within)
        reason = self._process.exit_reason(within)
        if reason != "QEMU exited with status 0":
            what = reason or f"QEMU still runs {within:.0f} s after it was asked to quit"
            raise QemuDied(f"the machine did not switch off cleanly: {what}", None, None, self._process.stderr)

    def close(self) -> None:
        """End QEMU in whatever state it is, and release everything; a second call does nothing."""
        try:
            if self.state in (State.RUNNING, State.PAUSED):
                with suppress(VmharnessError):  # the ladder goes on with TERM and KILL
                    self.off(within=_CLOSE_SECONDS)
            if self.state is not State.GONE:
                self._state = State.OFF
        finally:
            self._resources.close()

    def _connect(self, monitor: Monitor, process: QemuProcess) -> None:
        try:
            monitor.connect(process.streams.monitor, within=_MONITOR_SECONDS)
        except QemuDied as error:
            reason = process.exit_reason(_SETTLE_SECONDS) or error.what
            raise LaunchFailed(f"QEMU did not start: {reason}", self.run.qemu_stderr, None, process.stderr) from error

    def _console(self, name: str, stream: socket) -> Console:
        is_log = name == "log"
        return Console(
            name=name,
            stream=stream,
            transcript=self.run.transcript if is_log else self.run.path / "commands.raw",
            ending=self._ending,
            deaths=self._deaths if is_log else (),
            on_line=self._on_line if is_log else None,
            framed=not is_log,
            witness=None if is_log else self._log,
        )

    def _require(self, *states: State) -> None:
        state = self.state
        if state in states:
            return
        if state is not State.GONE or State.NEW in states:
            raise self._misuse()
        assert self._process is not None
        assert self._ending.cause is not None
        what = describe(self._ending.cause)
        raise QemuDied(f"the machine cannot be used any more: {what}", self.run.transcript, None, self._process.stderr)

    def _misuse(self) -> ApiMisuse:
        return ApiMisuse(f"the machine is {self.state.value}; legal now: {_LEGAL[self.state]}")

    # What follows runs in the monitor's thread.

    def _on_event(self, name: str, data: Mapping[str, Any]) -> None:
        assert self._monitor is not None
        if name == "MIGRATION":
            self._migration.pass_on(str(data["status"]))
        elif name == "SHUTDOWN":
            who = "the guest ended the machine" if data.get("guest") else "QEMU was ended from outside"
            self._shutdown_reason = f"{who} ({data.get('reason', 'no reason given')})"
            # QEMU ends right after this, and with it the console, which may still hold a better reason.
            self._monitor.later(_SETTLE_SECONDS, self._report_death)
        elif name == "GUEST_PANICKED":
            # The panic's text is still on its way over the serial line; where its pattern is seen, that report wins.
            self._monitor.later(_SETTLE_SECONDS, self._report_panic)
        elif name == "BLOCK_IO_ERROR" and data.get("action") == "stop":
            # QEMU has paused the guest until somebody makes room: nobody would.
            self._report_stuck(f"the host cannot {data['operation']} its disk '{data['node-name']}': {data['reason']}")

    def _on_lost(self) -> None:
        # As a rule it closes its monitor because it ends, which the watched process tells better.
        assert self._monitor is not None
        self._monitor.later(_SETTLE_SECONDS, self._report_death)

    def _on_exit(self) -> None:
        assert self._log is not None
        self._log.drained.wait(_DRAIN_SECONDS)  # the guest's last lines say more than the bare end
        self._report_death()

    def _report_panic(self) -> None:
        assert self._log is not None
        line = "the guest's kernel reported a panic"
        self._ending.report(Panicked(pattern="kernel panic", line=line, last_words=self._log.last_words))

    def _report_stuck(self, reason: str) -> None:
        assert self._log is not None
        self._ending.report(Died(reason=reason, stderr="", last_words=self._log.last_words))

    def _report_death(self) -> None:
        assert self._log is not None
        assert self._process is not None
        reason = self._shutdown_reason or self._process.exit_reason(0) or "QEMU closed its monitor but still runs"
        self._ending.report(Died(reason=reason, stderr=self._process.stderr, last_words=self._log.last_words))
