"""A boot menu under program control: systemd-boot's, GRUB's, OVMF's boot manager, rEFInd's in text mode."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from vmharness.errors import ApiMisuse, GuestError
from vmharness.model.listing import Listing, MenuKind, listing
from vmharness.model.outcome import Ended, Stalled
from vmharness.model.picture import Picture
from vmharness.vm.editor import Editor, open_editor
from vmharness.vm.keyboard import Keyboard
from vmharness.vm.screen import Screen

_MOST_MOVES = 300
_BLANKS = " │|"
_DRAWN = 1 / 40  # of the keyboard's patience: how long nothing is drawn any more on a menu that is whole
_DRAWING = 1 / 4


class Menu:
    """The menu that is on the screen. Nothing is sent before it is asked to do something, so a countdown goes on.

    Its calls raise :class:`~vmharness.errors.GuestError` with the lines on the screen when there is no menu, and
    :class:`~vmharness.errors.Unreachable` when a key has no effect or the machine ends.
    """

    def __init__(self, screen: Screen, keyboard: Keyboard) -> None:
        self._screen = screen
        self._keyboard = keyboard

    def wait(self, *, within: float) -> tuple[str, ...] | Stalled | Ended:
        """Wait until a menu is on the screen, and give its entries, or what came instead.

        :param within: seconds.
        """
        found = self._screen.wait_until(listing, within=within, waiting_for="menu on the screen")
        return self._listing().entries if isinstance(found, Listing) else found

    @property
    def kind(self) -> MenuKind:
        """Whose menu it is."""
        return self._listing().kind

    def entries(self) -> tuple[str, ...]:
        """The titles of the entries that are on the screen; a long menu has more of them."""
        return self._listing().entries

    def selected(self) -> str:
        """The title of the selected entry."""
        return self._listing().title

    def select(self, wanted: str | re.Pattern[str]) -> str:
        """Move to an entry, looking after each key where it led, and give the entry's title.

        Nothing is sent if it is selected already. Entries that are not on the screen are looked for, downwards first.

        :param wanted: its title, a part of it, or a pattern. Of several the first is taken, a whole title before parts.
        :raises GuestError: no entry is called so; the message has those that are there.
        """
        seen: dict[str, None] = {}
        for key in ("down", "up"):
            passed: set[tuple[str, ...]] = set()
            while True:
                shown = self._listing()
                index = _index_of(wanted, shown.entries)
                if index is not None:
                    return self._move_to(wanted, index)
                seen.update(dict.fromkeys(shown.entries))
                place = (*shown.entries, shown.title)
                if place in passed or len(passed) > _MOST_MOVES or not self._move(key, shown):
                    break  # once around, or at the end
                passed.add(place)
        raise self._no_such_entry(wanted, seen)

    def choose(self, wanted: str | re.Pattern[str] | None = None) -> str:
        """Select an entry and start it with Enter; gives its title. Returns when the menu is gone or shows others.

        :param wanted: as for :meth:`select`; None takes the one that is selected.
        """
        title = self.selected() if wanted is None else self.select(wanted)
        before = self._listing()

        def is_gone(picture: Picture) -> bool:
            shown = listing(picture)
            return shown is None or shown.entries != before.entries

        self._keyboard.press("enter", until=is_gone)
        return title

    def edit(self, wanted: str | re.Pattern[str] | None = None) -> Editor:
        """Open the editor for an entry's command line, which systemd-boot and GRUB have.

        :param wanted: as for :meth:`select`; None takes the one that is selected.
        """
        if wanted is not None:
            self.select(wanted)
        kind = self.kind
        if kind not in (MenuKind.SYSTEMD_BOOT, MenuKind.GRUB):
            raise ApiMisuse(f"{kind.value} has no editor for command lines; systemd-boot and GRUB have")
        return open_editor(kind, self._keyboard)

    def _move_to(self, wanted: str | re.Pattern[str], index: int) -> str:
        for _ in range(_MOST_MOVES):
            shown = self._listing()
            index = _index_of(wanted, shown.entries) or 0
            if index == shown.selected:
                return shown.title
            if not self._move("down" if index > shown.selected else "up", shown):
                break
        raise self._failure(f"the menu's selection does not move to {_named(wanted)}")

    def _move(self, key: str, before: Listing) -> bool:
        """Press a key that moves the selection; False if nothing moved, as at the end of a menu."""
        within = self._keyboard.patience / 4  # a key too many does not matter, and each search ends with such a wait
        return isinstance(self._keyboard.try_press(key, until=_another_than(before), tries=2, within=within), Picture)

    def _listing(self) -> Listing:
        """The menu on the screen; while it is being drawn, a moment later."""
        patience = self._keyboard.patience
        self._screen.settled(quiet=patience * _DRAWN, within=patience * _DRAWING)
        found = self._screen.wait_until(listing, within=patience, waiting_for="menu on the screen")
        if isinstance(found, Listing):
            return found
        raise self._failure("no menu is on the screen")

    def _no_such_entry(self, wanted: str | re.Pattern[str], seen: Iterable[str]) -> GuestError:
        there = ", ".join(repr(title) for title in seen)
        return self._failure(f"the menu has no entry {_named(wanted)}; it has {there}")

    def _failure(self, what: str) -> GuestError:
        lines = [line for line in self._screen.lines() if line.strip(_BLANKS)]
        return GuestError(what, None, None, "\n".join(lines))


def _another_than(before: Listing) -> Callable[[Picture], bool]:
    def is_another(picture: Picture) -> bool:
        shown = listing(picture)
        return shown is not None and shown != before

    return is_another


def _index_of(wanted: str | re.Pattern[str], entries: Sequence[str]) -> int | None:
    if isinstance(wanted, re.Pattern):
        return next((index for index, title in enumerate(entries) if wanted.search(title)), None)
    if wanted in entries:
        return entries.index(wanted)
    return next((index for index, title in enumerate(entries) if wanted in title), None)


def _named(wanted: str | re.Pattern[str]) -> str:
    return f"that matches {wanted.pattern!r}" if isinstance(wanted, re.Pattern) else repr(wanted)
