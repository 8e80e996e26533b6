"""A machine's serial console, lent to a person."""

from __future__ import annotations

from collections.abc import Callable

from vmharness.vm.console import Console
from vmharness.vm.rendering import render_terminal
from vmharness.vm.screen import Screen


class ConsoleShell:
    """A machine's serial console, lent to a person: what runs there is up to the guest.

    :param console: the log console.
    :param screen: what it shows.
    """

    def __init__(self, console: Console, screen: Screen) -> None:
        self._console = console
        self._screen = screen

    def enter(
        self,
        show: Callable[[bytes], None],
        on_end: Callable[[], None],  # noqa: ARG002 -- a console has no end of its own
        *,
        rows: int,  # noqa: ARG002 -- a serial line does not tell its guest how large the window is
        columns: int,  # noqa: ARG002 -- likewise
        terminal_type: str,  # noqa: ARG002 -- nor of which kind it is
    ) -> Callable[[], None]:
        """Give a person the console: what it shows now, and what it prints from now on, goes to ``show``.

        :returns: what leaves it.
        """
        show(render_terminal(self._screen.picture()))
        return self._console.tap(show)

    def type(self, data: bytes) -> None:
        """Pass on what the person types."""
        self._console.send(data)
