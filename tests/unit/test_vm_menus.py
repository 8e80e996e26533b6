"""Menus and editors of real loaders, as recorded: whose they are, their entries, what is selected, what is edited."""

from __future__ import annotations

import pytest
from screens import picture_of, recording

from vmharness.errors import ApiMisuse, GuestError
from vmharness.model.listing import Listing, MenuKind, listing
from vmharness.vm.editor import Editor, GrubEditor, SystemdBootEditor
from vmharness.vm.keyboard import Keyboard, serial_keyboard
from vmharness.vm.menu import Menu
from vmharness.vm.screen import Screen
from vmharness.vm.terminal import Terminal

SYSTEMD_BOOT = ("minimal", "Second", "Third one", "Reboot Into Firmware Interface")


@pytest.mark.parametrize(
    ("name", "kind", "entries", "selected"),
    [
        ("ovmf-systemd-boot-countdown", MenuKind.SYSTEMD_BOOT, SYSTEMD_BOOT, 0),
        ("ovmf-systemd-boot-menu", MenuKind.SYSTEMD_BOOT, SYSTEMD_BOOT, 2),
        ("ovmf-grub-menu", MenuKind.GRUB, ("GNU/Linux", "Advanced options for GNU/Linux", "UEFI Firmware Settings"), 0),
        ("ovmf-boot-manager", MenuKind.OVMF, ("Linux Boot Manager", "UEFI Misc Device", "EFI Internal Shell"), 1),
    ],
)
def test_a_recorded_menu(name: str, kind: MenuKind, entries: tuple[str, ...], selected: int) -> None:
    """The menu is known by its looks; countdown, headings, help and bars are no entries."""
    assert listing(picture_of(recording(name))) == Listing(kind=kind, entries=entries, selected=selected)


@pytest.mark.parametrize("name", ["ovmf-systemd-boot-menu", "ovmf-grub-menu"])
def test_a_menu_at_every_moment(name: str) -> None:
    """While a loader comes up and draws, no other text is ever taken for a menu; an entry may still be cut off."""
    data = recording(name)
    titles = listing(picture_of(data))
    assert titles is not None
    terminal = Terminal()
    for start in range(0, len(data), 8):
        terminal.feed(data[start : start + 8])
        shown = listing(terminal.picture())
        if shown is not None:
            assert all(any(title.startswith(part) for title in titles.entries) for part in shown.entries), start


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"debian login: ",
        b"BdsDxe: starting Boot0001\r\n\x1b[0m\x1b[30m\x1b[47mWelcome to GRUB!\r\n\x1b[0m\x1b[37m\x1b[40m",
        b"[\x1b[32m  OK  \x1b[0m] Started \x1b[1mgetty\x1b[0m.\r\n",
    ],
)
def test_no_menu(data: bytes) -> None:
    """Texts that are no menus are none, though they have colours."""
    assert listing(picture_of(data)) is None


def editor(name: str, kind: type[Editor]) -> Editor:
    """An editor on a recorded screen whose guest takes no more keys."""
    screen = Screen()
    screen.feed(recording(name))
    return kind(Keyboard(screen, lambda _key: None, patience=0.01))


def test_systemd_boots_editor_is_read() -> None:
    """The line is read from its own row; blanks at its end are the cursor's business."""
    one = editor("ovmf-systemd-boot-editor", SystemdBootEditor)
    picture = picture_of(recording("ovmf-systemd-boot-editor"))
    assert one.is_open(picture)
    assert one.line() == "ID=94a48661-d252-5c1c-b76e-328662d62d37 rw console=ttyS0 own.word=third one=1"
    assert not one.is_open(picture_of(recording("ovmf-systemd-boot-menu")))


def test_grubs_editor_is_read() -> None:
    """A command that GRUB shows in two rows is one line, and the cursor is known in it."""
    one = editor("ovmf-grub-editor", GrubEditor)
    picture = picture_of(recording("ovmf-grub-editor"))
    assert one.is_open(picture)
    text, cursor = one.read(picture)
    assert cursor == len(text) > 75
    assert one.line() == (
        "linux /vmharness-minimal/6.1.0-56-cloud-amd64/linux "
        "root=PARTUUID=94a48661-d252-5c1c-b76e-328662d62d37 rw console=ttyS0 own.word=Second"
    )
    assert not one.is_open(picture_of(recording("ovmf-grub-menu")))


def test_what_is_not_on_the_line_cannot_be_replaced() -> None:
    """The error shows the line."""
    with pytest.raises(GuestError, match="the command line has no 'quiet': linux /vmharness-minimal/"):
        editor("ovmf-grub-editor", GrubEditor).replace("quiet", "")


def test_ovmf_has_no_editor() -> None:
    """Asking for one is the caller's mistake."""
    screen = Screen()
    screen.feed(recording("ovmf-boot-manager"))
    with pytest.raises(ApiMisuse, match="OVMF has no editor for command lines"):
        Menu(screen, serial_keyboard(lambda _: None, screen)).edit()


def test_a_title_that_is_still_to_come() -> None:
    """While only GRUB's mark of the selected entry is drawn, there is no menu yet."""
    data = recording("ovmf-grub-menu")
    picture = picture_of(data)
    assert picture.frame is not None
    row, left, right = picture.selected_rows[0], picture.frame.left, picture.frame.right
    mark = "*".ljust(right - left)
    drawn = f"\x1b[0m\x1b[30m\x1b[47m\x1b[{row + 1};{left + 1}H{mark}".encode()
    assert picture_of(data + drawn).selected_rows == (row,)
    assert listing(picture_of(data + drawn)) is None
