"""A person's shell in a guest; of the appliance it is on the machine's terminal. See ``guest-scripts/terminal``."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Protocol

from vmharness.vm.console import Console


class Shell(Protocol):
    """What a person can be given of a machine, to be left and entered again."""

    def enter(
        self,
        show: Callable[[bytes], None],
        on_end: Callable[[], None],
        *,
        rows: int,
        columns: int,
        terminal_type: str,
    ) -> Callable[[], None]:
        """Show what it writes from now on.

        :param show: called from another thread, as ``on_end`` once it has ended.
        :param rows: of the person's window, as ``columns``.
        :param terminal_type: ``$TERM``.
        :returns: what leaves it.
        """

    def type(self, data: bytes) -> None:
        """Pass on what the person types."""


class PersonShell:
    """A shell in the appliance: begun when it is first entered, and left and entered again at will.

    :param terminal: the machine's terminal; the shell is its only user.
    """

    def __init__(self, terminal: Console) -> None:
        self._terminal = terminal
        self._word = ""
        self._begun = threading.Event()

    @property
    def is_open(self) -> bool:
        """Whether a shell runs, entered or left."""
        return bool(self._word)

    def enter(
        self,
        show: Callable[[bytes], None],
        on_end: Callable[[], None],
        *,
        rows: int,
        columns: int,
        terminal_type: str,
    ) -> Callable[[], None]:
        """Give a person the shell, as :meth:`Shell.enter` says; it runs on when it is left."""
        if self.is_open:
            leave = self._terminal.tap(_Filter(show, self._ended(on_end), end=self._word).feed)
            self._terminal.send(b"\r")  # so that it shows its prompt again
            return leave
        self._word = secrets.token_hex(8)
        shown = _Filter(show, self._ended(on_end), begin=self._word, end=self._word)
        leave = self._terminal.tap(shown.feed)
        kind = terminal_type if terminal_type.replace("-", "").isalnum() else "dumb"
        self._terminal.send(f"shell {self._word} {rows} {columns} {kind}\n".encode())
        return leave

    def type(self, data: bytes) -> None:
        """Pass on what the person types."""
        self._terminal.send(data)

    def _ended(self, on_end: Callable[[], None]) -> Callable[[], None]:
        def ended() -> None:
            self._word = ""
            on_end()

        return ended


class _Filter:
    """Cuts the lines out that mark the shell's beginning and end.

    :param begin: the word of the first line, or nothing for a shell that has begun already.
    """

    def __init__(self, show: Callable[[bytes], None], on_end: Callable[[], None], *, end: str, begin: str = "") -> None:
        self._show = show
        self._on_end = on_end
        self._begin = f"{begin} begin\r\n".encode() if begin else b""
        self._end = f"\r\n{end} end\r\n".encode()
        self._held = b""

    def feed(self, data: bytes) -> None:
        """Take what the terminal wrote."""
        data, self._held = self._held + data, b""
        if self._begin:
            _, found, data = data.partition(self._begin)
            if not found:
                self._held = _[-len(self._begin) :]
                return
            self._begin = b""
        shown, ended, _rest = data.partition(self._end)
        if not ended:
            keep = _overlap(data, self._end)
            shown, self._held = data[: len(data) - keep], data[len(data) - keep :]
        if shown:
            self._show(shown)
        if ended:
            self._on_end()


def _overlap(data: bytes, mark: bytes) -> int:
    """How many bytes at the end of ``data`` may be the beginning of ``mark``."""
    return next((size for size in range(min(len(data), len(mark)), 0, -1) if mark.startswith(data[-size:])), 0)
