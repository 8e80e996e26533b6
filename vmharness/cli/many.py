"""The face of several builds at once: one line for each, live on a terminal, plain in a pipe."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click
from attrs import define, field
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vmharness.flows.many import Finished, Job, build_all, executor_for, jobs_for
from vmharness.flows.prepare import Options


def run(  # noqa: PLR0913 -- one parameter an option
    definitions: Sequence[Path], output: Path, options: Options, *, jobs: int, executor: str | None, as_json: bool
) -> int:
    """Build all and show how they fare; gives the exit code, that of the first failure in the order given."""
    with tempfile.TemporaryDirectory(prefix="vmharness-") as events:
        # Workers elsewhere cannot write into a folder of this machine.
        wanted = jobs_for(definitions, output, Path(events) if executor is None else None)
        board = Board(jobs=wanted)
        with executor_for(executor, jobs) as workers:
            if as_json:
                finished = build_all(wanted, options, workers, _print_json)
            elif sys.stderr.isatty():
                live = Live(board, console=Console(stderr=True), refresh_per_second=4)
                with live:
                    finished = build_all(wanted, options, workers, board.take)
            else:
                finished = build_all(wanted, options, workers, lambda one: click.echo(_line(one), err=True))
    for one in finished:
        if one.error and not as_json:
            click.echo(f"\n{one.job.definition}:\n{one.error}", err=True)
    return next((one.exit_code for one in finished if one.exit_code), 0)


@define
class Board:
    """The table that a terminal shows: a line for each build with its present step and its time."""

    jobs: tuple[Job, ...]
    finished: dict[Job, Finished] = field(factory=dict)
    _started: float = field(factory=time.monotonic)
    _lock: threading.Lock = field(factory=threading.Lock)

    def take(self, one: Finished) -> None:
        """Note a build that has ended."""
        with self._lock:
            self.finished[one.job] = one

    def __rich__(self) -> Table:
        """The table as it stands."""
        table = Table.grid(padding=(0, 2))
        with self._lock:
            for job in self.jobs:
                table.add_row(*self._row(job))
        return table

    def _row(self, job: Job) -> tuple[Text, str, Text]:
        one = self.finished.get(job)
        if one is None:
            step = _last_step(job)
            return Text(">" if step else "·", style="cyan"), job.output.name, Text(step or "waits", style="dim")
        if one.error:
            return Text("✗", style="red"), job.output.name, Text(one.error.splitlines()[0], overflow="ellipsis")
        return Text("✓", style="green"), job.output.name, Text(f"{one.seconds:.1f} s", style="dim")


def _last_step(job: Job) -> str:
    """The step that a build on this machine is at, from its events."""
    if job.events is None or not job.events.exists():
        return ""
    for line in reversed(job.events.read_text().splitlines()):
        if line.endswith("}"):
            event = json.loads(line)
            if event["event"] in ("StepStarted", "StepFinished"):
                return str(event["step"])
    return ""


def _line(one: Finished) -> str:
    mark = "!!" if one.error else "ok"
    return f"{mark} {one.job.output.name:<46} {one.seconds:6.1f} s"


def _print_json(one: Finished) -> None:
    click.echo(
        json.dumps(
            {
                "event": "BuildFinished",
                "definition": str(one.job.definition),
                "output": str(one.job.output),
                "seconds": round(one.seconds, 3),
                "exit_code": one.exit_code,
                "error": one.error,
            }
        )
    )
