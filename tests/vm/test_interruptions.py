"""A build that is interrupted leaves no machine and no half output, and says where the run directory is.

Where the interruption comes while the machine is just being started, it is the kernel that ends it with us.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import trees
from running import Workplace


def test_interrupt_in_the_middle_of_a_step(place: Workplace) -> None:
    """Ctrl-C ends build and machine within seconds, with status 130, and names the run directory, which is kept."""
    definition = place.define(trees.MINIMAL + trees.shell("echo waiting; sleep 300"))
    with place.start("build", definition, "-o", place.folder / "out") as live:
        live.wait_for_output("waiting")
        os.killpg(live.pid, signal.SIGINT)
        done = live.end(within=10)
    assert done.status == 130
    assert done.seconds < 5
    assert place.guests() == []
    assert not (place.folder / "out").exists()
    assert place.unfinished() == []
    (kept,) = place.run_directories()
    assert f"nothing was published; the run directory is {kept}" in done.stderr
    assert (kept / "console.log").is_file()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_request_to_end(place: Workplace, sent: signal.Signals) -> None:
    """SIGTERM, and the terminal that is closed, end a build as Ctrl-C does."""
    definition = place.define(trees.MINIMAL)
    with place.start("build", definition, "-o", place.folder / "out") as live:
        place.wait_for_guest()
        os.kill(live.pid, sent)
        done = live.end(within=10)
    assert done.status == 130
    place.wait_for_no_guest(within=1)
    assert not (place.folder / "out").exists()
    (kept,) = place.run_directories()
    assert str(kept) in done.stderr


def test_impatient_person(place: Workplace) -> None:
    """Ctrl-C again and again while the first is being obeyed: that is not disturbed, and ends the same way."""
    definition = place.define(trees.MINIMAL)
    with place.start("build", definition, "-o", place.folder / "out") as live:
        place.wait_for_guest()
        while live.child.poll() is None:
            os.killpg(live.pid, signal.SIGINT)
            time.sleep(0.01)
        done = live.end()
    assert done.status == 130
    place.wait_for_no_guest(within=1)
    assert not (place.folder / "out").exists()
    (kept,) = place.run_directories()
    assert str(kept) in done.stderr
    assert "Traceback" not in done.stderr


def test_kill_leaves_no_machine(place: Workplace) -> None:
    """When vmharness is killed by SIGKILL, which it cannot see coming, its machine ends with it."""
    definition = place.define(trees.MINIMAL)
    with place.start("build", definition, "-o", place.folder / "out") as live:
        place.wait_for_guest()
        os.kill(live.pid, signal.SIGKILL)
        assert live.end(within=10).status == -signal.SIGKILL
    place.wait_for_no_guest(within=1)
    assert not (place.folder / "out").exists()


def test_interrupted_boot(place: Workplace, minimal: Path) -> None:
    """A boot that is interrupted leaves no machine and no overlay, and names the run directory with its transcript."""
    with place.start("boot", minimal, "--until", "login") as live:
        place.wait_for_guest()
        place.wait_for_console()
        os.killpg(live.pid, signal.SIGINT)
        done = live.end(within=10)
    assert done.status == 130
    place.wait_for_no_guest(within=1)
    (kept,) = place.run_directories()
    assert f"the run directory is {kept}" in done.stderr
    assert (kept / "console.log").is_file()
    assert not list(kept.glob("*.qcow2"))
