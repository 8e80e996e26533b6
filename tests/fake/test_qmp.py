"""The monitor by itself, over a socket pair: what a peer may do, and what its threads leave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from vmharness.errors import ApiMisuse, QemuDied, QmpRefused
from vmharness.vm.qmp import Monitor

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}


class Peer:
    """QEMU's side: sends what it is told to."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream

    def send(self, *messages: object) -> None:
        """Send messages, each as a line of JSON."""
        self.stream.sendall(b"".join(json.dumps(message).encode() + b"\r\n" for message in messages))

    def hear(self) -> dict[str, Any]:
        """The next request; the client sends one at a time here."""
        text = b""
        while True:
            text += self.stream.recv(65536)
            try:
                request: dict[str, Any] = json.loads(text)
            except ValueError:
                continue
            return request

    def negotiate(self) -> None:
        """Greet and accept the capabilities."""
        self.send(GREETING)
        self.send({"return": {}, "id": self.hear().get("id")})


class Bench:
    """A monitor, its peer, and what it has told."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.ours, theirs = socket.socketpair()
        self.peer = Peer(theirs)
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.lost = threading.Event()
        self.monitor = Monitor(on_event=self.take, on_lost=self.lost.set, log=log)

    def take(self, name: str, data: Mapping[str, Any]) -> None:
        """Note an event."""
        self.events.append((name, data))

    def behave(self, behaviour: Callable[[Peer], None]) -> threading.Thread:
        """Run the peer's behaviour in a thread."""
        thread = threading.Thread(target=behaviour, args=(self.peer,), name="peer")
        thread.start()
        return thread

    def connect(self) -> None:
        """Connect with a peer that does what it should."""
        thread = self.behave(Peer.negotiate)
        self.monitor.connect(self.ours, within=5)
        thread.join()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A monitor that is not connected yet."""
    made = Bench(tmp_path / "qmp.log")
    with ExitStack() as undo:
        undo.callback(made.ours.close)
        undo.callback(made.peer.stream.close)
        undo.callback(made.monitor.close)
        yield made


def test_a_command_and_an_event(bench: Bench) -> None:
    """A command gives what QEMU returns; an event that comes meanwhile is passed on, also one without data."""
    bench.connect()

    def answer(peer: Peer) -> None:
        request = peer.hear()
        events = [{"event": "RESUME", "timestamp": {}}, {"event": "RTC_CHANGE", "data": {"offset": 7}}]
        peer.send(*events, {"return": {"running": True}, "id": request["id"]})

    thread = bench.behave(answer)
    assert bench.monitor.execute("query-status", {}, within=5) == {"running": True}
    thread.join()
    deadline = time.monotonic() + 2
    while len(bench.events) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert bench.events == [("RESUME", {}), ("RTC_CHANGE", {"offset": 7})]


def test_a_refusal(bench: Bench) -> None:
    """An error answer is a refusal with QEMU's words, and the session goes on."""
    bench.connect()

    def refuse(peer: Peer) -> None:
        peer.send({"error": {"class": "GenericError", "desc": "no such thing"}, "id": peer.hear()["id"]})
        peer.send({"return": 1, "id": peer.hear()["id"]})

    thread = bench.behave(refuse)
    with pytest.raises(QmpRefused, match="QEMU refused the command 'eject': no such thing"):
        bench.monitor.execute("eject", {}, within=5)
    assert bench.monitor.execute("next", {}, within=5) == 1
    thread.join()


def test_what_is_said_is_on_disk(bench: Bench) -> None:
    """Commands, answers, refusals and events are in the log at once; what is very long is cut."""
    bench.connect()

    def answer(peer: Peer) -> None:
        peer.send({"return": "x" * 10_000, "id": peer.hear()["id"]})
        peer.send({"error": {"class": "GenericError", "desc": "no such thing"}, "id": peer.hear()["id"]})
        peer.send({"event": "STOP", "data": {"why": 1}, "timestamp": {}})

    thread = bench.behave(answer)
    bench.monitor.execute("long", {"path": "/a, b"}, within=5)
    with pytest.raises(QmpRefused):
        bench.monitor.execute("eject", {}, within=5)
    thread.join()
    deadline = time.monotonic() + 2
    while not bench.events and time.monotonic() < deadline:
        time.sleep(0.001)
    lines = [json.loads(line) for line in bench.log.read_text().splitlines()]
    assert all(line.pop("seconds") >= 0 for line in lines)
    assert lines[0] == {"command": {"execute": "long", "arguments": {"path": "/a, b"}}}
    assert len(lines[1]["answer"]) < 5000
    assert lines[2] == {"command": {"execute": "eject", "arguments": {}}}
    assert {"error": "no such thing"} in lines[3:]
    assert {"event": {"event": "STOP", "data": {"why": 1}}} in lines[3:]


