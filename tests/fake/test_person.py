"""A person's shell on the appliance's terminal: what is shown, and how it is left and entered again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmharness.vm.console import Console
from vmharness.vm.ending import Ending
from vmharness.vm.person import PersonShell

SECONDS = 5.0


class Screen:
    """What the person sees."""

    def __init__(self) -> None:
        self.shown = b""
        self.ended = threading.Event()
        self._changed = threading.Condition()

    def show(self, data: bytes) -> None:
        """Take what is shown."""
        with self._changed:
            self.shown += data
            self._changed.notify_all()

    def wait_for(self, text: bytes) -> None:
        """Wait until the person has seen it."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.shown, SECONDS), self.shown


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[tuple[PersonShell, socket.socket]]:
    """A shell, and the guest's end of its terminal."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(SECONDS)
    console = Console(name="terminal", stream=ours, transcript=tmp_path / "terminal.raw", ending=Ending())
    with theirs:
        yield PersonShell(console), theirs
    console.close()


def test_a_shell_from_its_beginning_to_its_end(guest: tuple[PersonShell, socket.socket]) -> None:
    """The guest learns the window's size; the lines that mark beginning and end are not shown, however they arrive."""
    shell, theirs = guest
    screen = Screen()
    leave = shell.enter(screen.show, screen.ended.set, rows=33, columns=111, terminal_type="xterm")
    verb, word, *rest = theirs.recv(4096).split()
    assert (verb, rest) == (b"shell", [b"33", b"111", b"xterm"])
    for piece in (b"noise\r\n", word[:5], word[5:] + b" beg", b"in\r\nprompt# ", b"\r\n" + word[:3]):
        theirs.sendall(piece)
    screen.wait_for(b"prompt# ")
    shell.type(b"ls\r")
    assert theirs.recv(4096) == b"ls\r"
    assert not screen.ended.is_set()
    theirs.sendall(word[3:] + b" end\r\n")
    assert screen.ended.wait(SECONDS)
    leave()
    assert screen.shown == b"prompt# "
    assert not shell.is_open


def test_left_and_entered_again(guest: tuple[PersonShell, socket.socket]) -> None:
    """A shell that is left runs on: entered again it shows its prompt, and no second one is asked for."""
    shell, theirs = guest
    first, second = Screen(), Screen()
    leave = shell.enter(first.show, first.ended.set, rows=24, columns=80, terminal_type="a;reboot")
    _, word, *_, terminal_type = theirs.recv(4096).split()
    assert terminal_type == b"dumb"  # what is no terminal's name never gets to a line of the guest's
    theirs.sendall(word + b" begin\r\n# ")
    first.wait_for(b"# ")
    leave()
    assert shell.is_open
    leave = shell.enter(second.show, second.ended.set, rows=24, columns=80, terminal_type="xterm")
    assert theirs.recv(4096) == b"\r"
    theirs.sendall(b"\r\n# ")
    second.wait_for(b"# ")
    leave()
    assert first.shown == b"# "


def test_what_looks_like_the_end(guest: tuple[PersonShell, socket.socket]) -> None:
    """A program that prints what an end looks like, with another word, ends nothing."""
    shell, theirs = guest
    screen = Screen()
    leave = shell.enter(screen.show, screen.ended.set, rows=24, columns=80, terminal_type="xterm")
    _, word, *_ = theirs.recv(4096).split()
    theirs.sendall(word + b" begin\r\n\r\n0123456789abcdef end\r\nstill here")
    screen.wait_for(b"\r\n0123456789abcdef end\r\nstill here")
    assert shell.is_open
    leave()
