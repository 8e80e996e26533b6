"""The text screen of a machine, as a person at a serial terminal sees it, with waits that end when the machine does."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from vmharness.model.outcome import Ended, Stalled
from vmharness.model.picture import Picture
from vmharness.vm.terminal import Terminal

_T = TypeVar("_T")


class Mortal(Protocol):
    """What can end by itself: a machine."""

    @property
    def ending(self) -> Ended | None:
        """How it ended, or None."""

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once it has ended."""


class Screen:
    """The log console as a screen. Thread-safe; the console's reader feeds it, others look at it and wait.

    Make it before its machine, so that nothing is missed::

        screen = Screen()
        machine = Machine(spec, run, on_output=screen.feed)
        screen.follow(machine)

    It never sends anything, nor answers what the guest asks a terminal for. EDK II, GRUB and systemd-boot ask for
    nothing. Linux programs that do (systemd from 257 on asks for the screen's size, shells for the cursor) go on
    without an answer after a moment; one that came late would be typed into whatever reads by then, and a key that
    nobody pressed stops a countdown.
    """

    def __init__(self) -> None:
        self._terminal = Terminal()
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._machine: Mortal | None = None

    def feed(self, data: bytes) -> None:
        """Take the console's output, in the order in which it came."""
        with self._changed:
            if self._terminal.feed(data):
                self._picture = None
                self._changed.notify_all()

    def follow(self, machine: Mortal) -> None:
        """From here on waits end when ``machine`` does."""
        self._machine = machine
        machine.when_ended(self._wake)

    @property
    def changes(self) -> int:
        """A counter that rises whenever the screen is drawn on."""
        with self._changed:
            return self._terminal.changes

    def picture(self) -> Picture:
        """The screen as it is now."""
        with self._changed:
            if self._picture is None:
                self._picture = self._terminal.picture()
            return self._picture

    def text(self) -> str:
        """All lines, without blanks at their ends and empty ones at the end."""
        return self.picture().text

    def lines(self) -> tuple[str, ...]:
        """Every line of the screen, without blanks at its end."""
        return self.picture().lines

    def selected(self) -> str:
        """The text of the highlighted line or lines, empty when there is none: see :meth:`Picture.selected`."""
        return self.picture().selected()

    def wait_for(self, pattern: re.Pattern[str] | str, *, within: float) -> re.Match[str] | Stalled | Ended:
        """Wait until ``pattern`` is on the screen, and give its match, or what came instead.

        What is on the screen when the machine ends is looked at before the end is told.

        :param pattern: looked for in :meth:`text`; a string is a regular expression, in which ``^`` and ``$`` are the
            ends of lines.
        :param within: seconds.
        """
        expression = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        return self.wait_until(
            lambda picture: expression.search(picture.text),
            within=within,
            waiting_for=f"{expression.pattern!r} on the screen",
        )

    def wait_until(
        self, look: Callable[[Picture], _T | None], *, within: float, waiting_for: str
    ) -> _T | Stalled | Ended:
        """Wait until ``look`` sees in a picture what it looks for (it gives something else than None or False).

        :param within: seconds.
        :param waiting_for: what this is, in words, for the outcome.
        """
        started = time.monotonic()
        while True:
            ending = self._ending
            picture = self.picture()
            found = look(picture)
            if found is not None and found is not False:
                return found
            if ending is not None:
                return ending
            left = started + within - time.monotonic()
            if left <= 0:
                return Stalled(waiting_for=waiting_for, seconds=time.monotonic() - started, last_words=picture.text)
            self._wait(picture.changes, left)

    def settled(self, *, quiet: float, within: float) -> str | Stalled | Ended:
        """Wait until nothing has been drawn for a while, and give the text that is there then, or what came instead.

        A menu that counts down never stands still for a whole second.

        :param quiet: seconds without a change.
        :param within: seconds.
        """
        started = time.monotonic()
        while True:
            picture = self.picture()
            if not self._wait(picture.changes, quiet):
                return picture.text
            ending = self._ending
            if ending is not None:
                return ending
            if time.monotonic() - started + quiet > within:
                waited = time.monotonic() - started
                return Stalled(waiting_for="a screen that stands still", seconds=waited, last_words=picture.text)

    @property
    def _ending(self) -> Ended | None:
        return None if self._machine is None else self._machine.ending

    def _wait(self, changes: int, seconds: float) -> bool:
        """Wait for another picture than that, or the machine's end; False when neither came in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._terminal.changes != changes or self._ending is not None, timeout=seconds
            )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
