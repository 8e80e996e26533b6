"""One run: its directory, its events, and how long each part took."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field

from vmharness.errors import HostError, SpecError, VmharnessError
from vmharness.events import (
    Emit,
    Event,
    Note,
    RunStarted,
    StepFailed,
    StepFinished,
    StepOutput,
    StepStarted,
    fan_out,
    to_json,
)
from vmharness.host import rundir
from vmharness.host.rundir import RunDirectory


@define
class Run:
    """A run under way.

    :param directory: holds its evidence.
    :param emit: takes its events.
    :param seconds: how long each finished part took, by name, in order.
    :param keep: whether the directory is kept although all went well.
    :param current: the part that is running, or the last one.
    """

    directory: RunDirectory
    emit: Emit
    seconds: dict[str, float] = field(factory=dict)
    current: str = ""
    keep: bool = False

    def note(self, text: str) -> None:
        """Say one line."""
        self.emit(Note(text=text))

    def say(self, line: str, stream: str = "stdout") -> None:
        """Pass on a line of output of the running part."""
        self.emit(StepOutput(step=self.current, stream=stream, line=line))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Announce and time a part of the run, whether it belongs to the host or to the guest."""
        self.current = name
        self.emit(StepStarted(step=name))
        started = time.monotonic()
        try:
            yield
        except BaseException as error:
            self.emit(
                StepFailed(step=name, seconds=time.monotonic() - started, error=str(error) or type(error).__name__)
            )
            raise
        self.seconds[name] = time.monotonic() - started
        self.emit(StepFinished(step=name, seconds=self.seconds[name]))


@contextmanager
def recorded(what: str, name: str, emit: Emit, *, keep_always: bool = False) -> Iterator[Run]:
    """A run whose events are on disk while it lives.

    Its directory is removed when all went well, and when the user's file or the host was at fault before anything
    happened that is worth looking at; it is kept when something failed or was interrupted, with its evidence.

    :param keep_always: keep it also when all went well.
    """
    directory = rundir.create(name)
    keep = True
    try:
        with (
            directory.events.open("w", encoding="utf-8") as events,
            directory.commands.open("w", encoding="utf-8", errors="replace") as steps,
        ):
            turn = threading.Lock()  # the console's lines come from a thread of their own

            def record(event: Event) -> None:
                with turn:
                    events.write(to_json(event) + "\n")
                    events.flush()
                    if isinstance(event, StepOutput) and event.stream != "console":
                        steps.write(f"[{event.step}] {event.line}\n")
                        steps.flush()

            run = Run(directory=directory, emit=fan_out(record, emit))
            run.emit(RunStarted(what=what, run_directory=directory.path))
            yield run
        keep = keep_always or run.keep
    except (SpecError, HostError) as error:
        keep = _points_inside(error, directory)
        raise
    finally:
        if not keep:
            directory.remove()


def reproduce_command(directory: RunDirectory) -> str:
    """The command that enters a build whose run directory this is."""
    return f"vmharness reproduce {shlex.quote(str(directory.path))}"


def _points_inside(error: VmharnessError, directory: RunDirectory) -> bool:
    return error.evidence is not None and error.evidence.is_relative_to(directory.path)
