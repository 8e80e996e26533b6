"""Recorded console bytes, and a guest that draws a menu and takes keys, for tests of screens and keyboards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vmharness.model.outcome import Ended
from vmharness.model.picture import Picture
from vmharness.vm.screen import Screen
from vmharness.vm.terminal import Terminal

RECORDINGS = Path(__file__).resolve().parent / "recordings"


def recording(name: str) -> bytes:
    """The bytes that a real machine sent over its serial line."""
    return (RECORDINGS / f"{name}.raw").read_bytes()


def picture_of(data: bytes) -> Picture:
    """What is on the screen after them."""
    terminal = Terminal()
    terminal.feed(data)
    return terminal.picture()


class Mortal:
    """A machine that ends when it is told to."""

    def __init__(self) -> None:
        self.ending: Ended | None = None
        self._listeners: list[Callable[[], None]] = []

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` at the end."""
        self._listeners.append(listener)

    def end(self, how: Ended) -> None:
        """End."""
        self.ending = how
        for listener in self._listeners:
            listener()


class MenuGuest:
    """A guest that draws a menu as systemd-boot does and takes arrows and Enter, each at once.

    :param dropped: how many of the keys it drops, the first ones.
    :param height: how many entries are on the screen at a time.
    :param wraps: whether the selection goes round at the ends.
    """

    def __init__(
        self, screen: Screen, entries: Sequence[str], *, dropped: int = 0, height: int = 20, wraps: bool = False
    ) -> None:
        self.screen = screen
        self.entries = entries
        self.selected = 0
        self.keys: list[bytes] = []
        self.started: str | None = None
        self._dropped = dropped
        self._height = height
        self._wraps = wraps
        self._first = 0
        self._draw()

    def send(self, data: bytes) -> None:
        """Take a key."""
        self.keys.append(data)
        if self._dropped:
            self._dropped -= 1
            return
        self._react(data)

    def _react(self, data: bytes) -> None:
        if data == b"\r":
            self.started = self.entries[self.selected]
            self.screen.feed(b"\x1b[0m\x1b[37m\x1b[40m\x1b[2J\x1b[01;01HLinux version 6\r\n")
            return
        self.selected += {b"\x1b[A": -1, b"\x1b[B": 1}.get(data, 0)
        self.selected = (
            self.selected % len(self.entries) if self._wraps else min(max(self.selected, 0), len(self.entries) - 1)
        )
        self._first = min(max(self._first, self.selected - self._height + 1), self.selected)
        self._draw()

    def _draw(self) -> None:
        self.screen.feed(b"\x1b[0m\x1b[37m\x1b[40m\x1b[2J")
        for row, number in enumerate(range(self._first, min(self._first + self._height, len(self.entries)))):
            colours = b"\x1b[0m\x1b[30m\x1b[47m" if number == self.selected else b"\x1b[0m\x1b[37m\x1b[40m"
            self.screen.feed(b"%s\x1b[%02d;20H%s" % (colours, row + 3, f"{self.entries[number]:^30}".encode()))
        self.screen.feed(b"\x1b[0m\x1b[37m\x1b[40m")
