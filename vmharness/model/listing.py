"""A menu on a screen as a value: whose it is, its entries, and which is selected."""

from __future__ import annotations

import re
from enum import Enum

from attrs import frozen

from vmharness.model.picture import Picture, text_of


class MenuKind(Enum):
    """Whose menu is on the screen, where that matters."""

    SYSTEMD_BOOT = "systemd-boot"
    GRUB = "GRUB"
    OVMF = "OVMF"
    REFIND = "rEFInd"


_MARKS = (
    (MenuKind.GRUB, re.compile(r"GNU GRUB +version")),
    (MenuKind.REFIND, re.compile(r"rEFInd")),
    (MenuKind.OVMF, re.compile(r"=Move Highlight|Esc=Exit|<Enter>=Select Entry")),
)


@frozen(kw_only=True)
class Listing:
    """The part of a menu that is on the screen.

    :param entries: their titles, from top to bottom.
    :param selected: index of the selected one.
    """

    kind: MenuKind
    entries: tuple[str, ...]
    selected: int

    @property
    def title(self) -> str:
        """The selected entry's title."""
        return self.entries[self.selected]


def listing(picture: Picture) -> Listing | None:
    """The menu on a screen; None when there is none, or while it is being drawn.

    Entries are the lines of text in the box around the selected line; without a box, those right above and under it.
    systemd-boot, whose menu has neither heading nor box, is what remains when it is nobody else's.
    """
    rows = picture.selected_rows
    if len(rows) != 1:
        return None
    kind = next((kind for kind, mark in _MARKS if mark.search(picture.text)), MenuKind.SYSTEMD_BOOT)
    numbers = _numbers(picture, rows[0])
    entries = tuple(_title(picture, number, kind) for number in numbers)
    return Listing(kind=kind, entries=entries, selected=numbers.index(rows[0]))


def _numbers(picture: Picture, selected: int) -> list[int]:
    """The rows of the entries."""
    frame = picture.frame
    if frame is not None:
        return [number for number in range(frame.top, frame.bottom) if _inside(picture, number)]
    first = last = selected
    while first > 0 and picture.lines[first - 1]:
        first -= 1
    while last + 1 < len(picture.lines) and picture.lines[last + 1]:
        last += 1
    return list(range(first, last + 1))


def _inside(picture: Picture, number: int) -> str:
    """The text of a row, inside the box if there is one."""
    frame = picture.frame
    row = picture.rows[number]
    return text_of(row if frame is None else row[frame.left : frame.right]).strip()


def _title(picture: Picture, number: int, kind: MenuKind) -> str:
    text = _inside(picture, number)
    if kind is MenuKind.GRUB:
        return text.removeprefix("*") if number in picture.selected_rows else text
    return re.sub(r"^=> *", "", text)  # systemd-boot marks the entry that was made the default so
