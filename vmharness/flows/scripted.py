"""Dialogues that are Python files: ``def dialogue(installer)``, in which each call is an entry.

The file is run in this process, with its user's rights.
"""

from __future__ import annotations

import ast
import json
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from vmharness.errors import GuestError, SpecError, VmharnessError
from vmharness.host.rundir import RunDirectory
from vmharness.model.dialogue import ENDED, WITHIN_SECONDS, Entry, Sight
from vmharness.plan.dialogue import check_entry, default_name, free_name
from vmharness.plan.problem import Problem

_FUNCTION = "dialogue"


class ScriptedInstaller:
    """What a Python dialogue talks to. A call ends when it is done, and gives the text that was seen.

    Patterns are regular expressions, in which ``^`` and ``$`` are the ends of lines. ``within`` is in seconds on a
    machine with hardware acceleration.

    :param path: the file, for messages.
    :param do: does an entry.
    :param time_scale: what deadlines are multiplied by.
    """

    def __init__(self, path: Path, do: Callable[[Entry], str], time_scale: float) -> None:
        self.ended = False
        self._path = path
        self._do = do
        self._scale = time_scale
        self._names: set[str] = set()

    def expect(self, pattern: str, *, within: float = WITHIN_SECONDS) -> str:
        """Wait until the serial console has printed ``pattern`` since the last call."""
        return self._call(Sight.CONSOLE, pattern, within=within)

    def screen(self, pattern: str, *, within: float = WITHIN_SECONDS) -> str:
        """Wait until ``pattern`` is on the serial console's screen."""
        return self._call(Sight.SCREEN, pattern, within=within)

    def display(self, pattern: str, *, within: float = WITHIN_SECONDS) -> str:
        """Wait until ``pattern`` can be read on the graphical screen."""
        return self._call(Sight.DISPLAY, pattern, within=within)

    def send(self, text: str) -> None:
        """Type a text on the serial console; Enter is a carriage return."""
        self._call(Sight.NOTHING, "", send=text)

    def keys(self, *names: str) -> None:
        """Press keys at the serial console, one after the other."""
        self._call(Sight.NOTHING, "", keys=names)

    def stop(self) -> None:
        """Stop the run on purpose, to be entered."""
        self._call(Sight.NOTHING, "", stop=True)

    def end(self, how: str = ENDED.expected, *, within: float = ENDED.deadline) -> None:
        """Wait until the installer ends the machine: ``power-off``, ``reset``, or ``power-off or reset``."""
        self._call(Sight.END, how, within=within)
        self.ended = True

    def _call(  # noqa: PLR0913 -- an entry is all of these
        self,
        sight: Sight,
        expected: str,
        *,
        within: float = WITHIN_SECONDS,
        send: str = "",
        keys: tuple[str, ...] = (),
        stop: bool = False,
    ) -> str:
        line = _line_in(self._path)
        words = "stop" if stop else default_name(sight, expected, send, keys)
        name = free_name(f"line {line}: {words}"[:60], self._names) if line else free_name(words, self._names)
        self._names.add(name)
        entry = Entry(
            name=name,
            sight=sight,
            expected=expected,
            send=send,
            keys=keys,
            deadline=within * self._scale,
            stop=stop,
        )
        try:
            check_entry(entry)
        except Problem as problem:
            raise SpecError(problem.what, origin=f"{self._path}:{line}", allowed=problem.allowed) from problem
        return self._do(entry)


def follow(path: Path, do: Callable[[Entry], str], time_scale: float) -> None:
    """Run a dialogue to its end, and wait for the machine's end where it does not do that itself.

    :param path: the Python file.
    :param do: does an entry and gives what was seen.
    :param time_scale: what deadlines are multiplied by.
    :raises SpecError: it asks for what is no entry.
    :raises GuestError: an entry failed, or the file's own code did.
    """
    installer = ScriptedInstaller(path, do, time_scale)
    try:
        runpy.run_path(str(path))[_FUNCTION](installer)
    except VmharnessError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{path.name}, line {frames[-1].lineno}" if frames else path.name
        raise GuestError(f"the dialogue failed in {place}: {type(error).__name__}: {error}") from error
    if not installer.ended:
        installer.end()


def require_dialogue(path: Path) -> None:
    """Refuse a file that cannot be a dialogue, without running it.

    :raises SpecError: it is no Python, or has no such function.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise SpecError(f"line {error.lineno}: {error.msg}", origin=str(path)) from error
    except ValueError as error:
        raise SpecError(str(error), origin=str(path)) from error
    if not any(isinstance(part, ast.FunctionDef) and part.name == _FUNCTION for part in tree.body):
        raise SpecError(f"it has no function '{_FUNCTION}'", origin=str(path), allowed="def dialogue(installer): ...")


def remember(directory: RunDirectory, seen: Sequence[str]) -> None:
    """Note what the calls so far have seen."""
    directory.seen.write_text(json.dumps(list(seen)), encoding="utf-8")


def remembered(directory: RunDirectory) -> list[str]:
    """What :func:`remember` noted.

    :raises SpecError: it is damaged.
    """
    try:
        seen = json.loads(directory.seen.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"what the dialogue has seen cannot be read: {error}", origin=str(directory.seen)) from error
    if not isinstance(seen, list) or not all(isinstance(text, str) for text in seen):
        raise SpecError("what the dialogue has seen cannot be read: it is no list of texts", origin=str(directory.seen))
    return seen


def _line_in(path: Path) -> int:
    """The line of the file that is being run, or 0."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- the one way to ask who calls
    while frame is not None and frame.f_code.co_filename != str(path):
        frame = frame.f_back
    return 0 if frame is None else frame.f_lineno
