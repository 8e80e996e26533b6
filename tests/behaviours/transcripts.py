"""Terminal sessions in documents (``console`` blocks), played again in a pseudo-terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pexpect
from attrs import frozen

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPTS = ("$ ", "appliance:/ # ", "vmharness> ")
_RUN_DIRECTORY = re.compile(r"/var/tmp/vmharness-1000/[a-z]+-\w+")
_CONTROL = {"^]": "\x1d", "^C": "\x03"}


@frozen(kw_only=True)
class Typed:
    """What a person types after a prompt."""

    prompt: str
    text: str


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a document."""
    return [text for found, text in _BLOCK.findall(document.read_text(encoding="utf-8")) if found == language]


def play(lines: Sequence[str], terminal: pexpect.spawn[str]) -> None:
    """Type what the block's person types into a shell, and see that what stands in the block comes, in its order.

    The block may leave lines out. Numbers and run directories may be others; a run directory that was shown is what is
    typed afterwards.
    """
    seen: dict[str, str] = {}
    for line in lines:
        typed = _typed(line)
        if typed is None:
            _expect(line, terminal, seen)
            continue
        terminal.expect(re.escape(typed.prompt).replace(":/\\ ", r".*:/ "))
        text = _RUN_DIRECTORY.sub(lambda name: seen[name[0]], typed.text)
        terminal.send(_CONTROL.get(text, f"{text}\r"))


def _typed(line: str) -> Typed | None:
    return next(
        (Typed(prompt=prompt, text=line.removeprefix(prompt)) for prompt in _PROMPTS if line.startswith(prompt)), None
    )


def _expect(line: str, terminal: pexpect.spawn[str], seen: dict[str, str]) -> None:
    name = _RUN_DIRECTORY.search(line)
    terminal.expect("".join(_pattern(line)))
    if name is not None:
        seen[name[0]] = terminal.match["directory"]


def _pattern(line: str) -> Iterator[str]:
    """A regular expression for a line: figures, the spaces before them and run directories may be others."""
    at = 0
    for found in re.finditer(rf"(?P<name>{_RUN_DIRECTORY.pattern})|(?P<figures> +\d+\.\d+ s)|\d+\.\d+", line):
        yield re.escape(line[at : found.start()])
        yield r"(?P<directory>/\S+)" if found["name"] else r" +\d+\.\d+ s" if found["figures"] else r"[\d.]+"
        at = found.end()
    yield re.escape(line[at:])
