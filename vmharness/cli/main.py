"""The command line: verbs, their options, and the exit code of each error. Flows are imported when a verb runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vmharness import __version__
from vmharness.cli.efivars import efivars
from vmharness.cli.failures import bundle, reproduce
from vmharness.cli.reporting import JSON, errors_reported

_EXIT_CODES = """
\b
Exit codes:
  0    done
  1    the build failed, or the boot did not reach its milestone
  2    the image definition or the command line is wrong
  3    the host lacks something
  4    QEMU failed
  5    the guest failed
  70   a bug in vmharness
  130  interrupted
"""

_ACCEL = click.option(
    "--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True, help="Accelerator."
)
_COLD = click.option("--cold", is_flag=True, help="Boot the appliance instead of resuming its saved state.")
_REBUILD = click.option("--rebuild", is_flag=True, help="Build although the same image is there already.")
_ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What paths in a folder of repart definitions are relative to; by default the folder itself.",
)
_VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Stream the guest's console.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=_EXIT_CODES)
@click.version_option(__version__, prog_name="vmharness")
def cli() -> None:
    """Builds full bootable disk images together with their EFI variable store, and shows that they boot.

    \b
    Example:
      vmharness build examples/debian-uefi.toml -o out/debian
      vmharness boot out/debian --until login
    """


def _kernel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--modules", type=click.Path(path_type=Path), help="lib/modules/VERSION that belongs to --kernel."
    )(command)
    return click.option(
        "--kernel",
        type=click.Path(path_type=Path),
        help="Kernel of the appliance; without it the distribution's cloud kernel is downloaded into the cache.",
    )(command)


@cli.command()
@click.argument("definitions", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="DEFINITION...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the outputs.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Builds at once.")
@click.option("--executor", metavar="URL", help="Run the builds elsewhere: dask://HOST:PORT.")
@_ACCEL
@_kernel_options
@_COLD
@_REBUILD
@click.option(
    "--checkpoints",
    type=click.Choice(["all", "failure", "none"]),
    default="failure",
    show_default=True,
    help="Which states of the machine are saved on the way.",
)
@click.option("--break-before", metavar="STEP", help="Stop before this step, and enter the guest on a terminal.")
@click.option("--break-after", metavar="STEP", help="Stop after this step, and enter the guest on a terminal.")
@click.option(
    "--on-failure",
    type=click.Choice(["shell", "bundle", "keep"]),
    default="keep",
    show_default=True,
    help="What follows a failure: a shell in the guest, a bundle for elsewhere, or only the run directory.",
)
@_ROOT
@JSON
@_VERBOSE
def build(  # noqa: PLR0913, PLR0917 -- one parameter an option
    definitions: tuple[Path, ...],
    output: Path,
    jobs: int,
    executor: str | None,
    accel: str,
    kernel: Path | None,
    modules: Path | None,
    cold: bool,
    rebuild: bool,
    checkpoints: str,
    break_before: str | None,
    break_after: str | None,
    on_failure: str,
    root: Path | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Build the image of each DEFINITION and its variable store.

    A definition is a TOML file, or a folder of systemd-repart's definition files (repart.d/*.conf).

    The outputs appear whole or not at all. Of several definitions each fills a folder of its own in the output folder;
    one that fails does not stop the others. With --json, each event is one JSON object on a line.

    \b
    Example:
      vmharness build examples/debian-uefi.toml -o out/debian
      vmharness build examples/*.toml -o out -j 2
      vmharness build repart.d --root tree -o out/image
    """
    from vmharness.flows.prepare import Options  # noqa: PLC0415
    from vmharness.model.checkpoint import Checkpoints  # noqa: PLC0415

    options = Options(
        accel=accel,
        kernel=kernel,
        modules=modules,
        resume=not cold,
        rebuild=rebuild,
        checkpoints=Checkpoints(checkpoints),
        break_before=break_before,
        break_after=break_after,
        root=root,
    )
    with errors_reported(as_json=as_json):
        if len(definitions) > 1 or executor is not None:
            if on_failure != "keep" or break_before is not None or break_after is not None:
                raise click.UsageError("--on-failure and --break-... are for one build at a time, here")
            from vmharness.cli import many  # noqa: PLC0415

            sys.exit(many.run(definitions, output, options, jobs=jobs, executor=executor, as_json=as_json))
        from vmharness.cli import building  # noqa: PLC0415

        sys.exit(building.run(definitions[0], output, options, on_failure=on_failure, as_json=as_json, verbose=verbose))


