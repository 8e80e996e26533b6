"""A person's terminal lent to a console of a machine, until Ctrl-] or the end of what is behind it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LEAVE = b"\x1d"
"""Ctrl-]."""


class Lent:
    """The terminal while it is lent; whoever learns that there is nothing behind it any more calls :meth:`end`."""

    def __init__(self) -> None:
        # Written to from other threads and from a signal's handler; what waits for the keyboard waits for these, too.
        self._ended, self._end = socket.socketpair()
        self._resized, self._resize = socket.socketpair()
        self._resize.setblocking(False)

    def end(self) -> None:
        """There is nothing behind the terminal any more. May be called from any thread, and more than once."""
        self._end.close()

    def run(self, send: Callable[[bytes], None], on_resize: Callable[[], None] = lambda: None) -> bool:
        """Pass on what is typed.

        :param on_resize: called when the window has another size.
        :returns: whether the person left; otherwise there is nothing behind the terminal any more.
        """
        keyboard = sys.stdin.fileno()
        with self._sizes_told():
            while True:
                ready, _, _ = select.select([keyboard, self._ended, self._resized], [], [])
                if self._ended in ready:
                    return False
                if self._resized in ready:
                    self._resized.recv(4096)
                    on_resize()
                    continue
                typed = _read(keyboard)
                before, leave, _ = typed.partition(LEAVE)
                send(before)
                if leave or not typed:
                    return True

    def close(self) -> None:
        """Release everything."""
        for end in (self._ended, self._end, self._resized, self._resize):
            end.close()

    @contextmanager
    def _sizes_told(self) -> Iterator[None]:
        def tell(_number: int, _frame: object) -> None:
            with contextlib.suppress(OSError):  # it is full: told already
                self._resize.send(b".")

        before = signal.signal(signal.SIGWINCH, tell)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)


def _read(keyboard: int) -> bytes:
    """What was typed; nothing at the end of input, which the closing of a terminal is, too."""
    try:
        return os.read(keyboard, 4096)
    except OSError:
        return b""


@contextmanager
def lent() -> Iterator[Lent]:
    """The terminal, raw while the block runs, if standard input is one."""
    keyboard = sys.stdin.fileno()
    saved = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
    terminal = Lent()
    try:
        if saved is not None:
            tty.setraw(keyboard)
        yield terminal
    finally:
        if saved is not None:
            with contextlib.suppress(termios.error):  # the terminal was closed
                termios.tcsetattr(keyboard, termios.TCSADRAIN, saved)
        terminal.close()


def size() -> tuple[int, int]:
    """Rows and columns of the window."""
    with contextlib.suppress(OSError):
        found = os.get_terminal_size(sys.stdout.fileno())
        return found.lines, found.columns
    return 24, 80


def closed() -> tuple[int, ...]:
    """The descriptors of those of our standard streams whose terminal was closed: nobody reads or types any more."""
    return tuple(stream for stream in (0, 1, 2) if _is_closed(stream))


def put(data: bytes) -> None:
    """Write all of ``data`` to standard output; a reader that has gone is no reason to disturb the machine."""
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


def _is_closed(stream: int) -> bool:
    try:
        termios.tcgetattr(stream)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)  # no terminal is another error
    return False
