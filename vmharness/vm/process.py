"""One QEMU process: started with its channels as inherited descriptors, ended by a ladder, never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from attrs import define, frozen

from vmharness.errors import LaunchFailed
from vmharness.host import proc
from vmharness.plan.qemu_args import Channels

_GRACE = 3.0


@frozen(kw_only=True)
class Streams:
    """Our ends of QEMU's channels."""

    monitor: socket.socket
    log: socket.socket
    command: socket.socket | None


@define
class QemuProcess:
    """A running QEMU and our ends of its channels.

    :param child: the process.
    :param streams: who takes a stream owns it.
    :param stderr_path: what it writes to its standard error.
    """

    child: subprocess.Popen[bytes]
    streams: Streams
    stderr_path: Path

    @property
    def pid(self) -> int:
        """Process id."""
        return self.child.pid

    @property
    def stderr(self) -> str:
        """What QEMU has said so far."""
        with contextlib.suppress(OSError):
            return self.stderr_path.read_text(errors="replace")
        return ""

    def exit_reason(self) -> str:
        """How the process ended, in words; waits for it to be reaped."""
        try:
            status = self.child.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            return "QEMU closed its monitor but still runs"
        if status < 0:
            return f"QEMU was killed by {signal.Signals(-status).name}"
        return f"QEMU exited with status {status}"

    def end(self) -> None:
        """TERM, KILL, wait: after this the process is gone."""
        if self.child.poll() is None:
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(timeout=_GRACE)
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


def launch(
    arguments: Callable[[Channels], list[str]], *, command_console: bool, argv_path: Path, stderr_path: Path
) -> QemuProcess:
    """Start QEMU.

    :param arguments: gives the argument list for the descriptors' numbers.
    :param command_console: whether a second console is wanted.
    :param argv_path: file that gets the arguments, one a line.
    :param stderr_path: file that gets QEMU's standard error.
    :raises LaunchFailed: the program cannot be run.
    :raises HostError: QEMU is not installed.
    """
    ours, theirs = zip(*(socket.socketpair() for _ in range(3 if command_console else 2)), strict=True)
    try:
        numbers = [end.fileno() for end in theirs]
        argv = arguments(Channels(monitor=numbers[0], log=numbers[1], command=numbers[2] if command_console else None))
        program = proc.require(argv[0]) if "/" not in argv[0] else Path(argv[0])
        argv_path.write_text("\n".join(argv) + "\n")
        with stderr_path.open("wb") as stderr:
            child = subprocess.Popen(
                [str(program), *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                pass_fds=numbers,
                env=proc.environment(),
                preexec_fn=proc.die_with_parent,  # noqa: PLW1509 -- a prctl call only, safe after fork
                # Ctrl-C in the terminal is for us: QEMU is ended by the ladder, after its evidence is safe.
                start_new_session=True,
            )
    except OSError as error:
        for end in ours:
            end.close()
        raise LaunchFailed(f"QEMU cannot be started: {error.strerror}", argv_path) from error
    finally:
        for end in theirs:
            end.close()
    streams = Streams(monitor=ours[0], log=ours[1], command=ours[2] if command_console else None)
    return QemuProcess(child=child, streams=streams, stderr_path=stderr_path)


def pidfd(process: QemuProcess) -> int:
    """A descriptor that becomes readable when the process ends."""
    return os.pidfd_open(process.pid)
