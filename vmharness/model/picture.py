"""A text screen as a value: its cells with their colours, its lines, and what is highlighted on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from attrs import frozen

_SHORTEST_FRAME = 4  # rows; headings and key hints stand in frames of at most three
_TOP = re.compile(r"[┌╔+/][─═-]{20,}[┐╗+\\]")
_BOTTOM = re.compile(r"[└╚+\\][─═-]{20,}[┘╝+/]")


class Style(NamedTuple):
    """How a cell looks: colours as they are shown (reverse video is resolved) and whether it is bold."""

    foreground: str = "white"
    background: str = "black"
    bold: bool = False


class Cell(NamedTuple):
    """One place of the screen. The right half of a wide character has an empty text."""

    text: str = " "
    style: Style = Style()


@frozen(kw_only=True)
class Frame:
    """The inside of a box on the screen: rows ``top`` to ``bottom``, columns ``left`` to ``right``, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


@frozen(kw_only=True)
class Picture:
    """The screen as it was at one moment.

    :param rows: the cells, all rows equally long.
    :param cursor: row and column, from 0.
    :param changes: how often the screen had been drawn on.
    """

    rows: tuple[tuple[Cell, ...], ...]
    cursor: tuple[int, int] = (0, 0)
    changes: int = 0

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The text of each row, without the blanks at its end."""
        return tuple(text_of(row).rstrip() for row in self.rows)

    @cached_property
    def text(self) -> str:
        """All lines, without the empty ones at the end."""
        return "\n".join(self.lines).rstrip()

    @cached_property
    def frame(self) -> Frame | None:
        """The tallest box that can hold a list, or None."""
        found = [frame for frame in _frames(self.lines) if frame.bottom - frame.top >= _SHORTEST_FRAME]
        return max(found, key=lambda frame: frame.bottom - frame.top, default=None)

    @cached_property
    def ground(self) -> str:
        """The background that most of the screen has, or of the box with a list."""
        return Counter(cell.style.background for row in self._area.values() for cell in row).most_common(1)[0][0]

    @cached_property
    def selected_rows(self) -> tuple[int, ...]:
        """The rows that are highlighted: see :meth:`selected`."""
        found = tuple(number for number, row in self._area.items() if self._stands_out(row))
        if found or self.frame is None:
            return found
        usual = Counter(cell.style for row in self._area.values() for cell in row).most_common(1)[0][0]
        return tuple(number for number, row in self._area.items() if _is_written_in_another_style(row, usual))

    @cached_property
    def _area(self) -> dict[int, tuple[Cell, ...]]:
        """The rows among which one may be selected."""
        if self.frame is None:
            return dict(enumerate(self.rows))
        inside = slice(self.frame.left, self.frame.right)
        return {number: self.rows[number][inside] for number in range(self.frame.top, self.frame.bottom)}

    def _stands_out(self, row: Sequence[Cell]) -> bool:
        """Whether text of a row has another background; a bar across the whole screen is a heading, or key hints."""
        is_bar = self.frame is None and all(cell.style.background != self.ground for cell in row)
        return not is_bar and any(cell.text.strip() and cell.style.background != self.ground for cell in row)

    def selected(self) -> str:
        """The text of the highlighted line, or lines; empty when none is.

        That is text whose background differs from the one that most of the screen has: reverse video, black on grey
        (SGR 30;47) on a black screen, or the other way about. Bars across the whole screen do not count. In a box with
        a list, where a theme may highlight by another colour of the letters alone, only the box is looked at, and such
        text counts too.
        """
        return "\n".join(self._selected_text(number) for number in self.selected_rows)

    def _selected_text(self, number: int) -> str:
        row = self._area[number]
        if self.frame is None:
            row = tuple(cell for cell in row if cell.style.background != self.ground)
        return text_of(row).strip()


def text_of(row: Sequence[Cell]) -> str:
    """The text of a row of cells."""
    return "".join(cell.text for cell in row)


def _is_written_in_another_style(row: Sequence[Cell], usual: Style) -> bool:
    written = [cell.style for cell in row if cell.text.strip()]
    return bool(written) and all(style != usual for style in written)


def _frames(lines: Sequence[str]) -> list[Frame]:
    """Every pair of horizontal edges above each other, from the top.

    The uprights may be missing: with a graphics card, OVMF lets loaders use more columns than its serial terminal has.
    """
    found = []
    open_tops: dict[tuple[int, int], int] = {}
    for number, line in enumerate(lines):
        for edge in _BOTTOM.finditer(line):
            if edge.span() in open_tops:
                top = open_tops.pop(edge.span()) + 1
                found.append(Frame(top=top, bottom=number, left=edge.start() + 1, right=edge.end() - 1))
        for edge in _TOP.finditer(line):
            open_tops.setdefault(edge.span(), number)
    return found
