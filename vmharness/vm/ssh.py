"""A booted system's SSH server as a way inside. The only door to paramiko.

Every command starts ``/bin/sh`` by a line that every login shell takes (it holds nothing that fish or csh read
differently), and that gets the guest script ``booted/command`` on its standard input. Files go the same way, through
``cat``: that works with every server, and trouble with them reads as it does over the serial login.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko

from vmharness.errors import Unreachable
from vmharness.host.data import data_directory
from vmharness.model.results import CommandResult
from vmharness.vm.guest import unreachable
from vmharness.vm.inside import Deadline, Inside
from vmharness.vm.sshkeys import KnownHost, SshKey
from vmharness.vm.wire import BANNER_SECONDS, SHORTEST, Mortal, Wire

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what goes wrong is reported as our own errors

_START = """exec /bin/sh -c 'IFS= read -r text; eval "$(printf %b "$text")"'"""
_PAUSE = 0.5
_KEEPALIVE_SECONDS = 5  # a guest that was started anew answers with a reset of the connection
_INTERRUPT_SECONDS = 5.0
_CHUNK = 65_536
_BROKEN = (paramiko.SSHException, OSError, EOFError)


class Ssh(Inside):
    """A connection to the SSH server of a booted system; use it as a context manager, or close it.

    :param wire: what it goes over.
    :param transport: as which it is known and authenticated.
    """

    def __init__(self, wire: Wire, transport: paramiko.Transport) -> None:
        self._wire = wire
        self._transport = transport

    @classmethod
    def connect(  # noqa: PLR0913 -- each is a different thing
        cls, port: int, key: SshKey, *, user: str = "root", within: float, machine: Mortal, host: KnownHost
    ) -> Self:
        """Connect as soon as the server answers.

        :param port: of this host, which leads to the guest's.
        :param user: whom ``key`` lets in.
        :param within: seconds, the rest of the boot included.
        :param machine: whose end ends the connection and every wait.
        :param host: the system's host key, where it is known.
        :raises Unreachable: the machine ended, the server did not answer in time, is another one, or refused the key.
        """
        deadline = Deadline(waiting_for="answer of the guest's SSH server", within=within)
        wire = Wire(machine)
        while True:
            try:
                return cls(wire, _open(wire.dial(port, deadline), key, user, host, deadline))
            except _BROKEN as error:
                if machine.ending is not None:
                    raise unreachable(machine.ending) from error
                if deadline.left <= 0:
                    missed = deadline.missed("")
                    missed.hint = f"is it installed, and has the guest a network? The last attempt ended so: {error}"
                    raise missed from error
            wire.ended.wait(min(_PAUSE, deadline.left))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        self._transport.close()

    def _run(self, command: str, deadline: Deadline) -> CommandResult:
        with self._session("files", command, deadline) as session:
            status, out, err = map(int, session.line().removeprefix("ended").split())
            seconds = time.monotonic() - session.began
            return CommandResult(status=status, stdout=session.read(out), stderr=session.read(err), seconds=seconds)

    def _read(self, command: str, deadline: Deadline) -> CommandResult:
        return self._write(b"", command, deadline)

    def _write(self, source: bytes | Path, command: str, deadline: Deadline) -> CommandResult:
        with (
            BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            self._session("direct", command, deadline) as session,
        ):
            session.send(iter(lambda: file.read(_CHUNK), b""))
            stdout, stderr = session.outputs()
            return CommandResult(status=session.status(), stdout=stdout, stderr=stderr, seconds=deadline.seconds)

    @contextmanager
    def _session(self, way: str, command: str, deadline: Deadline) -> Iterator[_Session]:
        """Start the guest script; whatever breaks while its session is in use becomes the error that it is."""
        session = None
        try:
            session = _Session(self._transport.open_session(timeout=deadline.left), deadline)
            session.begin(way, command)
            yield session
        except _BROKEN as error:
            if deadline.left > 0:
                raise self._wire.broken() from error
            if session is not None:
                self._interrupt(session.process)
            raise deadline.missed("") from error
        finally:
            if session is not None:
                session.close()

    def _interrupt(self, process: str) -> None:
        """What Ctrl-C does on a terminal, to a process and those that it has started."""
        with contextlib.suppress(*_BROKEN), self._transport.open_session(timeout=_INTERRUPT_SECONDS) as channel:
            channel.exec_command(f"exec /bin/sh -c 'kill -INT -{process}'")
            channel.status_event.wait(_INTERRUPT_SECONDS)


class _Session:
    """One run of the guest script. Trouble with it is one of ``_BROKEN``."""

    def __init__(self, channel: paramiko.Channel, deadline: Deadline) -> None:
        self.process = ""
        self.began = 0.0
        self._channel = channel
        self._deadline = deadline
        self._nonce = f"vmh{secrets.token_hex(4)}"
        self._received = bytearray()

    def begin(self, way: str, command: str) -> None:
        """Hand over the script and its parameters, and wait until it has begun."""
        script = (data_directory("guest-scripts") / "booted" / "command").read_text(encoding="utf-8")
        self._limit()
        self._channel.exec_command(_START)
        lines = [_escaped(script), f"{self._nonce} {way}", _escaped(command)]
        self._channel.sendall("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
        self.began = time.monotonic()
        self.process, _, said = self.line().partition(" ")
        if said != way:
            raise Unreachable(f"commands cannot be run over SSH: the guest {said}")

    def send(self, pieces: Iterator[bytes]) -> None:
        """Give the command its input. One that does not want it says why elsewhere."""
        try:
            for piece in pieces:
                self._limit()
                self._channel.sendall(piece)
            self._channel.shutdown_write()
        except TimeoutError:
            raise
        except OSError:
            return

    def line(self) -> str:
        """The script's next line, without its mark; lines of others are passed over."""
        while True:
            line, end, rest = self._received.partition(b"\n")
            if end:
                self._received = rest
                _, mark, words = line.decode("utf-8", "replace").partition(f"{self._nonce} ")
                if mark:
                    return words.removesuffix("\r")
            elif not self._receive():
                raise EOFError("the connection ended")

    def read(self, size: int) -> bytes:
        """So many bytes of what comes next."""
        while len(self._received) < size:
            if not self._receive():
                raise EOFError("the connection ended")
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def outputs(self) -> tuple[bytes, bytes]:
        """All that comes until the end, on standard output and on standard error."""
        while self._receive():
            pass
        errors = bytearray()
        while data := self._channel.recv_stderr(_CHUNK):
            errors += data
        return bytes(self._received), bytes(errors)

    def status(self) -> int:
        """The exit status."""
        if not self._channel.status_event.wait(self._deadline.left):
            raise TimeoutError
        status = self._channel.recv_exit_status()
        if status < 0:
            raise EOFError("the connection ended before the command did")
        return status

    def close(self) -> None:
        """End it."""
        self._channel.close()

    def _receive(self) -> bool:
        self._limit()
        data = self._channel.recv(_CHUNK)
        self._received += data
        return bool(data)

    def _limit(self) -> None:
        self._channel.settimeout(max(self._deadline.left, SHORTEST))


