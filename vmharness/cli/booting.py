"""The face of ``vmharness boot``: watching a boot, or being its console."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vmharness.cli.progress import Plain, run_directory_named
from vmharness.errors import SpecError
from vmharness.events import Event, MilestoneReached, Note, StepOutput, fan_out
from vmharness.flows.boot import BootOptions, BootReport, attach, boot
from vmharness.host import tty
from vmharness.model.outcome import Panicked, Reached, describe
from vmharness.model.sizes import parse_size
from vmharness.model.text import harmless
from vmharness.vm.machine import Machine


def run(  # noqa: PLR0913 -- one parameter an option
    output: Path,
    *,
    until: str | None,
    seconds: float | None,
    memory: str,
    bios: bool,
    accel: str,
    report: Path | None,
    as_json: bool,
) -> int:
    """Boot and show it; gives the exit code."""
    try:
        size = parse_size(memory)
    except ValueError as error:
        raise SpecError(str(error), origin="<command line>", key="--memory") from error
    if report is not None and until is None:
        until = "login"
    options = BootOptions(until=until, accel=accel, memory=size, seconds=seconds, bios=bios, report=report)
    with run_directory_named() as remember:
        if until is None:
            attach(output, options, _connect, fan_out(remember, _show_notes))
            return 0
        came = boot(output, options, remember if as_json else fan_out(remember, _show_boot))
    if as_json:
        click.echo(json.dumps(_data(came), indent=2))
    else:
        colour = "green" if isinstance(came.outcome, Reached) else "red"
        click.secho(describe(came.outcome), fg=colour, err=True)
        click.echo(f"transcript: {came.transcript}", err=True)
    return 0 if isinstance(came.outcome, Reached) else 1


def _show_boot(event: Event) -> None:
    """The console live on standard output; what vmharness says on standard error."""
    if isinstance(event, StepOutput):
        click.echo(harmless(event.line))
    elif isinstance(event, MilestoneReached | Note):
        line = Plain(verbose=False).line(event)
        click.secho(line, fg="cyan", err=True)


def _show_notes(event: Event) -> None:
    if isinstance(event, Note):
        click.echo(f"-- {event.text}", err=True)


def _data(report: BootReport) -> dict[str, object]:
    outcome = report.outcome
    return {
        "outcome": type(outcome).__name__.lower(),
        "text": describe(outcome),
        "reached": isinstance(outcome, Reached),
        "pattern": outcome.pattern if isinstance(outcome, Panicked) else None,
        "milestones": report.milestones,
        "transcript": str(report.transcript),
        "run_directory": str(report.run_directory),
        "accelerator": report.accelerator,
    }


def _connect(machine: Machine) -> None:
    """Make the person's terminal the machine's console until Ctrl-] or the machine's end."""
    click.echo("-- your terminal is the machine's console now; Ctrl-] leaves and ends the machine", err=True)
    with tty.lent() as lent:
        machine.when_ended(lent.end)
        untap = machine.log.tap(tty.put)
        try:
            lent.run(machine.log.send)
        finally:
            untap()
    ending = machine.ending
    click.echo(f"\n-- {describe(ending)}" if ending is not None else "\n-- left; the machine is switched off", err=True)
