"""The editors of systemd-boot and GRUB for an entry's command line, under program control.

Each key is typed when the one before it is on the screen, and what stands before the cursor is compared, so that
dropped keys are noticed also where a blank or the same character twice is typed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from vmharness.errors import GuestError
from vmharness.model.listing import MenuKind
from vmharness.model.picture import Picture, text_of
from vmharness.vm.keyboard import Keyboard

_COMPARED = 40  # characters before the cursor; less than any editor shows
_DRAWN_SECONDS = 0.1
_DRAWING_SECONDS = 1.0
_MOST_LINES = 60


class Editor(ABC):
    """An open editor, with the cursor at the end of the kernel's command line.

    Its calls raise :class:`~vmharness.errors.Unreachable` when a key has no effect or the machine ends.

    :param keyboard: types, and sees the screen.
    """

    boot_key: str

    def __init__(self, keyboard: Keyboard) -> None:
        self._keyboard = keyboard
        self._screen = keyboard.screen

    @abstractmethod
    def is_open(self, picture: Picture) -> bool:
        """Whether a picture shows the editor."""

    @abstractmethod
    def read(self, picture: Picture) -> tuple[str, int]:
        """What is seen of the line in which the cursor is, and where in it the cursor is."""

    @abstractmethod
    def find_line(self) -> None:
        """Move to the line with the kernel's parameters."""

    def line(self) -> str:
        """What is seen of the command line: all of it in GRUB, as much as fits on the screen in systemd-boot."""
        return self.read(self._drawn())[0].strip()

    def append(self, parameters: str) -> None:
        """Put more parameters at the end of the command line."""
        self._type(f" {parameters}")

    def replace(self, old: str, new: str) -> None:
        """Put ``new`` where ``old`` stands last on the command line.

        :raises GuestError: ``old`` is not on the part of the line that is seen.
        """
        before = self._before_cursor(self._drawn())
        at = before.rfind(old)
        if at < 0:
            raise GuestError(f"the command line has no {old!r}: {self.line()}", None, None, self._screen.text())
        for length in range(len(before) - 1, at - 1, -1):
            self._press("backspace", before[:length])
        self._type(new + before[at + len(old) :])

    def boot(self) -> None:
        """Start the entry with the changed command line; returns when the editor is gone."""
        self._keyboard.press(self.boot_key, until=lambda picture: not self.is_open(picture))

    def cancel(self) -> None:
        """Go back to the menu; the entry stays as it was."""
        self._keyboard.press("esc", until=lambda picture: not self.is_open(picture))

    def open(self) -> None:
        """Open it for the selected entry, and go to the end of the command line."""
        self._keyboard.press("e", until=self.is_open)
        self._drawn()
        self.find_line()
        if not self._is_at_end(self._drawn()):
            self._keyboard.press("end", until=self._is_at_end)

    def _type(self, text: str) -> None:
        before = self._before_cursor(self._drawn())
        for length, character in enumerate(text, 1):
            self._press(character, before + text[:length])

    def _press(self, key: str, wanted: str) -> None:
        """Press a key after which ``wanted`` stands before the cursor, or as much of it as is compared."""
        self._keyboard.press(key, until=self._has_before_cursor(wanted[-_COMPARED:]))

    def _has_before_cursor(self, wanted: str) -> Callable[[Picture], bool]:
        return lambda picture: self.is_open(picture) and self._before_cursor(picture).endswith(wanted)

    def _before_cursor(self, picture: Picture) -> str:
        text, cursor = self.read(picture)
        return f"{text:<{cursor}}"[:cursor]

    def _is_at_end(self, picture: Picture) -> bool:
        if not self.is_open(picture):
            return False
        text, cursor = self.read(picture)
        return cursor >= len(text)

    def _drawn(self) -> Picture:
        """The picture when it stands still; a cursor that blinks lets it do so for most of a second."""
        self._screen.settled(quiet=_DRAWN_SECONDS, within=_DRAWING_SECONDS)
        return self._screen.picture()


class SystemdBootEditor(Editor):
    """systemd-boot's: one line under the menu, from the second column on, as it is in src/boot/efi/boot.c, line_edit().

    It draws the cursor itself, as a cell in the colours the other way about, after which the terminal's cursor stands.
    Of a line that does not fit, the part around the cursor is shown.
    """

    boot_key = "enter"

    def is_open(self, picture: Picture) -> bool:
        """The line has a background of its own, and the terminal's cursor is in it."""
        row = picture.cursor[0]
        return row > min(picture.selected_rows, default=row) and any(
            cell.style.background != picture.ground for cell in picture.rows[row]
        )

    def read(self, picture: Picture) -> tuple[str, int]:
        """The line from the second column on."""
        row, column = picture.cursor
        return text_of(picture.rows[row][1:]).rstrip(), max(column - 2, 0)

    def find_line(self) -> None:
        """There is only one."""


class GrubEditor(Editor):
    """GRUB's: the entry's script in the menu's box; what is too long for a row goes on in the next, after a backslash.

    Source: grub-core/normal/menu_entry.c. On a machine with a graphics card, OVMF tells GRUB of 100 columns and then
    drops the cursor movements beyond its serial terminal's 80: a long line cannot be edited there.
    """

    boot_key = "ctrl-x"

    def is_open(self, picture: Picture) -> bool:
        """Its help stands under the box."""
        return picture.frame is not None and "Emacs-like screen editing" in picture.text

    def read(self, picture: Picture) -> tuple[str, int]:
        """The line across its rows."""
        frame = picture.frame
        assert frame is not None
        rows = {
            number: text_of(picture.rows[number][frame.left : frame.right]) for number in range(frame.top, frame.bottom)
        }
        first = last = picture.cursor[0]
        while rows.get(first - 1, "").endswith("\\"):
            first -= 1
        while rows.get(last, "").endswith("\\") and last + 1 in rows:
            last += 1
        width = frame.right - frame.left - 1
        text = "".join(rows.get(number, "")[:width] for number in range(first, last + 1)).rstrip()
        return text, (picture.cursor[0] - first) * width + picture.cursor[1] - frame.left

    def find_line(self) -> None:
        """Go down to the command ``linux``."""
        for _ in range(_MOST_LINES):
            picture = self._drawn()
            if self.read(picture)[0].lstrip().startswith("linux"):
                return
            self._keyboard.press("down", until=_is_below(picture.cursor[0]))
        raise GuestError("the entry has no command 'linux'", None, None, self._screen.text())


def _is_below(row: int) -> Callable[[Picture], bool]:
    return lambda picture: picture.cursor[0] > row


def open_editor(kind: MenuKind, keyboard: Keyboard) -> Editor:
    """Open the editor for the selected entry of a systemd-boot's or a GRUB's menu."""
    editor = GrubEditor(keyboard) if kind is MenuKind.GRUB else SystemdBootEditor(keyboard)
    editor.open()
    return editor
