"""Waiting for a screen, and pressing keys until it shows what they do; the guest is a few lines of Python."""

from __future__ import annotations

import re
import threading
import time

import pytest
from screens import MenuGuest, Mortal

from vmharness.errors import GuestError, Unreachable
from vmharness.model.keys import NAMES, Terminal, key
from vmharness.model.outcome import Died, PoweredOff, Stalled
from vmharness.vm.keyboard import emulated_keyboard, serial_keyboard
from vmharness.vm.menu import Menu
from vmharness.vm.screen import Screen

GONE = Died(reason="QEMU was killed by SIGKILL", stderr="", last_words="")


def later(seconds: float, what: object, *arguments: object) -> threading.Timer:
    """Start a timer."""
    timer = threading.Timer(seconds, what, arguments)  # type: ignore[arg-type]  # any callable
    timer.start()
    return timer


def test_a_text_that_is_there_already() -> None:
    """A pattern is matched against the whole text, its lines with their ends."""
    screen = Screen()
    screen.feed(b"one\r\ntwo\r\n")
    found = screen.wait_for(r"^two$", within=0)
    assert isinstance(found, re.Match)
    assert screen.lines()[:3] == ("one", "two", "")
    assert screen.text() == "one\ntwo"


def test_a_text_that_comes() -> None:
    """A wait ends as soon as the text is there, though it comes in pieces."""
    screen = Screen()
    later(0.05, screen.feed, b"log")
    later(0.1, screen.feed, b"in: ")
    started = time.monotonic()
    assert isinstance(screen.wait_for(r"login:$", within=5), re.Match)
    assert time.monotonic() - started < 1


def test_a_text_that_does_not_come() -> None:
    """The deadline passes: what was waited for, how long, and what was there instead."""
    screen = Screen()
    screen.feed(b"something else")
    outcome = screen.wait_for("login:", within=0.1)
    assert isinstance(outcome, Stalled)
    assert outcome.waiting_for == "'login:' on the screen"
    assert outcome.last_words == "something else"
    assert 0.1 <= outcome.seconds < 1


def test_the_machines_end_ends_a_wait() -> None:
    """Every wait comes back at once with how the machine ended; what it had shown before is still found."""
    screen, machine = Screen(), Mortal()
    screen.follow(machine)
    screen.feed(b"last words")
    later(0.05, machine.end, GONE)
    started = time.monotonic()
    assert screen.wait_for("login:", within=10) == GONE
    assert time.monotonic() - started < 1
    assert screen.settled(quiet=5, within=10) == GONE
    assert isinstance(screen.wait_for("last words", within=1), re.Match)


def test_standing_still() -> None:
    """A screen has settled when nothing was drawn for a while; one that is drawn on all the time never does."""
    screen = Screen()

    def draw(pieces: int) -> None:
        for number in range(pieces):
            screen.feed(b"%d " % number)
            time.sleep(0.02)

    assert screen.settled(quiet=0.1, within=1) == ""
    few = later(0, draw, 5)
    assert isinstance(screen.wait_for("0", within=5), re.Match)
    assert screen.settled(quiet=0.5, within=5) == "0 1 2 3 4"
    few.join()
    many = later(0, draw, 50)
    assert isinstance(screen.wait_for("4 0", within=5), re.Match)
    assert isinstance(screen.settled(quiet=0.5, within=0.6), Stalled)
    many.join()


def test_many_look_while_one_feeds() -> None:
    """Threads that look at the screen see whole pictures, and every wait is woken."""
    screen = Screen()
    found: list[object] = []
    waiting = [threading.Thread(target=lambda: found.append(screen.wait_for("line 1999", within=10))) for _ in range(4)]
    for thread in waiting:
        thread.start()
    for number in range(2000):
        screen.feed(b"line %d\r\n" % number)
        assert screen.changes == number + 1
    for thread in waiting:
        thread.join()
    assert all(isinstance(one, re.Match) for one in found)
    assert len(found) == 4


@pytest.mark.parametrize("name", [*NAMES, "ctrl-x", "a", "A", "~", " ", '"', "ENTER", "Ctrl-X"])
def test_keys_have_both_names(name: str) -> None:
    """Each key has a serial sequence for every terminal and QEMU's names."""
    for terminal in Terminal:
        assert key(name).sequence_for(terminal)
    assert all(re.fullmatch(r"[a-z0-9_]+", code) for code in key(name).qcodes)


def test_some_keys() -> None:
    """Sequences and codes as firmware and QEMU know them; an unknown name is an error that says what there is."""
    assert key("down").sequence == b"\x1b[B"
    assert key("end").sequence_for(Terminal.PC_ANSI) == b"\x1b[F"
    assert key("f10").sequence_for(Terminal.VT_UTF8) == b"\x1b0"
    assert key("ctrl-x").sequence == b"\x18"
    assert key("ctrl-x").qcodes == ("ctrl", "x")
    assert key("A").qcodes == ("shift", "a")
    assert key('"').qcodes == ("shift", "apostrophe")
    assert key("enter").qcodes == ("ret",)
    with pytest.raises(ValueError, match="no key is called 'hyper'; there are up, down"):
        key("hyper")


ENTRIES = ("Debian GNU/Linux", "Debian", "Fedora", "Rescue")


