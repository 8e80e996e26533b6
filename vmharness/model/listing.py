"""A menu on a screen as a value: whose it is, its entries, and which is selected."""

from __future__ import annotations

import re
from collections.abc import Mapping
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

# systemd-boot's entries are as wide as the longest title and six blanks, one of which may be a mark.
_PADDED = re.compile(r" |=>")
_LINE = re.compile(r"[─-]+")


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

    In a box, every line of text is an entry. Without one, it is the lines right above and under the selected one;
    systemd-boot's menu, which has neither heading nor box, is what remains when it is nobody else's.
    """
    rows = picture.selected_rows
    if len(rows) != 1:
        return None
    kind = next((kind for kind, mark in _MARKS if mark.search(picture.text)), MenuKind.SYSTEMD_BOOT)
    if kind is MenuKind.GRUB and picture.frame is None:
        return None
    if kind is MenuKind.SYSTEMD_BOOT and not _PADDED.match(_highlighted(picture, rows[0])):
        return None
    titles = {number: _title(picture, number, kind) for number in range(len(picture.rows))}
    numbers = _numbers(picture, kind, rows[0], titles)
    if rows[0] not in numbers:
        return None  # highlighted already, and its title still to come
    entries = tuple(titles[number] for number in numbers)
    return Listing(kind=kind, entries=entries, selected=numbers.index(rows[0]))


def _numbers(picture: Picture, kind: MenuKind, selected: int, titles: Mapping[int, str]) -> list[int]:
    """The rows of the entries."""
    if picture.frame is not None:
        return [number for number in range(picture.frame.top, picture.frame.bottom) if titles[number]]
    if kind is MenuKind.OVMF:
        return [number for number, title in titles.items() if title]
    first = last = selected
    while titles.get(first - 1):
        first -= 1
    while titles.get(last + 1):
        last += 1
    return list(range(first, last + 1))


def _title(picture: Picture, number: int, kind: MenuKind) -> str:
    """The title of the entry in a row; empty if there is none."""
    row = picture.rows[number]
    if picture.frame is not None:
        row = row[picture.frame.left : picture.frame.right]
    if kind is MenuKind.OVMF:
        # Headings and the help on the right are blue (MdeModulePkg, CustomizedDisplayLib), bars are no entries.
        is_bar = all(cell.style.background != picture.ground for cell in row)
        text = "" if is_bar else text_of([cell for cell in row if cell.style.foreground != "blue"])
        return " ".join(text.split()).removeprefix("> ")
    text = text_of(row).strip(" │║")
    if kind is MenuKind.GRUB:
        return text.removeprefix("*") if number in picture.selected_rows else text
    # systemd-boot marks the entry that was made the default, and draws a line above its countdown.
    return "" if _LINE.fullmatch(text) else text.removeprefix("=>").strip()


def _highlighted(picture: Picture, number: int) -> str:
    return text_of([cell for cell in picture.rows[number] if cell.style.background != picture.ground])
