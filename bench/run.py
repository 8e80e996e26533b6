"""Measures vmharness and prints a table: ``nox -s bench``, or ``python bench/run.py --help``.

A figure that misses its mark is shown as missed; that is a finding, not a failure of the run.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.status import Status

from bench import (
    appliance,
    builds,
    checkpoints,
    crowded,
    images,
    machine,
    memory,
    parallel,
    picture,
    population,
    startup,
)
from bench.context import Context, Skip
from bench.figures import Figure, Result, table, to_data
from bench.measure import Neighbours
from vmharness.errors import VmharnessError
from vmharness.host import accelerator, rundir

BENCHMARKS: dict[str, Callable[[Context], tuple[Figure, ...]]] = {
    "startup": startup.measure,
    "appliance": appliance.measure,
    "population": population.measure,
    "many-bytes": population.measure_many_bytes,
    "many-entries": population.measure_many_entries,
    "crowded": crowded.measure,
    "memory": memory.measure,
    "minimal": builds.measure_minimal,
    "debian": builds.measure_debian,
    "images": images.measure,
    "parallel": parallel.measure,
    "checkpoints": checkpoints.measure,
}
_SCREEN = Console(stderr=True)
_PAPER = Console(width=None if Console().is_terminal else 300)  # a file has no width: lines stay whole


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Runs of each side.")
@click.option("--only", default=",".join(BENCHMARKS), show_default=True, metavar="NAMES", help="Which, with commas.")
@click.option("--full", is_flag=True, help="Make the Debian trees that are not in the cache.")
@click.option("--large", is_flag=True, help="Populate from 10 GB and a million entries, too: long, and much disk.")
@click.option("--accel", default="auto", show_default=True, type=click.Choice(["auto", "kvm", "tcg"]))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything to this file, too.")
@click.option("--picture", "svg", type=click.Path(path_type=Path), help="Draw the builds' phases into this SVG file.")
def main(  # noqa: PLR0913, PLR0917 -- one parameter an option
    rounds: int, only: str, full: bool, large: bool, accel: str, json_file: Path | None, svg: Path | None
) -> None:
    """Measure vmharness beside what it is compared with, in one run, and print a table."""
    names = _chosen(only)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left behind
    verdict = accelerator.choose(accel)
    about = {**machine.describe(), "accelerator": verdict.reason, "load at the start": machine.load()}
    results = []
    # All is removed at the end and not before: on ext4 without a journal, files are made many times more slowly for a
    # while after others were deleted (fs/ext4/ialloc.c, recently_deleted), which would fall on whoever comes next.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_base()) as scratch, _SCREEN.status("") as status:
        for name in names:
            folder = Path(scratch) / name
            folder.mkdir()
            context = Context(
                rounds=rounds,
                full=full,
                large=large,
                scratch=folder,
                accelerator=verdict.accelerator,
                say=partial(_show, status, name),
            )
            results.append(run(name, context))
    report(results, about, rounds)
    if json_file is not None:
        facts = {"machine": about, "rounds": rounds, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
        json_file.write_text(json.dumps({**facts, "benchmarks": to_data(results)}, indent=2) + "\n")
    if svg is not None:
        svg.write_text(picture.draw(to_data(results), machine.in_one_line(about)))
    if any(result.failed for result in results):
        raise SystemExit(1)


def run(name: str, context: Context) -> Result:
    """One benchmark; what stops it is part of its result."""
    neighbours = Neighbours()
    try:
        context.say("begins")
        figures = BENCHMARKS[name](context)
    except Skip as reason:
        return Result(name=name, skipped=str(reason))
    except VmharnessError as error:
        return Result(name=name, failed=str(error))
    seconds, others = neighbours.seconds_and_processors()
    return Result(name=name, figures=figures, seconds=seconds, others=others)


def report(results: list[Result], about: dict[str, str], rounds: int) -> None:
    """Print the table, and under it what a reader must know to judge it."""
    _PAPER.print(table(results))
    for name, value in about.items():
        _PAPER.print(f"{name}: {value}", highlight=False)
    _PAPER.print(f"medians; rounds: {rounds}", highlight=False)
    for result in results:
        if result.figures:
            took = f"took {result.seconds:.0f} s, meanwhile others kept {result.others:.1f} processors busy"
            _PAPER.print(f"{result.name}: {took}", highlight=False)
        if result.skipped:
            _PAPER.print(f"{result.name} skipped: {result.skipped}", highlight=False)
        if result.failed:
            _PAPER.print(f"{result.name} failed: {result.failed}", highlight=False, style="red")


def _show(status: Status, name: str, line: str) -> None:
    status.update(f"{name}: {line}")


def _chosen(only: str) -> list[str]:
    names = only.split(",")
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise click.BadParameter(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return names


def _base() -> Path:
    """Where builds keep their run directories, too: a disk, not a filesystem in memory."""
    base = rundir.base_directory()
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    return base


if __name__ == "__main__":
    main()
