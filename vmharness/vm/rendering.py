"""Screens and transcripts for people: as plain text and as HTML, without anything that a terminal or a page would obey.

A picture's cells hold printable characters only (see :mod:`vmharness.vm.terminal`); HTML is escaped, and colours become
classes of :data:`STYLESHEET`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

from vmharness.model.picture import Cell, Picture, Style, text_of
from vmharness.vm.terminal import Terminal

TRANSCRIPT_COLUMNS = 132
TRANSCRIPT_LINES = 200
_BYTES_PER_LINE = 400

_COLOURS = {
    "black": "#1c1c1c", "red": "#cc3333", "green": "#4e9a06", "brown": "#c4a000",
    "blue": "#3465a4", "magenta": "#75507b", "cyan": "#06989a", "white": "#d3d7cf",
}  # fmt: skip

_NUMBERS = {name: number for number, name in enumerate(_COLOURS)}  # as SGR counts them

STYLESHEET = "\n".join(
    [
        ".screen { background: #1c1c1c; color: #d3d7cf; padding: .5em; overflow-x: auto; line-height: 1.15; }",
        *(f".screen .fg-{name} {{ color: {value}; }}" for name, value in _COLOURS.items()),
        *(f".screen .bg-{name} {{ background: {value}; }}" for name, value in _COLOURS.items()),
        ".screen .bold { font-weight: bold; }",
    ]
)
"""CSS for what :func:`render_html` makes."""


def render_terminal(picture: Picture) -> bytes:
    """What draws the screen on a person's terminal, with its colours, and puts the cursor where it is."""
    row, column = picture.cursor
    used = max(row + 1, len(picture.text.split("\n")))
    lines = [_terminal_line(cells, column if number == row else 0) for number, cells in enumerate(picture.rows[:used])]
    text = "\x1b[0m\r\n".join(lines)
    return f"\x1b[0m\x1b[H\x1b[2J{text}\x1b[0m\x1b[{row + 1};{column + 1}H".encode()


def render_text(picture: Picture) -> str:
    """The screen as plain text in a border of its width, without the empty lines at its end."""
    width = max([len(line) for line in picture.lines], default=0)
    lines = picture.text.split("\n")
    return "\n".join(["+" + "-" * width + "+", *(f"|{line:<{width}}|" for line in lines), "+" + "-" * width + "+"])


def render_html(picture: Picture) -> str:
    """The screen as an HTML fragment: one ``pre`` element."""
    count = picture.text.count("\n") + 1 if picture.text else 0
    rows = "\n".join(_row(row) for row in picture.rows[:count])
    return f'<pre class="screen">{rows}</pre>'


def transcript_end(transcript: bytes, *, lines: int = TRANSCRIPT_LINES) -> Picture:
    """The end of a console's raw transcript, on a screen that is as tall.

    Where something was drawn in place, as by menus, its last state is seen.
    """
    terminal = Terminal(columns=TRANSCRIPT_COLUMNS, lines=lines)
    terminal.feed(transcript[-lines * _BYTES_PER_LINE :])
    return terminal.picture()


def _terminal_line(cells: Sequence[Cell], least: int) -> str:
    """A row without the plain blanks at its end, but for the first ``least`` places."""
    end = len(cells)
    while end > least and cells[end - 1] == Cell():
        end -= 1
    runs = groupby(cells[:end], key=lambda cell: cell.style)
    return "".join(f"{_selecting(style)}{text_of(list(run))}" for style, run in runs)


def _selecting(style: Style) -> str:
    """What selects a style on a terminal (ECMA-48, SGR); white on black is what the person has."""
    foreground, background = _named(style.foreground), _named(style.background)
    codes = ["0", *(["1"] if style.bold else [])]
    codes += [f"3{_NUMBERS[foreground]}"] if foreground != "white" else []
    codes += [f"4{_NUMBERS[background]}"] if background != "black" else []
    return f"\x1b[{';'.join(codes)}m"


def _row(row: Sequence[Cell]) -> str:
    shown = [number for number, cell in enumerate(row, 1) if cell.text.strip() or cell.style.background != "black"]
    runs = groupby(row[: max(shown, default=0)], key=lambda cell: _classes(cell.style))
    return "".join(_run(classes, text_of(list(cells))) for classes, cells in runs)


def _run(classes: str, text: str) -> str:
    escaped = html.escape(text)
    return f'<span class="{classes}">{escaped}</span>' if classes else escaped


def _classes(style: Style) -> str:
    foreground, background = _named(style.foreground), _named(style.background)
    return " ".join(
        [
            *([f"fg-{foreground}"] if foreground != "white" else []),
            *([f"bg-{background}"] if background != "black" else []),
            *(["bold"] if style.bold else []),
        ]
    )


def _named(colour: str) -> str:
    """The nearest of the eight colours; pyte also has bright ones and those of other palettes, as six hex digits."""
    name = colour.removeprefix("bright")
    if name in _COLOURS:
        return name
    try:
        red, green, blue = (part > 0x7F for part in bytes.fromhex(colour))
    except ValueError:
        return "white"
    return list(_COLOURS)[red + 2 * green + 4 * blue]
