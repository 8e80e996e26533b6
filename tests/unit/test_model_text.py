"""Untrusted text of a guest made harmless."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.text import Cleaner, harmless

# Bytes in which sequences, their beginnings and their ends are as likely as text.
PARTS = st.sampled_from([
    b"\x1b", b"[", b"]", b"P", b"\\", b"\x07", b"(", b" ", b";", b"0", b"31", b"m", b"H", b"a", b"\r", b"\n", b"\t",
    b"\x9b", b"\xc2\x9b", b"\xe2\x82\xac", b"\xe2", b"\x82", b"\xff", b"\x00", b"\x7f", b"\x18",
])  # fmt: skip
STREAMS = st.lists(PARTS, max_size=40).map(b"".join) | st.binary(max_size=40)


def cleaned(*pieces: bytes, lone_return: str = "\n") -> str:
    cleaner = Cleaner(lone_return=lone_return)
    return "".join([*map(cleaner.feed, pieces), cleaner.feed(b"", final=True)])


def controls(text: str) -> set[str]:
    return {character for character in text if unicodedata.category(character) == "Cc"}


@given(STREAMS)
def test_no_control_characters_ever(stream: bytes) -> None:
    """Whatever a guest prints, newline and tab are the only control characters that are left."""
    assert controls(cleaned(stream)) <= {"\n", "\t"}
    assert controls(harmless(stream.decode("latin-1"))) <= {"\t"}


@given(STREAMS, st.lists(st.integers(0, 60), max_size=6), st.sampled_from(["\n", " "]))
def test_cutting_changes_nothing(stream: bytes, cuts: list[int], lone_return: str) -> None:
    """Text that comes in pieces is the text that comes whole."""
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert cleaned(*pieces, lone_return=lone_return) == cleaned(stream, lone_return=lone_return)


@given(st.lists(STREAMS.map(lambda line: line.replace(b"\n", b"")), max_size=5))
def test_lines_stay_lines(lines: list[bytes]) -> None:
    """Nothing in a line can swallow its end, or make another one where a lone return is a blank."""
    assert cleaned(b"\n".join(lines), lone_return=" ").count("\n") == max(len(lines) - 1, 0)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs"))))
def test_text_stays_text(text: str) -> None:
    """What holds no control character is not changed."""
    assert cleaned(text.encode()) == text
    assert harmless(text) == text


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"one\r\ntwo\r\r\nthree\n", "one\ntwo\nthree\n"),
        (b"50%\r100%", "50%\n100%"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b[?25l\x1b[2J\x1b[01;01Hmenu", "menu"),
        (b"\x1b]0;title\x07prompt", "prompt"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1bP1$r0m\x1b\\after", "after"),
        (b"\x1b]0;never ends\nnext line", "\nnext line"),
        (b"\x1b[12\nnext line", "\nnext line"),
        (b"\x1b(Bplain\x1b=\x1bc", "plain"),
        (b"\x1b\x1b[31m[32mx", "[32mx"),
        (b"\xc2\x9b31mx", "31mx"),
        (b"\xe2\x82\xac \xe2\x82 \xff", "\u20ac \ufffd \ufffd"),
        (b"a\x00b\x08c\x7fd\te", "abcd\te"),
    ],
)
def test_sequences(stream: bytes, text: str) -> None:
    """Sequences go as terminals take them; what belongs to none stays."""
    assert cleaned(stream) == text


def test_a_beginning_is_held_back() -> None:
    """What may go on is not shown before it is known what it is; at the end it is dropped."""
    cleaner = Cleaner()
    assert cleaner.feed(b"a\x1b[3") == "a"
    assert cleaner.feed(b"1mb\r") == "b"
    assert cleaner.feed(b"\nc\xe2\x82") == "\nc"
    assert cleaner.feed(b"\xac\x1b") == "\u20ac"
    assert cleaner.feed(b"", final=True) == ""


@pytest.mark.parametrize("beginning", [b"\x1b]0;", b"\x1b[", b"\x1bP", b"\x1b(", b"\r"])
def test_an_endless_sequence_takes_no_memory(beginning: bytes) -> None:
    """A guest cannot fill our memory with a sequence that never ends."""
    cleaner = Cleaner()
    cleaner.feed(beginning)
    for _ in range(100):
        cleaner.feed(beginning[-1:] * 10_000 if beginning != b"\x1b(" else b" " * 10_000)
    assert len(cleaner._rest) < 10


def test_harmless_lines() -> None:
    """A line for a person's terminal stays one line."""
    assert harmless("\x1b[31mred\x1b[0m\nand\r \x1b]0;x\x07more") == "red and more"
