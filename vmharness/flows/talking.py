"""One entry of a dialogue with an installer: waited for, and answered; in an install, and again by hand."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import assert_never

from attrs import frozen

from vmharness.errors import GuestError, Unreachable
from vmharness.flows.run import Run
from vmharness.model.dialogue import End, Entry, Sight
from vmharness.model.keys import Terminal, key
from vmharness.model.outcome import Died, Ended, PoweredOff, Stalled, describe
from vmharness.model.text import harmless
from vmharness.vm.following import Follower, Found
from vmharness.vm.machine import Machine
from vmharness.vm.ocr import wait_for_picture

_BETWEEN_KEYS_SECONDS = 0.1
_LONGEST = 2000


@frozen(kw_only=True)
class Installer:
    """An installer at work: its machine, and what it has shown."""

    machine: Machine
    follower: Follower


def talk(installer: Installer, entry: Entry, run: Run) -> str:
    """Wait for what an entry expects and do what it says, as a part of the run; it can be done any number of times.

    An entry that is to stop the run only waits: whoever runs the entry after that does the rest.

    :returns: what was seen.
    :raises GuestError: what is expected does not come.
    """
    with run.part(entry.name):
        found = _wait(installer, entry, run)
        if found.text.strip():
            run.say(harmless(found.text)[:_LONGEST])
        if not entry.stop:
            _act(installer, entry, found)
    return found.text


def _wait(installer: Installer, entry: Entry, run: Run) -> Found:
    """What the entry expects, once it is there.

    :raises GuestError: it does not come.
    """
    follower, within = installer.follower, entry.deadline
    match entry.sight:
        case Sight.NOTHING:
            return Found(text="", read=0)
        case Sight.END:
            return _wait_for_end(installer, entry)
        case Sight.CONSOLE:
            found = follower.wait_for_text(re.compile(entry.expected, re.MULTILINE), within=within)
            if isinstance(found, Found):
                return found
            raise _failed(entry, found, "printed", installer)
        case Sight.SCREEN:
            seen = follower.screen.wait_for(entry.expected, within=within)
        case Sight.DISPLAY:
            picture = run.directory.path / "screen.png"
            seen = wait_for_picture(
                lambda: _pictured(installer.machine, picture),
                entry.expected,
                within=within,
                ending=lambda: installer.machine.ending,
            )
        case _:
            assert_never(entry.sight)
    if isinstance(seen, re.Match):
        return Found(text=seen[0], read=follower.all_read())
    raise _failed(entry, seen, "shown", installer)


def _wait_for_end(installer: Installer, entry: Entry) -> Found:
    ended = installer.follower.wait_for_end(within=entry.deadline)
    off = isinstance(ended, PoweredOff)
    reset = isinstance(ended, Died) and ended.by_reset
    wanted = End(entry.expected)
    if (off and wanted is not End.RESET) or (reset and wanted is not End.POWER_OFF):
        return Found(text=describe(ended), read=0)
    raise _failed(entry, ended, "done", installer)


def _pictured(machine: Machine, path: Path) -> Path:
    machine.screenshot(path)
    return path


def _act(installer: Installer, entry: Entry, found: Found) -> None:
    installer.follower.read(found.read)
    machine = installer.machine
    if entry.send:
        machine.log.send(entry.send.encode())
    for number, name in enumerate(entry.keys):
        if number:
            time.sleep(_BETWEEN_KEYS_SECONDS)  # a person's pace: firmware and boot loaders drop what comes faster
        pressed = key(name)
        if entry.sight is Sight.DISPLAY:
            machine.send_keys(pressed.qcodes)
        else:
            machine.log.send(pressed.sequence_for(Terminal.VT100))


def _failed(entry: Entry, outcome: Stalled | Ended, verb: str, installer: Installer) -> GuestError:
    """What went wrong, with what the installer showed last: its screen where that was looked at."""
    expected = f"expected '{entry.expected}', which was not {verb}"
    if isinstance(outcome, Stalled):
        what = f"{expected} within {outcome.seconds:.0f} s"
    else:
        what = f"{expected}: {describe(outcome)}"
    if entry.sight is Sight.SCREEN:
        what += _screen_text("its screen shows", installer.follower.screen.text())
    elif entry.sight is Sight.DISPLAY and isinstance(outcome, Stalled):
        what += _screen_text("on its display can be read", outcome.last_words)
    words = "" if entry.sight is Sight.SCREEN else installer.follower.last_lines()
    return Unreachable(what, None, None, words, outcome)


def _screen_text(title: str, text: str) -> str:
    lines = [harmless(line) for line in text.splitlines()]
    return "\n".join([f"\n{title}:", *(f"  | {line}" for line in lines or ["(nothing)"])])
