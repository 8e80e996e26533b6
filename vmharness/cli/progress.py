"""What a person, a pipe or a program sees while a run lives: three sinks for its events."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from attrs import define, field
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from vmharness.events import (
    Emit,
    Event,
    MilestoneReached,
    Note,
    Published,
    RunStarted,
    StepFailed,
    StepFinished,
    StepOutput,
    StepStarted,
    fan_out,
    to_json,
)
from vmharness.model.text import harmless

_NAME_WIDTH = 46


@contextmanager
def sink(*, as_json: bool, verbose: bool) -> Iterator[Emit]:
    """The sink that suits standard output: JSON lines, a live list on a terminal, plain lines otherwise.

    It names the run directory when the run is interrupted.
    """
    with run_directory_named("nothing was published; ") as remember:
        if as_json:
            yield fan_out(remember, lambda event: click.echo(to_json(event)))
        elif sys.stderr.isatty() and not verbose:
            with _live() as emit:
                yield fan_out(remember, emit)
        else:
            yield fan_out(remember, Plain(verbose=verbose))


@contextmanager
def run_directory_named(words: str = "") -> Iterator[Emit]:
    """A sink that remembers the run directory and names it, after ``words``, when the run is interrupted."""
    started: list[RunStarted] = []

    def remember(event: Event) -> None:
        if isinstance(event, RunStarted):
            started.append(event)

    try:
        yield remember
    except KeyboardInterrupt:
        for event in started:
            click.echo(f"vmharness: {words}the run directory is {event.run_directory}", err=True)
        raise


@define
class Plain:
    """One line for each thing that happened, for pipes and logs."""

    verbose: bool

    def __call__(self, event: Event) -> None:
        """Write the event's line to standard error."""
        line = self.line(event)
        if line is not None:
            click.echo(line, err=True)

    def line(self, event: Event) -> str | None:  # noqa: PLR0911 -- one return for each kind
        """The line for an event, or None where it is not worth one."""
        match event:
            case Note(text=text):
                return f"-- {text}"
            case StepOutput(stream=stream, line=text) if self.verbose:
                return f"{'console' if stream == 'console' else '       '} | {harmless(text)}"
            case StepFinished(step=step, seconds=seconds):
                return f"ok {step:<{_NAME_WIDTH}} {seconds:6.1f} s"
            case StepFailed(step=step, seconds=seconds):
                return f"!! {step:<{_NAME_WIDTH}} {seconds:6.1f} s"
            case MilestoneReached(milestone=milestone, seconds=seconds):
                return f"ok reached {milestone:<{_NAME_WIDTH - 8}} {seconds:6.1f} s"
            case Published(directory=directory, files=files):
                return f"-- published in {near(directory)}: {', '.join(files)}"
            case _:
                return None


@define
class LiveList:
    """The list that a terminal shows: finished steps, the running one with its time, the guest's last line."""

    current: str = ""
    since: float = 0.0
    last_line: str = ""
    _lock: threading.Lock = field(factory=threading.Lock)

    def take(self, event: Event) -> Text | None:
        """Note an event; gives the line that stays, where it has one."""
        with self._lock:
            match event:
                case StepStarted(step=step):
                    self.current, self.since, self.last_line = step, time.monotonic(), ""
                case StepOutput(line=line):
                    self.last_line = harmless(line).strip() or self.last_line
                case StepFinished(step=step, seconds=seconds):
                    self.current = ""
                    return _line("✓", "green", step, seconds)
                case StepFailed(step=step, seconds=seconds):
                    self.current = ""
                    return _line("✗", "red", step, seconds)
                case MilestoneReached(milestone=milestone, seconds=seconds):
                    return _line("✓", "green", f"reached {milestone}", seconds)
                case Note(text=text):
                    return Text(f"  {text}", style="dim")
                case Published(directory=directory, files=files):
                    return Text.assemble(("→ ", "green"), f"{near(directory)}: ", (", ".join(files), "bold"))
                case _:
                    pass
        return None

    def __rich__(self) -> Group:
        """The running step and the guest's last line; drawn anew several times a second."""
        with self._lock:
            if not self.current:
                return Group()
            running = _line(">", "cyan", self.current, time.monotonic() - self.since)
            return Group(running, Text(f"  {self.last_line}", style="dim", no_wrap=True, overflow="ellipsis"))


def near(path: Path) -> Path:
    """A path as a person would type it: relative where it lies under the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _line(mark: str, colour: str, name: str, seconds: float) -> Text:
    return Text.assemble((mark, colour), f" {name:<{_NAME_WIDTH}}", (f"{seconds:6.1f} s", "dim"))


@contextmanager
def _live() -> Iterator[Emit]:
    console = Console(stderr=True, highlight=False)
    shown = LiveList()
    with Live(shown, console=console, refresh_per_second=8, transient=True) as live:

        def emit(event: Event) -> None:
            line = shown.take(event)
            if line is not None:
                live.console.print(line)

        yield emit
