"""What every verb shares: the option ``--json``, and errors as one sentence with an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask for the end: Ctrl-C, another program's wish, the terminal that was closed."""


@contextmanager
def errors_reported(*, as_json: bool) -> Iterator[None]:
    """Turn each error of the tree into a sentence on standard error and its exit code."""
    from vmharness.errors import ApiMisuse, VmharnessError  # noqa: PLC0415

    before = {number: signal.getsignal(number) for number in _ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup and shells' background jobs have it
            signal.signal(number, _interrupt)
    try:
        yield
    except ApiMisuse as error:
        _fail(f"a bug in vmharness: {error}", error.exit_code, as_json=as_json)
    except VmharnessError as error:
        _fail(str(error), error.exit_code, as_json=as_json)
    except KeyboardInterrupt:
        click.echo("vmharness: interrupted", err=True)
        sys.exit(130)
    except OSError as error:
        _leave_if_alone(error)
        raise
    finally:
        # The command line may be called by a program that lives on; one that was interrupted is about to end.
        for number, handler in before.items():
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, handler)


def _fail(text: str, code: int, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"event": "Failed", "exit_code": code, "error": text}))
    else:
        click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)
    sys.exit(code)


def _leave_if_alone(error: OSError) -> None:
    """End if there is nobody left to tell: whoever read our output has gone, or the terminal was closed."""
    from vmharness.host import tty  # noqa: PLC0415 -- only needed here

    gone = (sys.stdout.fileno(),) if isinstance(error, BrokenPipeError) else tty.closed()
    for stream in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    if gone:
        sys.exit(1 if isinstance(error, BrokenPipeError) else 130)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Unwind, so that nothing is left behind, whoever asks us to end; asking again does not disturb that."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
