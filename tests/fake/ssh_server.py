"""A guest's SSH server without a guest: paramiko's own, which runs commands of this machine through a login shell."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

from vmharness.model.outcome import Ended


class FakeMachine:
    """A machine, as far as its end is concerned."""

    def __init__(self) -> None:
        self.ending: Ended | None = None
        self._listeners: list[Callable[[], None]] = []

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once it has ended."""
        self._listeners.append(listener)

    def end(self, outcome: Ended) -> None:
        """It ends by itself."""
        self.ending = outcome
        for listener in self._listeners:
            listener()


class SshServer:
    """A server on a free port of this host.

    :param home: the user's home, whose ``.ssh/authorized_keys`` counts.
    :param shell: the user's login shell.
    :param greeting: what that prints before each command.
    """

    def __init__(self, home: Path, *, shell: str = "/bin/sh", greeting: bytes = b"") -> None:
        self.home = home
        self.shell = shell
        self.greeting = greeting
        self.host_key = paramiko.ECDSAKey.generate()
        self.deaf = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def admit(self, line: str) -> None:
        """Let the key of a line of ``authorized_keys`` in."""
        (self.home / ".ssh").mkdir(exist_ok=True)
        (self.home / ".ssh" / "authorized_keys").write_text(line)

    def drop(self) -> None:
        """All connections break."""
        for transport in self._transports:
            transport.close()

    def close(self) -> None:
        """End the server and what it runs."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(timeout=5)

    def serve(self, channel: paramiko.Channel, command: bytes) -> None:
        """Run a command in a thread of its own."""
        self._start(lambda: self._run(channel, command))

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="ssh-server")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            if self.deaf:  # as QEMU does when nobody listens in the guest
                stream.close()
                continue
            transport = paramiko.Transport(stream)
            transport.add_server_key(self.host_key)
            self._transports.append(transport)
            transport.start_server(event=threading.Event(), server=_Interface(self))

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        child = subprocess.Popen(
            [self.shell, "-c", command],
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        channel.sendall(self.greeting)
        feeder = threading.Thread(target=self._feed, args=(channel, child.stdin), name="ssh-server-input")
        feeder.start()
        open_ends = {child.stdout.fileno(): channel.sendall, child.stderr.fileno(): channel.sendall_stderr}
        while open_ends and not channel.closed:
            for end in select.select(list(open_ends), [], [], 0.1)[0]:
                data = os.read(end, 65_536)
                try:
                    open_ends[end](data)
                except OSError:  # the client is gone
                    open_ends.clear()
                    break
                if not data:
                    del open_ends[end]
        child.stdout.close()
        child.stderr.close()
        deadline = time.monotonic() + 1
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.kill()
        status = child.wait()
        if not channel.closed and status >= 0:
            channel.send_exit_status(status)
        channel.close()
        feeder.join()

    @staticmethod
    def _feed(channel: paramiko.Channel, stdin: object) -> None:
        with stdin:  # type: ignore[attr-defined] # a pipe
            while data := channel.recv(65_536):
                try:
                    stdin.write(data)  # type: ignore[attr-defined] # a pipe
                    stdin.flush()  # type: ignore[attr-defined] # a pipe
                except BrokenPipeError:
                    break


class _Interface(paramiko.ServerInterface):
    def __init__(self, server: SshServer) -> None:
        self._server = server

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        file = self._server.home / ".ssh" / "authorized_keys"
        known = file.is_file() and username == "root" and key.get_base64() in file.read_text()
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.serve(channel, command)
        return True
