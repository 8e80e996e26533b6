"""Into a booted system: commands and files, the same over its serial login (``shell``) and over SSH (``ssh``).

A command runs as ``/bin/sh -c COMMAND``, whatever the user's login shell is, in the user's home directory, without
standard input, with its outputs in files that are fetched when it has ended. So both ways give its exit status and
both outputs byte by byte, and neither waits for what the command has left running in the background. Its environment is
that of the login.
"""

from __future__ import annotations

import shlex
import time
from abc import ABC, abstractmethod
from pathlib import Path

from attrs import field, frozen

from vmharness.errors import ApiMisuse, CommandFailed, Unreachable
from vmharness.model.outcome import Stalled
from vmharness.model.results import CommandResult
from vmharness.model.text import harmless
from vmharness.vm.guest import unreachable

FILE_SECONDS = 120.0
"""How long a file may take unless the caller says otherwise."""

_LONGEST_COMMAND = 100_000  # Linux takes arguments of up to 128 KiB (MAX_ARG_STRLEN)
_TAIL_LINES = 20
_TAIL_BYTES = 8192


@frozen(kw_only=True)
class Deadline:
    """A wait for ``waiting_for`` of at most ``within`` seconds in all."""

    waiting_for: str
    within: float
    started: float = field(factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds that are left; never less than 0."""
        return max(self.within - self.seconds, 0.0)

    def missed(self, last_words: str) -> Unreachable:
        """The error for a deadline that has passed."""
        return unreachable(Stalled(waiting_for=self.waiting_for, seconds=self.seconds, last_words=last_words))


class Inside(ABC):
    """A user of a booted system."""

    def run(self, command: str, *, within: float, check: bool = True) -> CommandResult:
        """Run a command line of POSIX shell.

        :param within: seconds, its outputs' way to us included; the command is interrupted when they have passed.
        :param check: whether an exit status other than 0 is an error.
        :raises CommandFailed: it ended with another status than 0.
        :raises Unreachable: the machine ended, or the command did not end in time.
        """
        if len(command.encode("utf-8", "surrogateescape")) > _LONGEST_COMMAND or "\0" in command:
            raise ApiMisuse("a command cannot have a zero byte or more than 100,000 bytes: put a script, and run that")
        result = self._run(command, Deadline(waiting_for=f"end of the command '{_shortened(command)}'", within=within))
        if check and result.status != 0:
            raise _failed(f"the command '{_shortened(command)}' ended with status {result.status}", result)
        return result

    def put(self, source: bytes | Path, target: str, *, mode: int | None = None, within: float = FILE_SECONDS) -> None:
        """Write a file in the guest; one that is there is overwritten and keeps its owner.

        :param source: its content, or a file of the host that has it.
        :param mode: its permissions; None leaves them as they are, or as the user's umask makes them.
        :param within: seconds.
        :raises: as :meth:`run`; also OSError when the host's file cannot be read.
        """
        place = _path(target)
        finish = f"cat >{place}" if mode is None else f"cat >{place} && chmod {mode:o} {place}"
        result = self._write(source, finish, Deadline(waiting_for=f"end of writing {target}", within=within))
        if result.status != 0:
            raise _failed(f"{target} cannot be written in the guest", result)

    def get(self, path: str, *, within: float = FILE_SECONDS) -> bytes:
        """Read a file of the guest; one without a size, such as those in /proc, too.

        :param within: seconds.
        :raises: as :meth:`run`.
        """
        result = self._read(f"cat {_path(path)}", Deadline(waiting_for=f"end of reading {path}", within=within))
        if result.status != 0:
            raise _failed(f"{path} cannot be read in the guest", result)
        return result.stdout

    @abstractmethod
    def _run(self, command: str, deadline: Deadline) -> CommandResult:
        """Run a command."""

    def _read(self, command: str, deadline: Deadline) -> CommandResult:
        """Run a command whose output may be larger than the guest's memory."""
        return self._run(command, deadline)

    @abstractmethod
    def _write(self, source: bytes | Path, command: str, deadline: Deadline) -> CommandResult:
        """Run a command that gets ``source`` as its standard input."""


def _path(path: str) -> str:
    """A path as a word of shell that no program takes for an option."""
    if "\0" in path or not path:
        raise ApiMisuse("a path cannot be empty or have a zero byte")
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def _failed(what: str, result: CommandResult) -> CommandFailed:
    output = result.stderr if result.stderr.strip() else result.stdout
    lines = output[-_TAIL_BYTES:].decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    return CommandFailed(what, None, None, "\n".join(map(harmless, lines)), result.status)


def _shortened(command: str) -> str:
    first, *rest = command.strip().splitlines() or [""]
    return harmless(f"{first[:80]} ..." if rest or len(first) > 80 else first)
