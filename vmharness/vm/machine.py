"""One machine: a QEMU process with its monitor, consoles and drives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from enum import Enum
from threading import Timer
from types import TracebackType
from typing import Any, Self

from vmharness.errors import ApiMisuse, LaunchFailed, QemuDied, VmharnessError
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Disk, MachineSpec
from vmharness.model.outcome import Died, Panicked
from vmharness.plan import qemu_args
from vmharness.vm.console import DEATHS, Console, DeathPattern
from vmharness.vm.ending import Ending
from vmharness.vm.process import QemuProcess, launch, pidfd
from vmharness.vm.qmp import Monitor

_MONITOR_SECONDS = 30.0
_PANIC_TEXT_SECONDS = 0.5


class State(Enum):
    """What a machine is doing; ``GONE`` means that it ended by itself."""

    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    GONE = "gone"


class Machine:
    """A QEMU machine, from its start to its end; use it as a context manager.

    States go ``NEW -> RUNNING <-> PAUSED -> OFF``, and ``GONE`` when it died by itself; a call in the wrong state raises
    :class:`~vmharness.errors.ApiMisuse`. Leaving the context ends QEMU by a ladder (quit, TERM, KILL) and leaves no
    process, descriptor or thread behind.

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        """What the machine is doing now."""
        if self._state in (State.RUNNING, State.PAUSED) and self._ending.cause is not None:
            self._state = State.GONE
        return self._state

    @property
    def ending(self) -> Panicked | Died | None:
        """How the machine ended by itself, or None."""
        return self._ending.cause

    @property
    def log(self) -> Console:
        """The log console: firmware, bootloader, kernel, login."""
        assert self._log is not None, "a machine that was started has a log console"
        return self._log

    @property
    def command(self) -> Console:
        """The command console, on which the appliance's agent speaks."""
        assert self._command is not None, "this machine was specified with a command console"
        return self._command

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, from another thread, once the machine has ended by itself."""
        self._ending.subscribe(listener)

    def start(self) -> None:
        """Start QEMU and let the guest run; both consoles are drained from before its first instruction.

        :raises LaunchFailed: QEMU ended before its monitor was up.
        """
        self._require(State.NEW, legal="start()")
        with ExitStack() as undo:
            process = launch(
                lambda channels: [*qemu_args.argv(self._program, self.spec, channels), "-S"],
                command_console=self.spec.command_console,
                argv_path=self.run.qemu_argv,
                stderr_path=self.run.qemu_stderr,
            )
            undo.callback(process.end)
            self._process = process
            self._monitor = Monitor(on_event=self._on_event, on_lost=self._on_exit)
            undo.callback(self._monitor.close)
            self._log = self._console("log", process, self._deaths)
            undo.callback(self._log.close)
            if process.streams.command is not None:
                self._command = self._console("command", process, ())
                undo.callback(self._command.close)
            try:
                self._monitor.connect(process.streams.monitor, within=_MONITOR_SECONDS)
            except QemuDied as error:
                reason = process.exit_reason()
                raise LaunchFailed(f"QEMU did not start: {reason}", self.run.qemu_stderr, None, process.stderr) from error
            self._monitor.watch(pidfd(process), self._on_exit)
            self._state = State.RUNNING
            self.qmp("cont")
            self._resources = undo.pop_all()

    def qmp(self, command: str, *, within: float = _MONITOR_SECONDS, **arguments: Any) -> Any:
        """Run one monitor command; underscores in names stand for dashes.

        :raises QmpRefused: QEMU answered with an error.
        :raises QemuDied: QEMU is gone or does not answer.
        """
        self._require(State.RUNNING, State.PAUSED, legal="close()")
        assert self._monitor is not None
        return self._monitor.execute(
            command, {name.replace("_", "-"): value for name, value in arguments.items()}, within=within
        )

    def plug(self, disk: Disk) -> None:
        """Plug a disk into a free root port; the guest finds it by its serial number, ``disk.name``."""
        self._require(State.RUNNING, State.PAUSED, legal="close()")
        if not self._free_ports:
            raise ApiMisuse("this machine has no free root port; specify more root_ports")
        self.qmp("blockdev-add", **qemu_args.blockdev(disk))
        self.qmp("device_add", **qemu_args.disk_device(disk, self._free_ports.pop(0)))

    def off(self) -> None:
        """Switch the machine off from outside, with everything that the guest has written on the disks' files.

        The state is ``OFF`` afterwards. What the guest still holds in its memory is lost: unmount first.
        """
        self._require(State.RUNNING, State.PAUSED, legal="close()")
        self._state = State.OFF
        assert self._monitor is not None and self._process is not None
        try:
            self._monitor.execute("quit", {}, within=_MONITOR_SECONDS)
        except QemuDied:
            pass  # it may close the monitor before it has answered; its exit status is what counts
        reason = self._process.exit_reason()
        if reason != "QEMU exited with status 0":
            raise QemuDied(f"the machine did not switch off cleanly: {reason}", None, None, self._process.stderr)

    def close(self) -> None:
        """End QEMU in whatever state it is, and release everything."""
        if self._state in (State.RUNNING, State.PAUSED):
            try:
                self.off()
            except VmharnessError:
                pass  # the ladder goes on with TERM and KILL
            self._state = State.OFF if self._ending.cause is None else State.GONE
        self._resources.close()

    def _console(self, name: str, process: QemuProcess, deaths: Sequence[DeathPattern]) -> Console:
        stream = process.streams.log if name == "log" else process.streams.command
        assert stream is not None
        return Console(
            name=name,
            stream=stream,
            transcript=self.run.transcript if name == "log" else self.run.path / "commands.raw",
            ending=self._ending,
            deaths=deaths,
            on_line=self._on_line if name == "log" else None,
        )

    def _require(self, *states: State, legal: str) -> None:
        if self.state is State.GONE:
            assert self._process is not None and self._ending.cause is not None
            cause = self._ending.cause
            reason = cause.reason if isinstance(cause, Died) else cause.line
            raise QemuDied(f"the machine is gone: {reason}", self.run.transcript, None, self._process.stderr)
        if self._state not in states:
            raise ApiMisuse(f"the machine is {self._state.value}; legal now: {legal}")

    def _on_event(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "SHUTDOWN" and self._state is State.RUNNING and data.get("reason") != "host-qmp-quit":
            self._report_death(f"the guest ended the machine ({data.get('reason', 'no reason given')})")
        elif name == "GUEST_PANICKED":
            # The panic's text is still on its way over the serial line; where its pattern is seen, that report wins.
            Timer(_PANIC_TEXT_SECONDS, self._report_panic).start()

    def _on_exit(self) -> None:
        if self._state in (State.RUNNING, State.PAUSED):
            assert self._process is not None
            self._report_death(self._process.exit_reason())

    def _report_panic(self) -> None:
        last_words = self._log.last_words if self._log is not None else ""
        cause = Panicked(pattern="kernel panic", line="the guest's kernel reported a panic", last_words=last_words)
        self._ending.report(cause)

    def _report_death(self, reason: str) -> None:
        assert self._process is not None
        last_words = self._log.last_words if self._log is not None else ""
        self._ending.report(Died(reason=reason, stderr=self._process.stderr, last_words=last_words))
