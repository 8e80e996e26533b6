"""The command line in a program that lives on."""

from __future__ import annotations

import errno
import signal

import pytest

from vmharness.cli.reporting import errors_reported
from vmharness.errors import SpecError


def test_signals_are_the_program_s_own_again() -> None:
    """A verb listens to signals while it runs; afterwards they do what they did before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with errors_reported(as_json=False):
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    with pytest.raises(SystemExit), errors_reported(as_json=False):
        raise SpecError("wrong")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_other_errors_of_the_system_are_no_end() -> None:
    """Only a reader that has gone, or a closed terminal, ends a verb in silence: all else is a fault, and seen."""
    with pytest.raises(OSError, match="Input/output error"), errors_reported(as_json=False):
        raise OSError(errno.EIO, "Input/output error")
