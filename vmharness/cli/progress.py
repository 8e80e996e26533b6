"""What a person, a pipe or a program sees while a run lives: three sinks for its events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from attrs import define

from vmharness.events import (
    CheckpointTaken,
    Emit,
    Event,
    MilestoneReached,
    Note,
    Published,
    RunStarted,
    StepFailed,
    StepFinished,
    StepOutput,
    fan_out,
    to_json,
)
from vmharness.model.sizes import format_size
from vmharness.model.text import harmless

NAME_WIDTH = 46


@contextmanager
def sink(*, as_json: bool, verbose: bool) -> Iterator[Emit]:
    """The sink that suits standard output: JSON lines, a live list on a terminal, plain lines otherwise.

    It names the run directory when the run is interrupted.
    """
    with run_directory_named("nothing was published; ") as remember:
        if as_json:
            yield fan_out(remember, lambda event: click.echo(to_json(event)))
        elif sys.stderr.isatty() and not verbose:
            from vmharness.cli.live import live_list  # noqa: PLC0415 -- rich costs 50 ms, and only terminals need it

            with live_list() as emit:
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
            case CheckpointTaken(name=name, seconds=seconds, size=size, wanted=wanted) if wanted or self.verbose:
                return f"-- checkpoint {name}: {seconds:.2f} s, {format_size(size)}"
            case StepFinished(step=step, seconds=seconds):
                return f"ok {step:<{NAME_WIDTH}} {seconds:6.1f} s"
            case StepFailed(step=step, seconds=seconds):
                return f"!! {step:<{NAME_WIDTH}} {seconds:6.1f} s"
            case MilestoneReached(milestone=milestone, seconds=seconds):
                return f"ok reached {milestone:<{NAME_WIDTH - 8}} {seconds:6.1f} s"
            case Published(directory=directory, files=files):
                return f"-- published in {near(directory)}: {', '.join(files)}"
            case _:
                return None


def near(path: Path) -> Path:
    """A path as a person would type it: relative where it lies under the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
