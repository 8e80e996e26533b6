"""The one place where the end of a machine is recorded: the first cause wins, and everybody who waits is woken at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vmharness.model.outcome import Died, Panicked


class Ending:
    """Thread-safe, once-only record of how a machine ended.

    The process watcher, the monitor's reader and the consoles' readers report to it from their threads; consoles
    subscribe so that a wait on one of them ends when the machine does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cause: Panicked | Died | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def cause(self) -> Panicked | Died | None:
        """How the machine ended, or None while it lives."""
        with self._lock:
            return self._cause

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` (from any thread) once the machine has ended; at once if it has already."""
        with self._lock:
            if self._cause is None:
                self._listeners.append(listener)
                return
        listener()

    def report(self, cause: Panicked | Died) -> None:
        """Record ``cause`` unless an earlier one is known."""
        with self._lock:
            if self._cause is not None:
                return
            self._cause = cause
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()
