"""How programs are started: they die with us, and a signal that comes at that moment is neither lost nor early."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmharness.host.starting import start


class Asked(BaseException):
    """What the handler of these tests raises."""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def asked(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal whose handler raises."""
    number: signal.Signals = request.param

    def raise_it(_signal: int, _frame: object) -> None:
        raise Asked

    before = signal.signal(number, raise_it)
    yield number
    signal.signal(number, before)


def test_signal_while_forking_is_obeyed(asked: signal.Signals, tmp_path: Path) -> None:
    """A signal that comes while Python forks raises when the program has been started, which is ended then.

    Without care it is lost: what a handler raises in a hook that runs after the fork is printed and dropped.
    """
    todo = [asked]  # a hook stays for ever, and this one works once

    def after_fork() -> None:
        if todo:
            os.kill(os.getpid(), todo.pop())

    os.register_at_fork(after_in_parent=after_fork)
    pid = tmp_path / "pid"
    with pytest.raises(Asked):
        start(["sh", "-c", f"echo $$ >{pid}; exec sleep 60"])
    assert todo == []
    # killed at once, it may not have come so far as to write its number
    assert not pid.exists() or not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_handlers_are_as_before(asked: signal.Signals) -> None:
    """After a start each handler is the one that was there."""
    handler = signal.getsignal(asked)
    with start(["true"]) as child:
        child.wait()
    assert signal.getsignal(asked) is handler


def test_ignored_signals_stay_ignored_in_the_program() -> None:
    """A signal that is ignored, as under nohup, is ignored in the program, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with start(["sh", "-c", "kill -HUP $$; echo alive"], stdout=subprocess.PIPE) as child:
            stdout, _ = child.communicate()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stdout == b"alive\n"


def test_program_dies_with_the_thread_that_started_it() -> None:
    """The kernel kills the program when its starter is gone, and starting works in any thread."""
    children: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: children.append(start(["sleep", "60"])))
    thread.start()
    thread.join()
    began = time.monotonic()
    with children[0] as child:
        assert child.wait(timeout=10) == -signal.SIGKILL
    assert time.monotonic() - began < 5


def test_missing_program(tmp_path: Path) -> None:
    """A program that is not there is an OSError, with the handlers as before."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(FileNotFoundError):
        start([str(tmp_path / "none")])
    assert signal.getsignal(signal.SIGINT) is handler
