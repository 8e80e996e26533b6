"""Bytes to a picture: decoding, sizes, highlighting, and any bytes at all."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.picture import Picture
from vmharness.vm.terminal import Terminal

MODE_CHANGE = b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\x1b[01;01H"


def shown(*pieces: bytes) -> Picture:
    """What is on a new screen after these pieces."""
    terminal = Terminal()
    for piece in pieces:
        terminal.feed(piece)
    return terminal.picture()


def size(picture: Picture) -> tuple[int, int]:
    """Columns and lines."""
    return len(picture.rows[0]), len(picture.rows)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\r\nnext", "plain\nnext"),
        ("[  OK  ] Größe … ✓".encode(), "[  OK  ] Größe … ✓"),
        (b"\xda\xc4\xc4\xbf\x1b[2;1H\xb3\x1b[2;4H\xb3\x1b[3;1H\xc0\xc4\xc4\xd9\x1b[H", "┌──┐\n│  │\n└──┘"),
        (b"\xc9\xcd\xcd\xbb\x1b[2;1H\xba\x1b[2;4H\xba\x1b[3;1H\xc8\xcd\xcd\xbc", "╔══╗\n║  ║\n╚══╝"),
        (b"\xc3\xc4\xb4 \xe9\x07", "├─┤ Θ"),
        (b"\x1b)0\x0elqk\x0f lqk\r\n\x1b(0lqk\x1b(Blqk", "┌─┐ lqk\n┌─┐lqk"),
        (b"a lone \x0eq in binary output", "a lone q in binary output"),
        (b"erased in a way that nobody knows\x1b[3K\x1b[4J", "erased in a way that nobody knows"),
        (b"\x18\x19 \x1e\x1f \x10\x11=Move Highlight", "↑↓ ▲▼ ►◄=Move Highlight"),
        ("a\u0301b\u200bc\u20ddd\u1160e".encode(), "ábcde"),
        ("漢字x".encode(), "漢字x"),
        (b"\xc2\x9b31mred\xc2\x90x", "31mredx"),
    ],
)
def test_firmware_and_linux_are_decoded(data: bytes, text: str) -> None:
    """CP437's boxes and arrows, UTF-8, combining and wide characters are shown as they are meant."""
    assert shown(data).text == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ab\x1b]0;title\x07cd", "abcd"),
        (b"ab\x1b]0;title\ncd", "ab\n  cd"),
        (b"ab\x1bPq#0\x1b\\cd", "abcd"),
        (b"ab\x1b[?1049hcd\x1b[>0q\x1b[?5h\x1b[?3h", "abcd"),
        (b"ab\x1b[6n\x1b[c\x1b[18t\x1b[!p\x1b(Bcd", "abcd"),
        (b"ab\x1b[12\ncd", "ab\n  cd"),
        (b"a\x1b[9999Cb\x1b[9999;9999Hc", "a" + " " * 78 + "b" + "\n" * 24 + " " * 79 + "c"),
        (b"one\x1b[1G\x1b[Ktwo\x1b[2D\x1b[Po", "to"),
    ],
)
def test_sequences(data: bytes, text: str) -> None:
    """Sequences that draw are obeyed; others, unknown and broken ones are swallowed, and none is shown."""
    assert shown(data).text == text


def test_it_starts_small_and_grows() -> None:
    """80x25 at first; what the cursor is sent to makes room, a program's question for the size does not."""
    assert size(shown(b"x")) == (80, 25)
    assert size(shown(b"\x1b[48;02Hx")) == (80, 50)
    assert size(shown(b"\x1b[31;99Hx")) == (100, 31)
    assert size(shown(b"\x1b[999;999Hx")) == (80, 25)
    assert size(shown(b"\x1b[5;2H" + b"x" * 98)) == (100, 25)
    assert size(shown(b"\x1b[1;1H" + b"x" * 98 + b"\x1b[2;2H\r" + b"x" * 98)) == (80, 25)
    assert shown(b"top\x1b[31;05Hx").lines[0] == "top"
    assert shown(b"\x1b[48;02Hlow").lines[47] == " low"


def test_a_change_of_mode_begins_anew() -> None:
    """Firmware does not say which mode it changes to: the size is found out again."""
    picture = shown(b"\x1b[48;02Hx", MODE_CHANGE, b"y")
    assert size(picture) == (80, 25)
    assert picture.text == "y"


def test_column_one_hundred() -> None:
    """EDK II writes column 100 with a colon for the digit ten."""
    assert shown(b"\x1b[01;99Hx\x1b[02;:0Hy").lines[1] == " " * 99 + "y"