@cli.command()
@click.argument("definition", type=click.Path(path_type=Path))
@_ACCEL
@_kernel_options
@_ROOT
def plan(definition: Path, accel: str, kernel: Path | None, modules: Path | None, root: Path | None) -> None:
    """Print what a build of DEFINITION would do, as JSON.

    Nothing is made but the staged tree in the cache, whose size decides the layout.

    \b
    Example:
      vmharness plan examples/debian-uefi.toml | jq .layout
    """
    from vmharness.flows.build import plan  # noqa: PLC0415
    from vmharness.flows.prepare import Options  # noqa: PLC0415

    with errors_reported(as_json=False):
        click.echo(plan(definition, Options(accel=accel, kernel=kernel, modules=modules, root=root)), nl=False)


@cli.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--until",
    metavar="MILESTONE",
    help="firmware, bootloader, kernel, initramfs, init, login, or a regular expression. Without it, your terminal "
    "becomes the machine's console; Ctrl-] leaves it and ends the machine.",
)
@click.option("--within", type=float, metavar="SECONDS", help="Time limit to the milestone.")
@click.option("--bios", is_flag=True, help="Boot with BIOS instead of the image's UEFI firmware.")
@click.option("--memory", default="1G", show_default=True, metavar="SIZE", help="Memory of the machine.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a page of HTML about the boot to this file.")
@_ACCEL
@JSON
def boot(  # noqa: PLR0913, PLR0917 -- one parameter an option
    output: Path,
    until: str | None,
    within: float | None,
    bios: bool,
    memory: str,
    report: Path | None,
    accel: str,
    as_json: bool,
) -> None:
    """Boot a build's OUTPUT on overlays, with the firmware that it was built for; OUTPUT stays as it is.

    Exits with 0 when the milestone is reached and with 1 otherwise, naming what the boot came to.

    \b
    Example:
      vmharness boot out/debian --until login
      vmharness boot out/debian                 (your terminal is the console; Ctrl-] leaves)
    """
    from vmharness.cli import booting  # noqa: PLC0415

    with errors_reported(as_json=as_json):
        sys.exit(
            booting.run(
                output,
                until=until,
                seconds=within,
                memory=memory,
                bios=bios,
                accel=accel,
                report=report,
                as_json=as_json,
            )
        )


@cli.command()
@click.argument("output", type=click.Path(path_type=Path))
@JSON
def inspect(output: Path, as_json: bool) -> None:
    """Show what a build's OUTPUT holds: digests checked, partition table, EFI variables decoded.

    \b
    Example:
      vmharness inspect out/debian --json
    """
    from vmharness.flows import inspect as flow  # noqa: PLC0415

    with errors_reported(as_json=as_json):
        inspection = flow.inspect(output)
        if as_json:
            click.echo(json.dumps(flow.to_data(inspection), indent=2))
        else:
            for line in flow.to_lines(inspection):
                click.echo(line)
        sys.exit(1 if inspection.findings else 0)


@cli.command()
@_ACCEL
@JSON
def doctor(accel: str, as_json: bool) -> None:
    """Say what this host has, what it lacks, and the command that installs it. Exits with 3 when something is missing.

    \b
    Example:
      vmharness doctor
    """
    from vmharness.cli import doctor as face  # noqa: PLC0415

    with errors_reported(as_json=as_json):
        sys.exit(face.run(accel, as_json=as_json))


@cli.group()
def cache() -> None:
    """Show or empty the cache of trees, kernels, appliances and their saved states.

    Its size is bounded by VMHARNESS_CACHE_LIMIT (20G): what was used longest ago goes first.

    \b
    Example:
      vmharness cache info
    """


@cache.command()
@JSON
def info(as_json: bool) -> None:
    """Show what the cache holds.

    \b
    Example:
      vmharness cache info --json
    """
    from vmharness.cli import caching  # noqa: PLC0415

    with errors_reported(as_json=as_json):
        caching.info(as_json=as_json)


@cache.command()
def clear() -> None:
    """Remove everything from the cache that no running build uses.

    \b
    Example:
      vmharness cache clear
    """
    from vmharness.cli import caching  # noqa: PLC0415

    with errors_reported(as_json=False):
        caching.clear()


cli.add_command(reproduce)
cli.add_command(bundle)
cli.add_command(efivars)
