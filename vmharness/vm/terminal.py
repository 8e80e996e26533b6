"""A terminal as firmware, bootloaders and Linux use it over a serial line: bytes to a picture. The only door to pyte.

What firmware does over a serial line (EDK II, MdeModulePkg/Universal/Console/TerminalDxe/TerminalConOut.c): it sets
colours, moves the cursor absolutely and clears; it never asks for anything. Its text modes are 80x25, 80x50 and 100x31
(and larger ones since 2025), and it does not say which is on: each change of mode is the same ``ESC [ = 3 h``. GRUB and
systemd-boot draw through it; under OVMF without a display they were seen to use 80x50, with one 100x31. So the screen
has 80x25 after each change of mode and grows to what the cursor is sent to, and to 100 columns when what is drawn from
somewhere within a row would not fit: systemd-boot's editor does so.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pyte
from pyte import charsets, modes
from pyte.screens import Char, StaticDefaultDict, wcwidth

from vmharness.model.picture import Cell, Picture, Style

_COLUMNS = (80, 100, 128, 160, 240)
_LINES = (25, 31, 50, 60)
_LONGEST_SEQUENCE = 4096

# As in terminals (ECMA-48), a control string ends at a line's end, too: a lone introducer in binary output must not
# swallow what follows. A sequence that is cut off by another character is swallowed as far as it goes.
_TOKEN = re.compile(
    r"(?P<string>\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?)"
    r"|\x1b\[(?P<parameters>[0-?]*)(?P<between>[ -/]*)(?P<final>[@-~]?)"
    r"|\x1b(?P<slot>[()])(?P<charset>[0-~])"
    r"|\x1b[ -/]*(?P<escape>[0-~]?)"
    r"|(?P<control>[\x07-\x0f])"
    r"|(?P<text>[^\x1b\x07-\x0f]+)"
)
_UNFINISHED = re.compile(r"\x1b(?:[\]PX^_][^\x07\x1b\n]*\x1b?|\[[0-?]*[ -/]*|[ -/]*)\Z")

# Characters that PC-ANSI terminals show for control codes; EDK II draws its arrows so.
_GLYPHS = {code: glyph for code, glyph in enumerate("►◄↕‼¶§▬↨↑↓→←∟↔▲▼", start=0x10) if code != 0x1B}

# Ends of CP437's horizontal lines that are valid UTF-8 by chance, for letters that hardly any language uses: firmware
# ends the top of every box with the first of them.
_LINE_ENDS = {
    ord(pair.decode("utf-8")): pair.decode("cp437")
    for pair in (b"\xc4\xbf", b"\xc4\xb4", b"\xcd\xbb", b"\xcd\xbc", b"\xcd\xb9")
}

_SHOWN = {**_GLYPHS, **_LINE_ENDS}

_EMPTY = Cell()


def _as_cp437(error: UnicodeError) -> tuple[str, int]:
    """Decode one byte that is no UTF-8."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.start + 1].decode("cp437"), error.start + 1


codecs.register_error("vmharness-cp437", _as_cp437)


