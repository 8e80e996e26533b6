"""Screens and transcripts for people: nothing in them is obeyed by a terminal or a page."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from screens import picture_of, recording

from vmharness.vm.rendering import STYLESHEET, render_html, render_terminal, render_text, transcript_end


def test_a_screen_as_text() -> None:
    """The lines stand in a border of their width."""
    assert render_text(picture_of(b"one\r\nthree\r\n")) == "+-----+\n|one  |\n|three|\n+-----+"
    assert render_text(picture_of(b"")) == "++\n||\n++"


@given(st.binary(max_size=200))
def test_a_screen_on_a_terminal(data: bytes) -> None:
    """What is drawn on a terminal is the same screen, with the cursor in its place; a guest's bytes do nothing else."""
    before = picture_of(data)
    after = picture_of(render_terminal(before))
    assert after.lines == before.lines
    assert after.cursor == before.cursor or len(before.rows) != len(after.rows)


def test_colours_on_a_terminal() -> None:
    """Colours and bold letters are kept, and what is highlighted with them."""
    before = picture_of(b"plain \x1b[1;31;42mred\x1b[0m \x1b[7m<Continue>\x1b[0m Disk? ")
    assert picture_of(render_terminal(before)).rows == before.rows


def test_a_screen_as_html() -> None:
    """Text is escaped, and colours are classes that the style sheet knows."""
    page = render_html(picture_of(b"\x1b[1m\x1b[31;42m<b>&\x1b[0m \x1b[38;5;202mx\x1b[0m\x1b[97my\r\n\r\nz"))
    assert '<span class="fg-red bg-green bold">&lt;b&gt;&amp;</span>' in page
    assert '<span class="fg-red">x</span>y\n\nz</pre>' in page
    for name in re.findall(r"[fb]g-[a-z]+", page):
        assert f".{name} " in STYLESHEET


def test_a_menu_as_html() -> None:
    """The selected line of a recorded menu can be told from the others."""
    page = render_html(picture_of(recording("ovmf-grub-menu")))
    assert re.search(r'<span class="bg-blue bold">\*GNU/Linux +</span>', page)


def test_the_end_of_a_transcript() -> None:
    """Of a long transcript the last lines are shown, however it begins."""
    data = b"".join(b"[ %4d.0] \x1b[32mline\x1b[0m\r\n" % number for number in range(3000))
    picture = transcript_end(data, lines=20)
    assert picture.lines[-2] == "[ 2999.0] line"
    assert len(picture.lines) == 20
    assert "fg-green" in render_html(picture)


@given(st.binary(max_size=300))
def test_no_bytes_get_through(data: bytes) -> None:
    """Whatever a guest prints, neither control characters nor markup come out."""
    picture = transcript_end(data)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", render_text(picture))
    page = re.sub(r'</?pre[^<>]*>|<span class="[a-z -]+">|</span>', "", render_html(picture))
    assert "<" not in page
    assert ">" not in page
