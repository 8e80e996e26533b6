"""One QEMU, brought up with its monitor and consoles, asked and ended. What it may be asked when, machines know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import socket
from typing import Any

from attrs import evolve, frozen

from vmharness.errors import LaunchFailed, QemuDied
from vmharness.host import tpm
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import MachineSpec
from vmharness.plan import qemu_args
from vmharness.plan.qemu_args import Channels
from vmharness.vm import snapshots
from vmharness.vm.console import Console
from vmharness.vm.lines import DeathPattern
from vmharness.vm.process import QemuProcess, launch
from vmharness.vm.qmp import Monitor
from vmharness.vm.watcher import SETTLE_SECONDS, Records, Watcher

MONITOR_SECONDS = 30.0


@frozen(kw_only=True)
class Order:
    """What is to be brought up, and who hears of it.

    :param spec: the machine.
    :param run: where its evidence goes.
    :param program: QEMU's program.
    :param deaths: texts on the log console that end the machine's life for its users.
    :param on_line: called with each line of the log console, from another thread.
    :param on_output: called with the log console's bytes, from another thread.
    :param records: where is noted what is learned.
    """

    spec: MachineSpec
    run: RunDirectory
    program: str
    deaths: Sequence[DeathPattern]
    on_line: Callable[[str], None] | None
    on_output: Callable[[bytes], None] | None
    records: Records


@frozen(kw_only=True)
class Live:
    """A running QEMU and what connects us to it."""

    order: Order
    process: QemuProcess
    monitor: Monitor
    log: Console
    command: Console | None
    terminal: Console | None

    def ask(self, command: str, arguments: Mapping[str, Any], within: float) -> Any:
        """Run one monitor command and give its return value.

        :raises QmpRefused: QEMU answered with an error.
        :raises QemuDied: QEMU is gone or does not answer.
        """
        try:
            return self.monitor.execute(command, arguments, within=within)
        except QemuDied as error:
            what = f"{error.what}: {self.process.exit_reason(SETTLE_SECONDS) or 'it still runs'}"
            raise QemuDied(what, self.order.run.transcript, None, self.process.stderr) from error

    def quit(self, within: float) -> None:
        """Let QEMU end in good order.

        :raises QemuDied: it did not end, or not as it should.
        """
        with suppress(QemuDied):  # it may close the monitor before it has answered; its exit status is what counts
            self.monitor.execute("quit", {}, within=within)
        reason = self.process.exit_reason(within)
        if reason != "QEMU exited with status 0":
            what = reason or f"QEMU still runs {within:.0f} s after it was asked to quit"
            raise QemuDied(f"the machine did not switch off cleanly: {what}", None, None, self.process.stderr)


def bring_up(order: Order, resume: Path | None, undo: ExitStack) -> Live:
    """Start QEMU and let the guest run; the consoles are drained from before its first instruction.

    :param resume: file with the state of the devices, or None for a cold start.
    :param undo: takes what ends it all.
    :raises LaunchFailed: QEMU ended before its monitor was up.
    :raises QemuError: it ended, or refused, right after that.
    :raises HostError: a program is not installed.
    """
    with snapshots.opened(resume) as saved:
        process = _launch(order, saved, undo)
        log = _console(order, "log", process.streams.log, None)
        undo.callback(log.close)
        command, terminal = (
            None if stream is None else _console(order, name, stream, log)
            for name, stream in (("command", process.streams.command), ("terminal", process.streams.terminal))
        )
        for console in (command, terminal):
            if console is not None:
                undo.callback(console.close)
        watcher = Watcher(process, log, order.records, order.run.qmp_log)
        undo.callback(watcher.monitor.close)
        undo.callback(order.records.ending.seal)
        watcher.watch_process()
        _connect(order, watcher.monitor, process)
        if saved is not None:
            snapshots.load(watcher.monitor, order.records.migration, saved)
        watcher.monitor.execute("cont", {}, within=MONITOR_SECONDS)
    return Live(order=order, process=process, monitor=watcher.monitor, log=log, command=command, terminal=terminal)


def _launch(order: Order, saved: int | None, undo: ExitStack) -> QemuProcess:
    """Start the process, and before it its TPM, which outlives it."""
    spec, run = order.spec, order.run
    inherit = [] if saved is None else [saved]
    tpm_socket = None
    if spec.tpm is not None:
        tpm_socket = undo.enter_context(tpm.running(spec.tpm, run.path / "swtpm.log"))
        inherit.append(tpm_socket.fileno())

    def arguments(channels: Channels) -> list[str]:
        if tpm_socket is not None:
            channels = evolve(channels, tpm=tpm_socket.fileno())
        return [*qemu_args.argv(order.program, spec, channels), "-S", *snapshots.argv(saved)]

    process = launch(
        arguments,
        channels=[name for name, wanted in (("command", spec.command_console), ("terminal", spec.terminal)) if wanted],
        argv_path=run.qemu_argv,
        stderr_path=run.qemu_stderr,
        inherit=inherit,
    )
    undo.callback(process.streams.close)
    undo.callback(process.end)
    if tpm_socket is not None:
        tpm_socket.close()  # so that swtpm sees QEMU leave
    return process


def _console(order: Order, name: str, stream: socket, witness: Console | None) -> Console:
    is_log = name == "log"
    console = Console(
        name=name,
        stream=stream,
        transcript=order.run.transcript if is_log else order.run.path / f"{name}.raw",
        ending=order.records.ending,
        deaths=order.deaths if is_log else (),
        on_line=order.on_line if is_log else None,
        framed=name == "command",
        witness=witness,
    )
    if is_log and order.on_output is not None:
        console.tap(order.on_output)
    return console


def _connect(order: Order, monitor: Monitor, process: QemuProcess) -> None:
    try:
        monitor.connect(process.streams.monitor, within=MONITOR_SECONDS)
    except QemuDied as error:
        reason = process.exit_reason(SETTLE_SECONDS) or error.what
        raise LaunchFailed(f"QEMU did not start: {reason}", order.run.qemu_stderr, None, process.stderr) from error