def menu(*entries: str, dropped: int = 0, height: int = 20, wraps: bool = False) -> tuple[Menu, MenuGuest]:
    """A menu and its guest."""
    screen = Screen()
    guest = MenuGuest(screen, entries, dropped=dropped, height=height, wraps=wraps)
    return Menu(screen, serial_keyboard(guest.send, screen, patience=0.3)), guest


def test_nothing_is_sent_by_itself() -> None:
    """Looking at a menu, and selecting what is selected already, sends no key."""
    one, guest = menu(*ENTRIES)
    assert one.wait(within=1) == ENTRIES
    assert one.selected() == "Debian GNU/Linux"
    assert one.select("GNU") == "Debian GNU/Linux"
    assert guest.keys == []


def test_a_whole_title_before_a_part() -> None:
    """The entry that is called so comes before one whose title merely contains it."""
    one, guest = menu(*ENTRIES)
    assert one.select("Debian") == "Debian"
    assert guest.keys == [b"\x1b[B"]


@pytest.mark.parametrize("dropped", [0, 1])
def test_dropped_keys_are_pressed_again(dropped: int) -> None:
    """A key without an effect is pressed again, one with an effect never."""
    one, guest = menu(*ENTRIES, dropped=dropped)
    assert one.choose(re.compile("^Res")) == "Rescue"
    assert guest.started == "Rescue"
    assert guest.keys == [b"\x1b[B"] * (3 + dropped) + [b"\r"]


@pytest.mark.parametrize("wraps", [False, True])
def test_a_scrolling_menu(wraps: bool) -> None:
    """Entries that are not on the screen are found in both directions, in menus that go round and in others."""
    titles = [f"entry {number:02d}" for number in range(12)]
    one, guest = menu(*titles, height=4, wraps=wraps)
    assert one.entries() == tuple(titles[:4])
    assert one.select("entry 09") == "entry 09"
    assert guest.selected == 9
    assert one.select("entry 01") == "entry 01"
    assert guest.selected == 1


def test_no_such_entry() -> None:
    """The error names the entries that are there, those out of sight among them, and shows the screen."""
    one, _ = menu(*ENTRIES, height=2)
    with pytest.raises(GuestError) as caught:
        one.select("Windows")
    assert "no entry 'Windows'; it has 'Debian GNU/Linux', 'Debian', 'Fedora', 'Rescue'" in str(caught.value)
    assert "Debian GNU/Linux" in caught.value.last_words


def test_no_menu() -> None:
    """Where there is no menu, the error shows what there is."""
    screen = Screen()
    screen.feed(b"debian login: ")
    with pytest.raises(GuestError, match="no menu is on the screen") as caught:
        Menu(screen, serial_keyboard(lambda _: None, screen, patience=0.05)).entries()
    assert "debian login:" in caught.value.last_words


def test_a_guest_that_takes_no_keys() -> None:
    """A key that never has an effect is an error after a few tries, with the screen."""
    screen, pressed = Screen(), []
    screen.feed(b"hung")
    keyboard = serial_keyboard(pressed.append, screen, patience=0.05)
    with pytest.raises(Unreachable, match="the key 'down' had no effect, pressed 3 times") as caught:
        keyboard.press("down")
    assert pressed == [b"\x1b[B"] * 3
    assert isinstance(caught.value.outcome, Stalled)
    assert caught.value.last_words == "hung"


def test_the_machine_ends_while_a_key_is_waited_for() -> None:
    """That is told at once, as what it is."""
    screen, machine = Screen(), Mortal()
    screen.follow(machine)
    keyboard = serial_keyboard(lambda _: machine.end(PoweredOff(last_words="")), screen)
    with pytest.raises(Unreachable, match="the guest switched the machine off") as caught:
        keyboard.press("enter")
    assert caught.value.outcome == PoweredOff(last_words="")


def test_a_countdown_is_no_effect() -> None:
    """A key does not count as taken because a countdown went on meanwhile."""
    screen, pressed = Screen(), []

    def tick(data: bytes) -> None:
        pressed.append(data)
        screen.feed(b"\x1b[1;1HBoot in %d s. \x1b[5;5H" % (11 - len(pressed)))
        if len(pressed) == 3:
            screen.feed(b"\x1b[1;1H\x1b[2K")

    screen.feed(b"\x1b[1;1HBoot in 11 s.\x1b[5;5H")
    serial_keyboard(tick, screen, patience=0.05).press("down")
    assert len(pressed) == 3


def test_typing_waits_for_the_echo() -> None:
    """Each character is typed when the one before it is there; dropped ones are typed again, and no others."""
    screen, heard = Screen(), []

    def echo(data: bytes) -> None:
        heard.append(data)
        if len(heard) % 3:
            screen.feed(data)

    serial_keyboard(echo, screen, patience=0.2).type("quiet  splash")
    assert screen.text() == "quiet  splash"


def test_typing_a_password() -> None:
    """Without an echo the characters are typed once."""
    screen, heard = Screen(), []
    serial_keyboard(heard.append, screen).type("ab", echo=False)
    assert heard == [b"a", b"b"]


def test_the_emulated_keyboard() -> None:
    """It has the same shape and presses QEMU's keys."""
    screen, pressed = Screen(), []
    keyboard = emulated_keyboard(lambda names: (pressed.append(tuple(names)), screen.feed(b"x")), screen)  # type: ignore[func-returns-value]  # for its effects
    keyboard.press("ctrl-x")
    keyboard.send("A")
    assert pressed == [("ctrl", "x"), ("shift", "a")]
