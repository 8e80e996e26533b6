"""One QEMU process: started with its channels as inherited descriptors, ended by a ladder, never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import define, frozen

from vmharness.errors import LaunchFailed
from vmharness.host import proc
from vmharness.host.starting import start
from vmharness.plan.qemu_args import Channels

_GRACE = 3.0
_STDERR_TAIL = 65_536
_SO_SNDBUFFORCE = 32  # Linux, asm-generic/socket.h; not in Python's module
_AHEAD = 32 << 20


@frozen(kw_only=True)
class Streams:
    """Our ends of QEMU's channels."""

    monitor: socket.socket
    log: socket.socket
    command: socket.socket | None = None
    terminal: socket.socket | None = None

    def close(self) -> None:
        """Close those that nobody has closed yet."""
        for stream in (self.monitor, self.log, self.command, self.terminal):
            if stream is not None:
                stream.close()


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
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self.child.poll() is None

    @property
    def stderr(self) -> str:
        """What QEMU has said last: the final 64 KiB at most."""
        with contextlib.suppress(OSError), self.stderr_path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _STDERR_TAIL))
            return file.read(_STDERR_TAIL).decode("utf-8", "replace")
        return ""

    def exit_reason(self, within: float = _GRACE) -> str | None:
        """How the process ended, in words, or None if it still runs after ``within`` seconds; it is reaped."""
        try:
            status = self.child.wait(timeout=within)
        except subprocess.TimeoutExpired:
            return None
        return f"QEMU was killed by {_signal_name(-status)}" if status < 0 else f"QEMU exited with status {status}"

    def kill(self) -> None:
        """KILL and wait."""
        self.child.kill()
        self.child.wait()

    def end(self) -> None:
        """TERM, KILL, wait: after this the process is gone, also when the caller is interrupted meanwhile."""
        try:
            if self.child.poll() is None:
                self.child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.child.wait(timeout=_GRACE)
        finally:
            self.kill()  # does nothing to a process that is reaped


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


def launch(
    arguments: Callable[[Channels], list[str]],
    *,
    channels: Sequence[str],
    argv_path: Path,
    stderr_path: Path,
    inherit: Sequence[int] = (),
) -> QemuProcess:
    """Start QEMU.

    The kernel kills it when the calling *thread* ends, so that it never outlives us: call from a thread that lives as
    long as the machine is wanted.

    :param arguments: gives the argument list for the descriptors' numbers.
    :param channels: which QEMU gets besides monitor and log: ``command``, ``terminal``.
    :param argv_path: file that gets the arguments, one a line.
    :param stderr_path: file that gets QEMU's standard error.
    :param inherit: more descriptors that QEMU gets, under the same numbers; they stay the caller's.
    :raises LaunchFailed: the program cannot be run.
    :raises HostError: QEMU is not installed.
    """
    ours: dict[str, socket.socket] = {}
    numbers: dict[str, int] = {}
    with ExitStack() as undo, ExitStack() as handed_over:
        try:
            for name in ("monitor", "log", *channels):
                one, other = socket.socketpair()
                _widen(other)
                ours[name] = undo.enter_context(one)
                numbers[name] = handed_over.enter_context(other).fileno()
            argv = arguments(Channels(**numbers))
            program = proc.require(argv[0]) if "/" not in argv[0] else Path(argv[0])
            argv_path.write_text("\n".join(argv) + "\n", encoding="utf-8", errors="surrogateescape")
            child = _spawn([str(program), *argv[1:]], [*numbers.values(), *inherit], stderr_path)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            raise LaunchFailed(f"QEMU cannot be started: {what}", argv_path) from error
        streams = Streams(**ours)
        undo.pop_all()
    return QemuProcess(child=child, streams=streams, stderr_path=stderr_path)


def _widen(end: socket.socket) -> None:
    """Let QEMU write far ahead of our reading.

    Its serial port sends single bytes, each of which counts as most of a KiB against the socket's limit, and drops them
    after a few tries when the limit is reached: on a busy host, with the usual limit, some 300 unread bytes are enough.
    """
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _AHEAD)
    except PermissionError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _AHEAD)  # as far as the system's limit goes


def _spawn(argv: list[str], descriptors: list[int], stderr_path: Path) -> subprocess.Popen[bytes]:
    with stderr_path.open("wb") as stderr:
        return start(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=descriptors,
            env=proc.environment(),
            # Ctrl-C in the terminal is for us: QEMU is ended by the ladder, after its evidence is safe.
            start_new_session=True,
        )


def pidfd(process: QemuProcess) -> int:
    """A descriptor that becomes readable when the process ends."""
    return os.pidfd_open(process.pid)
