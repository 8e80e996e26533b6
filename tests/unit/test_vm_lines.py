"""Lines and deaths in a console's text, and the inbox between two threads; without a console."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.vm.inbox import Inbox
from vmharness.vm.lines import DEATHS, DeathPattern, Lines

PANIC = "\n[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\nnext\n"


class Heard:
    """Lines with everything that they handed over."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.deaths: list[tuple[str, str]] = []
        self.subject = Lines(deaths=DEATHS, on_line=self.lines.append, on_death=self.note)

    def note(self, death: DeathPattern, text: str) -> None:
        """Take a death."""
        self.deaths.append((death.name, text))

    def feed(self, *pieces: str) -> None:
        """Feed pieces and fall silent."""
        for piece in pieces:
            self.subject.feed(piece)
        self.subject.judge_unfinished()


def test_a_death_cut_anywhere() -> None:
    """However a panic is cut, it is reported once, with its whole line."""
    for first in range(len(PANIC)):
        for second in range(first, len(PANIC), 7):
            heard = Heard()
            heard.feed(PANIC[:first], PANIC[first:second], PANIC[second:])
            assert heard.deaths == [
                ("kernel panic", "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)")
            ]


def test_a_crash_of_the_firmware() -> None:
    """OVMF's dump of a processor's exception is a death, wherever it interrupts the console; talk of one is none."""
    heard = Heard()
    heard.feed("a log of !!!! nothing\n", "Shell> reconnect -r\n!!!! X64 Exception Type - 0D(#GP - General Protection)")
    assert heard.deaths == [("firmware exception", "!!!! X64 Exception Type - 0D(#GP - General Protection)")]


@given(st.text(st.sampled_from("ab\n"), max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_cutting_changes_no_lines(text: str, cuts: list[int]) -> None:
    """Lines and last words are the same in pieces as whole."""
    edges = [0, *sorted(cuts), len(text)]
    whole, pieces = Heard(), Heard()
    whole.feed(text)
    pieces.feed(*[text[start:end] for start, end in pairwise(edges)])
    assert whole.lines == pieces.lines == text.split("\n")[:-1]
    assert whole.subject.last_words == pieces.subject.last_words


def test_the_end_finishes_a_line() -> None:
    """What is unfinished when nothing more will come is handed over as a line, once, and stays among the last words."""
    heard = Heard()
    heard.feed("one\nLinux ver")
    assert heard.lines == ["one"]
    heard.subject.finish()
    heard.subject.finish()
    assert heard.lines == ["one", "Linux ver"]
    assert heard.subject.last_words == "one\nLinux ver"


def test_the_last_words_are_few() -> None:
    """Of many lines the last ones are kept, with the unfinished one."""
    heard = Heard()
    heard.feed("".join(f"{number}\n" for number in range(1000)) + "unfinished")
    assert heard.subject.last_words.split("\n") == [*(str(number) for number in range(960, 1000)), "unfinished"]


@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_a_long_line_comes_in_parts(pieces: int) -> None:
    """A line that is too long is handed over in parts; nothing of it is lost or doubled."""
    text = "".join(f"{number:06d}" for number in range(10_000))
    step = len(text) // pieces + 1
    heard = Heard()
    heard.feed(*[text[at : at + step] for at in range(0, len(text), step)], "\nnext\n")
    assert heard.lines[-1] == "next"
    assert "".join(heard.lines[:-1]) == text
    assert max(map(len, heard.lines)) <= 4096


def test_an_inbox_gives_what_was_put() -> None:
    """Text comes out in order, in pieces of bounded size, and the end comes last."""
    inbox = Inbox(lossless=True)
    for number in range(100):
        inbox.put(f"{number} " * 100)
    inbox.end()
    pieces = []
    while (piece := inbox.get(1)) is not None:
        pieces.append(piece)
    assert "".join(pieces) == "".join(f"{number} " * 100 for number in range(100))
    assert max(map(len, pieces)) <= 4096
    assert inbox.get(0) is None


def test_an_inbox_forgets_the_oldest() -> None:
    """A lossy inbox that nobody reads keeps the newest text, and not much of it."""
    inbox = Inbox(lossless=False)
    for number in range(300):
        inbox.put(f"{number:<10000}")
    inbox.put("newest")
    inbox.end()
    kept = "".join(iter(lambda: inbox.get(1) or "", ""))
    assert kept.endswith("newest")
    assert f"{299:<10000}" in kept
    assert len(kept) <= 1 << 20


def test_an_inbox_makes_the_writer_wait() -> None:
    """A lossless inbox that is full lets its writer go on when something was taken, or at the end."""
    inbox = Inbox(lossless=True)
    inbox.put("x" * (1 << 20))
    written = threading.Event()
    writer = threading.Thread(target=lambda: (inbox.put("y"), written.set()))
    writer.start()
    assert not written.wait(0.1)
    assert inbox.get(1) == "x" * 4096
    assert written.wait(1)
    writer.join()
    late = threading.Thread(target=inbox.put, args=("z",))
    late.start()
    inbox.end()
    late.join(1)
    assert not late.is_alive()


def test_an_empty_inbox() -> None:
    """Waiting for nothing ends at its limit; the end wakes a wait."""
    inbox = Inbox(lossless=False)
    with pytest.raises(TimeoutError):
        inbox.get(0.01)
    with pytest.raises(TimeoutError):
        inbox.get(-1)
    timer = threading.Timer(0.05, inbox.end)
    timer.start()
    started = time.monotonic()
    assert inbox.get(5) is None
    assert time.monotonic() - started < 1
    timer.join()
