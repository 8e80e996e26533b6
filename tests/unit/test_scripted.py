"""Dialogues that are Python files: each call is an entry, named by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmharness.errors import GuestError, NotProven, SpecError
from vmharness.flows.scripted import follow, require_dialogue
from vmharness.model.dialogue import ENDED, End, Entry, Sight


def asked(folder: Path, body: str, seen: str = "") -> list[Entry]:
    """What a file with such a function asks for."""
    entries: list[Entry] = []

    def do(entry: Entry) -> str:
        entries.append(entry)
        return seen

    lines = "".join(f"    {line}\n" for line in body.splitlines())
    path = folder / "dialogue.py"
    path.write_text(f"def dialogue(installer):\n{lines}")
    follow(path, do, 4.0)
    return entries


def test_each_call_is_an_entry(tmp_path: Path) -> None:
    """Calls arrive in their order, with the line that they stand in and the accelerator's scale."""
    calls = ('expect("a", within=5)', 'send("x\\r")', 'keys("down", "enter")', 'end("reset")')
    body = "\n".join(f"installer.{call}" for call in calls)
    expect, send, keys, end = asked(tmp_path, body)
    assert expect == Entry(name="line 2: expect a", sight=Sight.CONSOLE, expected="a", deadline=20.0)
    assert (send.name, send.send) == ("line 3: send x", "x\r")
    assert (keys.name, keys.keys) == ("line 4: keys down enter", ("down", "enter"))
    assert (end.sight, end.expected) == (Sight.END, End.RESET.value)


def test_the_machine_must_end(tmp_path: Path) -> None:
    """A dialogue that does not wait for the machine's end waits for any end after its last line."""
    *_, end = asked(tmp_path, 'installer.screen("a")')
    assert (end.sight, end.expected, end.deadline) == (Sight.END, ENDED.expected, ENDED.deadline * 4)


def test_answers_are_given(tmp_path: Path) -> None:
    """A call gives what was seen, so a file can do one thing or another; a loop's entries have names of their own."""
    body = 'for _ in range(2):\n    if installer.expect("a|b") == "b":\n        installer.send("y")'
    names = [entry.name for entry in asked(tmp_path, body, seen="b")]
    assert names == [
        "line 3: expect a|b",
        "line 4: send y",
        "line 3: expect a|b (2)",
        "line 4: send y (2)",
        "end power-off or reset",
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('installer.expect("(")', "dialogue.py:2"),
        ('installer.keys("dwn")', "no key is called 'dwn'"),
        ('installer.end("soon")', "no end of a machine"),
    ],
)
def test_bad_calls(tmp_path: Path, body: str, words: str) -> None:
    """A call that is no entry is refused as a definition's would be, with its line."""
    with pytest.raises(SpecError) as caught:
        asked(tmp_path, body)
    assert words in str(caught.value)


def test_failures_of_the_file(tmp_path: Path) -> None:
    """The file's own errors are told with their line; those of entries pass."""
    with pytest.raises(GuestError, match=r"dialogue.py, line 3: ZeroDivisionError"):
        asked(tmp_path, 'installer.send("a")\n1 / 0')

    def do(_entry: Entry) -> str:
        raise NotProven("not so")

    path = tmp_path / "dialogue.py"
    with pytest.raises(NotProven):
        follow(path, do, 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [("x = 1\n", "no function 'dialogue'"), ("def dialogue(:\n", "line 1: invalid syntax"), ("\0", "null bytes")],
)
def test_files_without_a_dialogue(tmp_path: Path, text: str, words: str) -> None:
    """A file that cannot be one is refused before a machine is started."""
    path = tmp_path / "dialogue.py"
    path.write_text(text)
    with pytest.raises(SpecError, match=words):
        require_dialogue(path)
