"""SSH: getting in, and connections that break. What is the same for all ways inside is in ``test_inside``."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from serial_guest import SerialGuest
from ssh_server import FakeMachine, SshServer

from vmharness.errors import CommandFailed, Unreachable
from vmharness.model.outcome import Died, Panicked, Stalled
from vmharness.vm.login import login
from vmharness.vm.ssh import Ssh
from vmharness.vm.sshkeys import KnownHost, SshKey, authorize

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

Connect = Callable[..., Ssh]
KEY = SshKey.generate()
KILLED = Died(reason="QEMU was killed by SIGKILL", stderr="", last_words="")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    """A server that lets our key in."""
    one = SshServer(tmp_path)
    one.admit(KEY.public)
    yield one
    one.close()


@pytest.fixture
def machine() -> FakeMachine:
    """The machine that it is in."""
    return FakeMachine()


@pytest.fixture
def connect(server: SshServer, machine: FakeMachine, request: pytest.FixtureRequest) -> Connect:
    """Connects to it; keywords go to :meth:`Ssh.connect`."""

    def make(key: SshKey = KEY, **keywords: Any) -> Ssh:
        ssh = Ssh.connect(server.port, key, machine=machine, **{"within": 10, "host": KnownHost(), **keywords})
        request.addfinalizer(ssh.close)
        return ssh

    return make


class TestConnecting:
    """Getting in, or not."""

    def test_server_that_comes_up_late(self, server: SshServer, connect: Connect) -> None:
        """Until the server answers, connections are made that end at once, as QEMU makes them."""
        server.deaf = True
        threading.Timer(0.7, lambda: setattr(server, "deaf", False)).start()
        assert connect().run("echo in", within=10).text == "in"

    def test_server_that_does_not_come(self, server: SshServer, connect: Connect) -> None:
        """The deadline passes; the last attempt's trouble is named."""
        server.deaf = True
        with pytest.raises(
            Unreachable, match=r"no answer of the guest's SSH server within 1 s(.|\n)*last attempt"
        ) as caught:
            connect(within=1)
        assert isinstance(caught.value.outcome, Stalled)

    def test_server_that_is_silent(self, machine: FakeMachine) -> None:
        """So does it when something takes the connection and says nothing: a guest without a network."""
        with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(Unreachable, match="no answer of"):
            Ssh.connect(listener.getsockname()[1], KEY, within=0.5, machine=machine, host=KnownHost())

    def test_machine_that_ends_meanwhile(self, server: SshServer, machine: FakeMachine, connect: Connect) -> None:
        """A machine that panics before its server is up is named at once."""
        server.deaf = True
        threading.Timer(0.3, lambda: machine.end(Panicked(pattern="kernel panic", line="x", last_words="y"))).start()
        started = time.monotonic()
        with pytest.raises(Unreachable, match="the guest stopped: kernel panic: x"):
            connect(within=30)
        assert time.monotonic() - started < 3

    def test_key_that_is_refused(self, connect: Connect) -> None:
        """A key or a user that the server does not know is refused at once, with what to do."""
        with pytest.raises(Unreachable, match=r"refused our key for 'root'(.|\n)*authorized_keys"):
            connect(SshKey.generate())
        with pytest.raises(Unreachable, match="refused our key for 'nobody'"):
            connect(user="nobody")

    def test_host_key(self, server: SshServer, connect: Connect) -> None:
        """The first host key is trusted, and from then on no other."""
        host = KnownHost()
        connect(host=host)
        connect(host=host)
        server.host_key = paramiko.ECDSAKey.generate()
        with pytest.raises(Unreachable, match="another host key than before"):
            connect(host=host)

    def test_key_from_the_serial_login(self, server: SshServer, connect: Connect, tmp_path: Path) -> None:
        """A key that is authorised over the serial login is let in, beside those that were there."""
        other = SshKey.generate()
        (tmp_path / "serial").mkdir()
        guest = SerialGuest(tmp_path / "serial", environment={"HOME": str(tmp_path)})
        try:
            authorize(login(guest.console, "root", within=20), other, within=10)
        finally:
            guest.close()
        assert connect(other).run("echo in", within=10).text == "in"
        assert connect(KEY).run("echo in", within=10).text == "in"

    def test_key_file(self, tmp_path: Path) -> None:
        """A key can be handed to a person's ssh, which wants nobody else to read it."""
        KEY.write(tmp_path / "key")
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
        read = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key"))
        assert KEY.public == f"ssh-ed25519 {read.get_base64()} vmharness"
        assert KEY.private not in repr(KEY)


class TestTrouble:
    """Connections that break."""

    def test_deadline(self, connect: Connect, tmp_path: Path) -> None:
        """A command that does not end in time is interrupted, and leaves nothing; the connection can be used on."""
        ssh = connect()
        with pytest.raises(Unreachable, match="no end of the command 'sleep 300' within") as caught:
            ssh.run("sleep 300", within=0.7)
        assert isinstance(caught.value.outcome, Stalled)
        assert ssh.run("echo on", within=5).text == "on"
        deadline = time.monotonic() + 5
        while (left := list(tmp_path.glob("vmharness-*"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left == []

    @pytest.mark.parametrize("verb", ["run", "get", "put"])
    def test_machine_that_ends(self, machine: FakeMachine, connect: Connect, tmp_path: Path, verb: str) -> None:
        """The machine's end during a command is named at once, though the connection itself would stay."""
        ssh = connect()
        os.mkfifo(tmp_path / "fifo")
        calls = {
            "run": lambda: ssh.run("sleep 3", within=30),
            "get": lambda: ssh.get("fifo"),
            "put": lambda: ssh.put(b"x", "fifo"),
        }
        threading.Timer(0.5, machine.end, [KILLED]).start()
        started = time.monotonic()
        with pytest.raises(Unreachable, match="QEMU was killed by SIGKILL"):
            calls[verb]()
        assert time.monotonic() - started < 2

    def test_connection_that_breaks(self, server: SshServer, connect: Connect) -> None:
        """A broken connection to a machine that lives is told as that, at once and later."""
        ssh = connect()
        threading.Timer(0.3, server.drop).start()
        with pytest.raises(Unreachable, match=r"the SSH connection to the guest broke(.|\n)*connect again"):
            ssh.run("sleep 3", within=30)
        with pytest.raises(Unreachable, match="the SSH connection to the guest broke"):
            ssh.run("true", within=30)

    def test_input_that_is_not_wanted(self, connect: Connect, server: SshServer) -> None:
        """A large file that the guest does not read to its end is an error that says why."""
        with pytest.raises(CommandFailed, match=r"cannot be written in the guest(.|\n)*none/x"):
            connect().put(b"x" * 10_000_000, f"{server.home}/none/x")
