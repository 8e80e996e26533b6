"""The command line in a program that lives on."""

from __future__ import annotations

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
