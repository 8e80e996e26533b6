"""A connection to a port of a guest, which is cut when the machine ends."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from vmharness.errors import Unreachable
from vmharness.model.outcome import Ended
from vmharness.vm.guest import unreachable
from vmharness.vm.inside import Deadline

BANNER_SECONDS = 10.0
"""How long a server may stay silent until it is better to knock again; the guest may have got a network meanwhile."""

SHORTEST = 0.01
"""To sockets, a wait of no time at all means something else."""

_ENDING_SECONDS = 2.0  # a connection breaks before the machine's end is known


class Mortal(Protocol):
    """A machine, as far as its end is concerned."""

    @property
    def ending(self) -> Ended | None:
        """How it ended by itself, or None."""

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call ``listener``, from another thread, once it has ended."""


class Wire:
    """The connection's socket; it is cut when the machine ends."""

    def __init__(self, machine: Mortal) -> None:
        self.ended = threading.Event()
        self._machine = machine
        self._socket: socket.socket | None = None
        machine.when_ended(self._cut)

    def dial(self, port: int, deadline: Deadline) -> socket.socket:
        """Connect to a port of this host."""
        patience = max(min(BANNER_SECONDS, deadline.left), SHORTEST)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        if self.ended.is_set():
            self._cut()
        return self._socket

    def broken(self) -> Unreachable:
        """The error for a connection that broke: the machine's end, where that is why."""
        self.ended.wait(_ENDING_SECONDS)
        if self._machine.ending is not None:
            return unreachable(self._machine.ending)
        hint = "the system was started anew, or its SSH server was: connect again"
        return Unreachable("the SSH connection to the guest broke", None, hint)

    def _cut(self) -> None:
        self.ended.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._socket.shutdown(socket.SHUT_RDWR)
