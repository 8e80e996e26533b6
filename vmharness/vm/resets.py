"""How often a machine has restarted, and on whose wish."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Resets:
    """Thread-safe count of the resets of a machine that goes on after one.

    The guest's own are counted apart from those that were asked for through QEMU.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_guest = 0
        self._by_us = 0
        self._over = False
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def by_guest(self) -> int:
        """Resets that the guest made: firmware, bootloader, kernel, or a crash of its processor (triple fault)."""
        with self._changed:
            return self._by_guest

    @property
    def by_us(self) -> int:
        """Resets that were asked for from outside."""
        with self._changed:
            return self._by_us

    def subscribe(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener``, from another thread, at each reset; its argument says whether the guest made it.

        It must return soon.
        """
        with self._changed:
            self._listeners.append(listener)

    def record(self, *, by_guest: bool) -> None:
        """Count one, from the monitor's thread."""
        with self._changed:
            if by_guest:
                self._by_guest += 1
            else:
                self._by_us += 1
            self._changed.notify_all()
            listeners = tuple(self._listeners)
        for listener in listeners:
            try:
                listener(by_guest)
            except Exception:  # noqa: BLE001 -- whatever it is
                _log.exception("a listener to the machine's resets failed")

    def end(self) -> None:
        """The machine has ended: no more will come."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for_ours(self, count: int, within: float) -> bool:
        """Wait until there are ``count`` resets from outside; whether there are."""
        with self._changed:
            self._changed.wait_for(lambda: self._by_us >= count or self._over, within)
            return self._by_us >= count