def test_no_answer_in_time(bench: Bench) -> None:
    """A command that is not answered fails at its limit; an answer that comes too late disturbs nothing."""
    bench.connect()
    with pytest.raises(QemuDied, match="did not answer the command 'slow' within"):
        bench.monitor.execute("slow", {}, within=0.1)
    late = bench.peer.hear()

    def answer(peer: Peer) -> None:
        peer.send({"return": "late", "id": late["id"]}, {"return": "now", "id": peer.hear()["id"]})

    thread = bench.behave(answer)
    assert bench.monitor.execute("quick", {}, within=5) == "now"
    thread.join()


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda peer: peer.stream.shutdown(socket.SHUT_RDWR),
        lambda peer: peer.stream.sendall(b"not JSON\n"),
        lambda peer: peer.send({"hello": "world"}),
        lambda peer: peer.send(GREETING, {"error": {"class": "x", "desc": "y"}}),
        lambda peer: (peer.send(GREETING), peer.stream.shutdown(socket.SHUT_RDWR)),
    ],
)
def test_a_peer_that_does_not_greet(bench: Bench, behaviour: Callable[[Peer], None]) -> None:
    """Whatever goes wrong in the beginning is told as QEMU's, at once."""
    thread = bench.behave(behaviour)
    started = time.monotonic()
    with pytest.raises(QemuDied, match="monitor did not come up"):
        bench.monitor.connect(bench.ours, within=5)
    assert time.monotonic() - started < 2
    thread.join()


@pytest.mark.parametrize("last", [b"", b'{"return": ', b"garbage\n"])
def test_the_loss_is_noticed(bench: Bench, last: bytes) -> None:
    """A peer that goes away, or speaks nonsense, is lost: told at once, and commands fail from then on."""
    bench.connect()
    bench.peer.stream.sendall(last)
    bench.peer.stream.shutdown(socket.SHUT_RDWR)
    assert bench.lost.wait(1)
    with pytest.raises(QemuDied, match="went away"):
        bench.monitor.execute("query-status", {}, within=5)


def test_lost_at_once(bench: Bench) -> None:
    """A peer that goes away right after the negotiation is an error of the connection, or lost: never unnoticed."""

    def vanish(peer: Peer) -> None:
        peer.negotiate()
        peer.stream.shutdown(socket.SHUT_RDWR)

    thread = bench.behave(vanish)
    errors = []
    try:
        bench.monitor.connect(bench.ours, within=5)
    except QemuDied as error:
        errors.append(error.what)
    assert errors == ["QEMU's monitor did not come up: it was closed at once"] or bench.lost.wait(1)
    thread.join()


def test_lost_during_a_command(bench: Bench) -> None:
    """A command that QEMU does not survive fails at once, not at its limit."""
    bench.connect()

    def vanish(peer: Peer) -> None:
        peer.hear()
        peer.stream.shutdown(socket.SHUT_RDWR)

    thread = bench.behave(vanish)
    started = time.monotonic()
    with pytest.raises(QemuDied, match="went away during the command 'quit'"):
        bench.monitor.execute("quit", {}, within=30)
    assert time.monotonic() - started < 2
    thread.join()


def test_closing_is_no_loss(bench: Bench) -> None:
    """When we close, nobody is told of a loss; a second close does nothing."""
    bench.connect()
    bench.monitor.close()
    bench.monitor.close()
    assert not bench.lost.is_set()


def test_closing_without_a_connection(bench: Bench) -> None:
    """A monitor that was never connected closes."""
    bench.monitor.close()


def test_waiting_in_the_monitors_own_thread(bench: Bench) -> None:
    """A callback that waits for the monitor would wait for ever: it is told so."""
    caught: list[ApiMisuse] = []
    tried = threading.Event()

    def wait() -> None:
        try:
            bench.monitor.execute("query-status", {}, within=5)
        except ApiMisuse as misuse:
            caught.append(misuse)
        tried.set()

    bench.connect()
    bench.monitor.later(0, wait)
    assert tried.wait(5)
    assert len(caught) == 1


def test_timers_end_with_the_monitor(bench: Bench) -> None:
    """What was put off does not happen after the close."""
    rung = threading.Event()
    bench.monitor.later(0.1, rung.set)
    bench.monitor.close()
    assert not rung.wait(0.3)
