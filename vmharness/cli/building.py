"""The face of ``vmharness build`` for one definition: its progress, and what follows when it ends without an image."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vmharness.cli import progress
from vmharness.errors import BuildFailed, BuildStopped
from vmharness.flows.build import build
from vmharness.flows.prepare import Options


def run(  # noqa: PLR0913 -- one parameter an option
    definition: Path, output: Path, options: Options, *, on_failure: str, as_json: bool, verbose: bool
) -> int:
    """Build and show it; gives the exit code.

    :param on_failure: ``shell``, ``bundle`` or ``keep``.
    :raises VmharnessError: it failed, and nobody is there to enter it.
    """
    try:
        with progress.sink(as_json=as_json, verbose=verbose) as emit:
            build(definition, output, options, emit)
    except BuildStopped as stopped:
        return _entered(stopped, stopped.run_directory)
    except BuildFailed as failed:
        if not failed.enter or failed.run_directory is None or on_failure == "keep":
            raise
        if on_failure == "bundle":
            _bundle(failed.run_directory, output)
            raise
        return _entered(failed, failed.run_directory)
    return 0


def _entered(error: BuildFailed | BuildStopped, directory: Path | None) -> int:
    """Let the person at the terminal into the guest.

    :raises BuildFailed: nobody is there.
    """
    if directory is None or not sys.stdin.isatty():
        raise error
    from vmharness.cli import reproduce  # noqa: PLC0415 -- only who enters a build needs it

    click.echo(str(error), err=True)
    reproduce.run(reproduce.Order(source=directory, at=None, replay=False, check=None, lines=()))
    return error.exit_code


def _bundle(directory: Path, output: Path) -> None:
    from vmharness.flows.bundle import pack  # noqa: PLC0415 -- only failures need it

    target = output.absolute().with_name(f"{output.name}.vmbundle")
    target.unlink(missing_ok=True)  # an earlier failure of the same build
    click.echo(f"vmharness: all that is needed to enter it elsewhere is in {pack(directory, target)}", err=True)
