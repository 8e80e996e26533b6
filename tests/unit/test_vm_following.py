"""What an installer has shown: waited for, read, and saved beside a checkpoint."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from vmharness.model.outcome import Ended, PoweredOff, Stalled
from vmharness.vm.following import UNREAD_NAME, Follower, Found


class Mortal:
    """Something that ends when it is told to."""

    def __init__(self) -> None:
        self.ending: Ended | None = None
        self.listeners: list[Callable[[], None]] = []

    def when_ended(self, listener: Callable[[], None]) -> None:
        """Call it at the end."""
        self.listeners.append(listener)

    def end(self) -> None:
        """End."""
        self.ending = PoweredOff(last_words="")
        for listener in self.listeners:
            listener()


def found(follower: Follower, pattern: str) -> Found:
    seen = follower.wait_for_text(re.compile(pattern), within=5)
    assert isinstance(seen, Found), seen
    return seen


def test_text_stays_until_it_is_read() -> None:
    """A question that came early is found, again and again, until it counts as read; what came after it stays."""
    follower = Follower()
    follower.feed(b"\x1b[1mDisk?\x1b[0m \r\nName? ")
    assert found(follower, "Disk").text == "Disk"
    follower.read(found(follower, r"Disk\?").read)
    assert isinstance(follower.wait_for_text(re.compile("Disk"), within=0), Stalled)
    assert found(follower, "Name").text == "Name"


def test_wait_is_woken() -> None:
    """A text that comes in pieces, and from another thread, is found."""
    follower = Follower()
    threading.Timer(0.05, lambda: (follower.feed(b"In"), follower.feed(b"stalled"))).start()
    assert found(follower, "Installed").text == "Installed"


def test_end_is_told_after_the_text() -> None:
    """What was printed before the machine's end is looked at first; then a wait ends with it."""
    follower, machine = Follower(), Mortal()
    follower.follow(machine)
    follower.feed(b"bye")
    machine.end()
    assert found(follower, "bye").text == "bye"
    assert isinstance(follower.wait_for_text(re.compile("more"), within=5), PoweredOff)
    assert isinstance(follower.wait_for_end(within=5), PoweredOff)


def test_no_end() -> None:
    """A machine that goes on has not ended."""
    follower = Follower()
    follower.feed(b"still here")
    stalled = follower.wait_for_end(within=0)
    assert isinstance(stalled, Stalled)
    assert stalled.last_words == "still here"


def test_saved_and_loaded(tmp_path: Path) -> None:
    """Another follower goes on with the same unread text and the same screen."""
    follower = Follower()
    follower.feed(b"\x1b[2J\x1b[5;10HDisk? \x1b[6;10HName? ")
    follower.read(found(follower, r"Disk\?").read)
    follower.save(tmp_path)
    again = Follower()
    again.load(tmp_path)
    assert again.screen.text() == follower.screen.text()
    assert isinstance(again.wait_for_text(re.compile("Disk"), within=0), Stalled)
    assert found(again, "Name").text == "Name"


@pytest.mark.parametrize("text", ["", "{}", "[1"])
def test_damaged_state_is_refused(tmp_path: Path, text: str) -> None:
    """A file that holds no text is none that was saved."""
    Follower().save(tmp_path)
    (tmp_path / UNREAD_NAME).write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        Follower().load(tmp_path)