def _open(stream: socket.socket, key: SshKey, user: str, host: KnownHost, deadline: Deadline) -> paramiko.Transport:
    """A transport over ``stream``, which belongs to it from here on."""
    with ExitStack() as undo:
        undo.callback(stream.close)
        transport = paramiko.Transport(stream)
        undo.callback(transport.close)
        transport.banner_timeout = min(BANNER_SECONDS, deadline.left)
        transport.auth_timeout = max(deadline.left, SHORTEST)
        transport.start_client(timeout=deadline.left)
        host.require(transport.get_remote_server_key().asbytes())
        try:
            transport.auth_publickey(user, paramiko.Ed25519Key.from_private_key(StringIO(key.private)))
        except paramiko.AuthenticationException as error:
            if not transport.is_active():
                raise  # it closed the connection, such as to ordinary users while the system still boots
            raise _refused(user) from error
        if not transport.is_authenticated():
            raise _refused(user)
        transport.set_keepalive(_KEEPALIVE_SECONDS)
        undo.pop_all()
    return transport


def _refused(user: str) -> Unreachable:
    hint = "put the key's public line into the user's ~/.ssh/authorized_keys; root must be let in by PermitRootLogin"
    return Unreachable(f"the guest's SSH server refused our key for '{user}'", None, hint)


def _escaped(text: str) -> str:
    """The text on one line, as printf's %b takes it."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")
