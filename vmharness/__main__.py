"""The command: ``vmharness`` and ``python -m vmharness``."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with the exit code that README and ``--help`` name."""
    # Imported here, so that ``import vmharness.__main__`` stays free of the command line's libraries.
    from vmharness.cli.main import cli  # noqa: PLC0415

    cli()


if __name__ == "__main__":
    main()
