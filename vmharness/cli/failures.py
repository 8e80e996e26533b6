"""The verbs for builds that failed: ``vmharness reproduce`` and ``vmharness bundle``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from vmharness.cli.reporting import JSON, errors_reported


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True), metavar="RUNDIR|BUNDLE")
@click.option("--at", metavar="STEP|CHECKPOINT", help="Where to enter; by default before the step that failed.")
@click.option("--replay", is_flag=True, help="Run the build again from its beginning, instead of restoring its state.")
@click.option(
    "--bisect",
    "check",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="CHECK",
    help="Find the first step after which this script, run in the appliance, fails (125: it cannot tell).",
)
@click.option("--qmp", is_flag=True, help="Talk QMP with the machine of a session that is open in another terminal.")
@click.option("--steps", is_flag=True, help="List the steps.")
@click.option("--show", metavar="STEP", help="Show a step's parameters and script.")
@click.option("--put", nargs=2, multiple=True, metavar="FILE PATH", help="Copy a file into the guest.")
@click.option("--run", "commands", multiple=True, metavar="COMMAND", help="Run a command in the appliance.")
@click.option("--retry", is_flag=True, help="Run the step again.")
@click.option("--script", metavar="FILE", help="Run this edited copy of the step's script instead.")
@click.option("--efivars", "variables", is_flag=True, help="Show the EFI variables.")
@click.option("--get", nargs=2, multiple=True, metavar="PATH FILE", help="Copy a file out of the guest.")
@click.option("--continue", "output", metavar="FOLDER", help="Run the steps that are left, publish the image there.")
def reproduce(  # noqa: PLR0913, PLR0917 -- one parameter an option
    source: Path,
    at: str | None,
    replay: bool,
    check: Path | None,
    qmp: bool,
    steps: bool,
    show: str | None,
    put: tuple[tuple[str, str], ...],
    commands: tuple[str, ...],
    retry: bool,
    script: str | None,
    variables: bool,
    get: tuple[tuple[str, str], ...],
    output: str | None,
) -> None:
    """Enter a build that failed: a shell in its guest, in the state before the step that failed.

    Ctrl-] leaves the shell for a prompt whose verbs run the step again, rewind, go on, and publish the image. The
    options do the same without a person, in the order in which they are listed. RUNDIR or BUNDLE stays as it is.

    \b
    Example:
      vmharness reproduce /var/tmp/vmharness-1000/debian-x1y2z3
      vmharness reproduce debian.vmbundle --run 'rm /target/etc/bad' --retry --continue out/debian
    """
    from vmharness.cli import reproduce as face  # noqa: PLC0415

    with errors_reported(as_json=False):
        if qmp:
            face.talk_qmp(source)
            return
        lines = face.lines_of(
            steps=steps,
            show=show,
            put=put,
            commands=commands,
            retry=retry,
            script=script,
            efivars=variables,
            get=get,
            output=output,
        )
        sys.exit(face.run(face.Order(source=source, at=at, replay=replay, check=check, lines=lines)))


@click.command()
@click.argument("run_directory", metavar="RUNDIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="File that is made.")
@JSON
def bundle(run_directory: Path, output: Path | None, as_json: bool) -> None:
    """Pack RUNDIR, the run directory of a build that failed, into one file that opens elsewhere.

    It holds the whole disk and the guest's memory; without -o it lies beside RUNDIR, as RUNDIR.vmbundle.

    \b
    Example:
      vmharness bundle /var/tmp/vmharness-1000/debian-x1y2z3 -o debian.vmbundle
    """
    from vmharness.flows import bundle as flow  # noqa: PLC0415

    with errors_reported(as_json=as_json):
        made = flow.pack(run_directory, output or flow.default_target(run_directory))
        size = made.stat().st_size
        click.echo(
            json.dumps({"bundle": str(made.absolute()), "size": size}) if as_json else f"{made} ({size:,} bytes)"
        )
