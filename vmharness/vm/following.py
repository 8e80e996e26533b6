"""What an installer has shown: the text that its serial console printed, and that console as a screen."""

from __future__ import annotations

import json
import re
import threading
import time
from functools import partial
from pathlib import Path

from attrs import frozen

from vmharness.model.outcome import Ended, Stalled
from vmharness.model.text import Cleaner
from vmharness.vm.screen import Mortal, Screen

STATE_NAME, UNREAD_NAME = "console.log", "unread.json"
"""A follower's files in a checkpoint: what was printed, and what of it nobody has waited for yet."""

_LARGEST = 8 << 20
_OVERLAP = 4096
_LAST_LINES = 30


@frozen(kw_only=True)
class Found:
    """Something expected is there.

    :param text: what matched.
    :param read: how much of the printed text counts as read once it is acted on.
    """

    text: str
    read: int


class Follower:
    """Follows a serial console, and can be saved beside a checkpoint. Thread-safe; the console's reader feeds it.

    Make it before its machine, so that nothing is missed, and let it :meth:`follow` that. Text that nobody has waited
    for yet stays until it is read: an answer may come before the question after it is looked for.
    """

    def __init__(self) -> None:
        self.screen = Screen()
        self._changed = threading.Condition()
        self._cleaner = Cleaner()
        self._printed = bytearray()
        self._unread = ""
        self._pieces = 0
        self._machine: Mortal | None = None

    def feed(self, data: bytes) -> None:
        """Take the console's output, in the order in which it came."""
        with self._changed:
            self._printed += data
            self._pieces += 1
            if len(self._printed) > 2 * _LARGEST:
                del self._printed[:-_LARGEST]
            self._unread = (self._unread + self._cleaner.feed(data))[-_LARGEST:]
            self._changed.notify_all()
        self.screen.feed(data)

    def follow(self, machine: Mortal) -> None:
        """From here on waits end when ``machine`` does."""
        self._machine = machine
        self.screen.follow(machine)
        machine.when_ended(self._wake)

    def save(self, folder: Path) -> None:
        """Write what was shown to a folder; nothing must be printed meanwhile."""
        with self._changed:
            (folder / STATE_NAME).write_bytes(self._printed)
            (folder / UNREAD_NAME).write_text(json.dumps(self._unread), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take over what :meth:`save` wrote.

        :raises ValueError: that is damaged.
        :raises OSError: it is not there.
        """
        printed = (folder / STATE_NAME).read_bytes()
        unread = json.loads((folder / UNREAD_NAME).read_text(encoding="utf-8"))
        if not isinstance(unread, str):
            raise ValueError(f"{UNREAD_NAME} holds no text")  # noqa: TRY004 -- what is wrong is the file
        self.feed(printed)
        with self._changed:
            self._unread = unread[-_LARGEST:]

    def last_lines(self) -> str:
        """The last lines that were printed, as text."""
        with self._changed:
            text = Cleaner().feed(bytes(self._printed[-4 * _LARGEST // 1024 :]), final=True)
        return "\n".join([line for line in text.split("\n") if line.strip()][-_LAST_LINES:])

    def wait_for_text(self, pattern: re.Pattern[str], *, within: float) -> Found | Stalled | Ended:
        """Wait until ``pattern`` is in the text that is not read yet. What is there is looked at before an end is told.

        :param within: seconds.
        """
        started, seen = time.monotonic(), 0
        while True:
            ending = self._ending
            with self._changed:
                text, pieces = self._unread, self._pieces
            match = pattern.search(text, max(0, seen - _OVERLAP))
            if match is not None:
                return Found(text=match[0], read=match.end())
            if ending is not None:
                return ending
            seen = len(text) if len(text) < _LARGEST else 0
            left = started + within - time.monotonic()
            if left <= 0:
                waited = time.monotonic() - started
                return Stalled(waiting_for=f"'{pattern.pattern}'", seconds=waited, last_words=self.last_lines())
            with self._changed:
                self._changed.wait_for(partial(self._has_changed, pieces), left)

    def wait_for_end(self, *, within: float) -> Stalled | Ended:
        """Wait until the machine ends.

        :param within: seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ending is not None, within)
        return self._ending or Stalled(waiting_for="end", seconds=within, last_words=self.last_lines())

    def all_read(self) -> int:
        """How much is not read yet, for a :class:`Found` that was seen elsewhere."""
        with self._changed:
            return len(self._unread)

    def read(self, size: int) -> None:
        """Count the beginning of what was printed as read."""
        with self._changed:
            self._unread = self._unread[size:]

    def _has_changed(self, pieces: int) -> bool:
        return self._pieces != pieces or self._ending is not None

    @property
    def _ending(self) -> Ended | None:
        return None if self._machine is None else self._machine.ending

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
