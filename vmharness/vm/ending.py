"""The one place where the end of a machine is recorded: the first cause wins, and all who wait are woken at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from vmharness.model.outcome import Ended

_log = logging.getLogger(__name__)


class Ending:
    """Thread-safe, once-only record of how a machine ended by itself.

    The process watcher, the monitor's reader and the consoles' readers report to it from their threads; consoles
    subscribe so that a wait on one of them ends when the machine does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cause: Ended | None = None
        self._sealed = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def cause(self) -> Ended | None:
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

    def report(self, cause: Ended) -> None:
        """Record ``cause`` unless an earlier one is known or the machine is being switched off."""
        with self._lock:
            if self._cause is not None or self._sealed:
                return
            self._cause = cause
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001 -- whatever it is
                # One listener's fault must not keep the others from learning it, nor end the thread that tells them.
                _log.exception("a listener to the machine's end failed")

    def seal(self) -> None:
        """From here on the machine ends because it is switched off: what is seen now is no cause any more."""
        with self._lock:
            self._sealed = True