class _Screen(pyte.Screen):
    """pyte's screen, which clears to the current background, as terminals do.

    Line drawing characters are there only once a program has asked for them: a lone SO in binary output must not turn
    all that follows into lines.
    """

    def reset(self) -> None:
        """Reset it."""
        super().reset()
        self.g1_charset = charsets.LAT1_MAP

    def erase_in_display(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        """Clear below the cursor (0), above it (1), or everything (2, 3); pyte breaks on others."""
        if how > 3:
            return
        super().erase_in_display(how, *args, **kwargs)
        whole = {0: range(self.cursor.y + 1, self.lines), 1: range(self.cursor.y)}.get(how, range(self.lines))
        for number in whole:
            self.buffer[number] = StaticDefaultDict(self.cursor.attrs)

    def erase_in_line(self, how: int = 0, *args: Any, **kwargs: Any) -> None:
        """Clear the line from the cursor on (0), up to it (1), or whole (2); pyte breaks on others."""
        if how <= 2:
            super().erase_in_line(how, *args, **kwargs)


class Terminal:
    """The state of a terminal. It takes any bytes, in any pieces, and never answers.

    Valid UTF-8 is taken for UTF-8, every other byte for CP437, in which firmware draws its boxes. The
    last byte of a piece that may begin a character waits for the next one.

    :param columns: at the start; it grows to what is used.
    :param lines: likewise.
    """

    def __init__(self, *, columns: int = _COLUMNS[0], lines: int = _LINES[0]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("vmharness-cp437")
        self._rest = ""
        self._size = (columns, lines)
        self._screen = _Screen(columns, lines)
        self._rows: dict[int, tuple[Cell, ...]] = {}
        self._changes = 0
        self._is_placed = False

    @property
    def changes(self) -> int:
        """How many pieces have drawn something or moved the cursor."""
        return self._changes

    def feed(self, data: bytes) -> bool:
        """Take a piece of output; says whether it drew something or moved the cursor."""
        screen = self._screen
        before = (screen.cursor.x, screen.cursor.y)
        screen.dirty.clear()
        text = self._rest + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(text, max(0, len(text) - _LONGEST_SEQUENCE))
        self._rest = "" if unfinished is None else unfinished[0]
        for token in _TOKEN.finditer(text, 0, len(text) - len(self._rest)):
            self._take(token)
        for number in screen.dirty:
            self._rows.pop(number, None)
        changed = bool(screen.dirty) or (screen.cursor.x, screen.cursor.y) != before
        self._changes += changed
        return changed

    def picture(self) -> Picture:
        """The screen as it is."""
        screen = self._screen
        for number in range(screen.lines):
            if number not in self._rows:
                self._rows[number] = self._row(number)
        return Picture(
            rows=tuple(self._rows[number] for number in range(screen.lines)),
            cursor=(screen.cursor.y, min(screen.cursor.x, screen.columns - 1)),
            changes=self._changes,
        )

    def _row(self, number: int) -> tuple[Cell, ...]:
        line = self._screen.buffer.get(number)
        if not line:
            return (_EMPTY if line is None else _cell(line.default),) * self._screen.columns
        return tuple(_cell(line[column]) for column in range(self._screen.columns))

    def _take(self, token: re.Match[str]) -> None:
        if token["text"] is not None:
            self._draw("".join(filter(_is_drawable, token["text"].translate(_SHOWN))))
        elif token["control"] is not None:
            self._is_placed = False
            _CONTROLS[token["control"]](self._screen)
        elif token["slot"] is not None:
            self._screen.define_charset(token["charset"], token["slot"])
        elif token["final"]:
            self._control_sequence(token["parameters"], token["between"], token["final"])
        elif token["escape"]:
            _ESCAPES.get(token["escape"], _nothing)(self._screen)

    def _draw(self, text: str) -> None:
        if self._is_placed and self._screen.cursor.x + len(text) > self._screen.columns:
            self._grow(0, _COLUMNS[1])
        self._screen.draw(text)

    def _control_sequence(self, parameters: str, between: str, final: str) -> None:
        if parameters.startswith("=") and final == "h":
            self._restart()
        elif parameters[:1] in ("=", "<", ">") or between:
            return
        elif parameters.startswith("?"):
            self._set_modes(_numbers(parameters[1:]), final, private=True)
        elif final in "Hf":
            # EDK II writes positions with two digits; column 100 becomes ":0", a colon being the digit ten.
            line, column, *_ = [*_numbers(re.sub(r":(\d)", r"10\1", parameters)), 0, 0]
            self._grow(line, column)
            self._is_placed = column > 1
            self._screen.cursor_position(line, column)
        elif final == "m":
            self._screen.select_graphic_rendition(*_numbers(parameters))
        elif final == "r":
            self._screen.set_margins(*_numbers(parameters)[:2])
        elif final in "hl":
            self._set_modes(_numbers(parameters), final, private=False)
        elif final in _SEQUENCES:
            _SEQUENCES[final](self._screen, (_numbers(parameters) or [0])[0])

    def _set_modes(self, numbers: list[int], final: str, *, private: bool) -> None:
        """Set or reset the modes that have to do with drawing; most others are about keys, mice and answers."""
        known = _PRIVATE_MODES if private else _MODES
        for number in known.intersection(numbers):
            if final == "h":
                self._screen.set_mode(number, private=private)
            elif final == "l":
                self._screen.reset_mode(number, private=private)

    def _restart(self) -> None:
        columns, lines = self._size
        self._screen.reset()
        self._screen.resize(lines=lines, columns=columns)
        self._rows.clear()

    def _grow(self, line: int, column: int) -> None:
        """Make room for a position. One beyond every text mode is how programs ask for the size: it is no position."""
        lines = next((size for size in _LINES if size >= line), 0)
        columns = next((size for size in _COLUMNS if size >= column), 0)
        if lines > self._screen.lines or columns > self._screen.columns:
            self._screen.resize(max(lines, self._screen.lines), max(columns, self._screen.columns))
            self._screen.tabstops.update(range(8, self._screen.columns, 8))
            self._rows.clear()


def _numbers(parameters: str) -> list[int]:
    """The parameters of a control sequence; what is missing is 0, and sub-parameters are left out."""
    found = [re.match(r"\d{1,4}", part) for part in parameters.split(";")] if parameters else []
    return [0 if match is None else int(match[0]) for match in found]


def _is_drawable(character: str) -> bool:
    """Whether pyte can draw it; at one that it cannot, it drops the rest of the text."""
    width = wcwidth(character)
    return width > 0 or (width == 0 and unicodedata.combining(character) != 0)


@lru_cache(maxsize=4096)
def _cell(char: Char) -> Cell:
    foreground = "white" if char.fg == "default" else char.fg
    background = "black" if char.bg == "default" else char.bg
    if char.reverse:
        foreground, background = background, foreground
    return Cell(char.data, Style(foreground, background, char.bold))


def _nothing(_screen: pyte.Screen) -> None:
    pass


_PRIVATE_MODES = {mode >> 5 for mode in (modes.DECAWM, modes.DECOM, modes.DECTCEM)}
_MODES = {modes.IRM, modes.LNM}

_CONTROLS: dict[str, Callable[[pyte.Screen], None]] = {
    "\x07": _nothing,
    "\x08": pyte.Screen.backspace,
    "\t": pyte.Screen.tab,
    "\n": pyte.Screen.linefeed,
    "\x0b": pyte.Screen.linefeed,
    "\x0c": pyte.Screen.linefeed,
    "\r": pyte.Screen.carriage_return,
    "\x0e": pyte.Screen.shift_out,
    "\x0f": pyte.Screen.shift_in,
}

_ESCAPES: dict[str, Callable[[pyte.Screen], None]] = {
    "7": pyte.Screen.save_cursor,
    "8": pyte.Screen.restore_cursor,
    "D": pyte.Screen.index,
    "E": pyte.Screen.linefeed,
    "H": pyte.Screen.set_tab_stop,
    "M": pyte.Screen.reverse_index,
    "c": pyte.Screen.reset,
}

_SEQUENCES: dict[str, Callable[[_Screen, int], None]] = {
    "@": pyte.Screen.insert_characters,
    "A": pyte.Screen.cursor_up,
    "B": pyte.Screen.cursor_down,
    "C": pyte.Screen.cursor_forward,
    "D": pyte.Screen.cursor_back,
    "E": pyte.Screen.cursor_down1,
    "F": pyte.Screen.cursor_up1,
    "G": pyte.Screen.cursor_to_column,
    "J": _Screen.erase_in_display,
    "K": _Screen.erase_in_line,
    "L": pyte.Screen.insert_lines,
    "M": pyte.Screen.delete_lines,
    "P": pyte.Screen.delete_characters,
    "X": pyte.Screen.erase_characters,
    "d": pyte.Screen.cursor_to_line,
}