@pytest.mark.parametrize(
    ("data", "selected"),
    [
        (b"\x1b[37m\x1b[40m one \x1b[2;1H\x1b[30m\x1b[47m two \x1b[3;1H\x1b[37m\x1b[40m three ", "two"),
        (b" one \x1b[2;1H\x1b[7m two \x1b[27m\x1b[3;1H three ", "two"),
        (b"\x1b[30m\x1b[47m\x1b[2J\x1b[1;1H one \x1b[2;1H\x1b[37m\x1b[40m two \x1b[30m\x1b[47m\x1b[3;1H three ", "two"),
        (b"\x1b[1mbold\x1b[0m and \x1b[32mgreen\x1b[0m", ""),
        (b"\x1b[2J", ""),
    ],
)
def test_the_selected_line(data: bytes, selected: str) -> None:
    """Text on another background than the screen's usual one is selected, whichever is usual; colours alone are not."""
    assert shown(data).selected() == selected


def test_a_theme_may_highlight_by_letters_alone() -> None:
    """In a box with a list the one line in other letters is selected, on the same background."""
    box = [b"\x1b[36m\x1b[44m\x1b[2;2H\xda" + b"\xc4" * 40 + b"\xbf"]
    box += [b"\x1b[%d;2H\xb3%-40s\x1b[%d;43H\xb3" % (row, b" entry %d" % row, row) for row in range(3, 13)]
    box += [b"\x1b[13;2H\xc0" + b"\xc4" * 40 + b"\xd9\x1b[37m\x1b[40m\x1b[15;1Hhelp"]
    chosen = b"\x1b[1m\x1b[37m\x1b[44m\x1b[5;3H%-40s" % b"*entry 5"
    picture = shown(b"\x1b[1;20HGNU GRUB", *box, chosen)
    assert picture.frame is not None
    assert picture.selected() == "*entry 5"


def test_changes_rise_with_what_is_drawn() -> None:
    """Drawing and moving the cursor count; swallowed sequences do not."""
    terminal = Terminal()
    assert terminal.feed(b"x")
    assert terminal.feed(b"\x1b[1;1H")
    assert not terminal.feed(b"\x1b[6n\x1b]0;t\x07\x1b[")
    assert terminal.changes == 2


RECORDED = b"".join(
    [
        MODE_CHANGE,
        b"\xda\xc4\xc4\xbf\r\n\xb3\x1b[0m\x1b[30m\x1b[47m x \xb3",
        "ü…✓".encode(),
        b"\x1b[31;:0Hy\x1b]0;t\x1b\\z",
    ]
)


@given(st.lists(st.integers(0, len(RECORDED)), max_size=8))
def test_cutting_changes_nothing(cuts: list[int]) -> None:
    """A piece may end anywhere, within a character or a sequence."""
    edges = [0, *sorted(cuts), len(RECORDED)]
    cut = shown(*[RECORDED[start:end] for start, end in pairwise(edges)])
    assert (cut.rows, cut.cursor) == (shown(RECORDED).rows, shown(RECORDED).cursor)


SEQUENCES = st.builds(
    lambda private, numbers, final: b"\x1b[" + private + b";".join(numbers) + final,
    st.sampled_from([b"", b"", b"?", b">", b"="]),
    st.lists(st.sampled_from([b"", b"0", b"1", b"5", b"38", b"2", b"99999", b"24", b"4"]), max_size=6),
    st.binary(min_size=1, max_size=1),
)


@given(st.lists(st.one_of(st.binary(max_size=40), SEQUENCES, st.text(max_size=10).map(str.encode)), max_size=30))
def test_any_bytes(pieces: list[bytes]) -> None:
    """No bytes whatever make it fail, and no control character is ever shown."""
    picture = shown(*pieces)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", picture.text.replace("\n", ""))
    assert all(len(row) == len(picture.rows[0]) for row in picture.rows)
    assert picture.text.replace("\n", "").isprintable() or not any(
        ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in picture.text.replace("\n", "")
    )
    assert 0 <= picture.cursor[0] < len(picture.rows)
    assert 0 <= picture.cursor[1] < len(picture.rows[0])
    picture.selected()


def test_a_string_without_an_end() -> None:
    """A control string that never ends does not swallow the following lines, and is not kept."""
    assert shown(b"\x1b]" + b"x" * 100_000, b"y\nnext").text.split("\n")[-1].strip() == "next"
