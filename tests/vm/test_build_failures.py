"""Builds that fail in the guest: a clear sentence with the step, nothing published, nothing left running."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import trees
from attrs import evolve
from running import Done, Workplace

from vmharness.errors import BuildFailed
from vmharness.flows import build
from vmharness.flows.run import recorded
from vmharness.model.steps import Step

COMMAND_STEP = "step 'run the bootloader command'"


def require_evidence(place: Workplace, done: Done) -> Path:
    """The one run directory, which is named in the error and holds what is needed to look into the failure."""
    (kept,) = place.run_directories()
    assert f"run directory: {kept}" in done.error()
    names = {path.name for path in kept.iterdir()}
    assert {"plan.json", "qemu.argv", "events.jsonl", "steps.log", "console.log", "disk.raw"} <= names
    return kept


def test_bootloader_that_the_target_lacks(place: Workplace) -> None:
    """GRUB in a tree without it: the step, and the packages that the target needs."""
    done = place.fail(trees.MINIMAL + '\n[bootloader]\ninstall = "grub"\n')
    assert done.status == 1
    assert "step 'install GRUB'" in done.error()
    assert "the target has no grub-install" in done.error()
    assert "hint: install the package grub2-common in the target" in done.error()
    require_evidence(place, done)


def test_installer_that_fails(place: Workplace) -> None:
    """The installer's own last lines are in the error, and its exit status."""
    done = place.fail(trees.MINIMAL + trees.shell("echo looking; echo the ESP is haunted >&2; exit 7"))
    assert done.status == 1
    assert COMMAND_STEP in done.error()
    assert "ended with status 7" in done.error()
    assert "the ESP is haunted" in done.error()
    kept = require_evidence(place, done)
    assert "[run the bootloader command] looking\n" in (kept / "steps.log").read_text()


def test_program_that_the_target_lacks(place: Workplace) -> None:
    """A bootloader command that is not in the target is named, with what to do about it."""
    done = place.fail(trees.MINIMAL + trees.command(["/usr/bin/no such installer"]))
    assert done.status == 1
    assert "the target has no program '/usr/bin/no such installer'" in done.error()
    assert "hint: put it into the target with [[contents]]" in done.error()


def test_kernel_panic(place: Workplace) -> None:
    """A panic of the appliance's kernel ends the build at once, and its text is in the error."""
    done = place.fail(trees.MINIMAL + trees.shell("echo c >/proc/sysrq-trigger; sleep 300"))
    assert done.status == 1
    assert COMMAND_STEP in done.error()
    assert "kernel panic: Kernel panic - not syncing: sysrq triggered crash" in done.error()
    (failed,) = [event for event in done.events() if event["event"] == "StepFailed"]
    assert failed["seconds"] < 10
    kept = require_evidence(place, done)
    assert b"sysrq triggered crash" in (kept / "console.log").read_bytes()


def test_guest_that_resets(place: Workplace) -> None:
    """A guest that restarts in the middle of a step is noticed at once and named."""
    done = place.fail(trees.MINIMAL + trees.shell("echo b >/proc/sysrq-trigger; sleep 300"))
    assert done.status == 1
    assert COMMAND_STEP in done.error()
    assert "the machine is gone: the guest ended the machine (guest-reset)" in done.error()
    assert done.failed_after() < 10


def test_guest_that_hangs(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that does not end within its deadline ends the build: the step, the time, and its last lines."""
    monkeypatch.setenv("VMHARNESS_RUNS", str(place.runs))
    spec = build.read_definition(place.define(trees.MINIMAL + trees.shell("echo dozing off; sleep 300")))
    with recorded("build", spec.name, lambda _event: None, keep_always=True) as run:
        prepared = build.prepare(spec, build.Options(), run)
        hasty = evolve(prepared, plan=evolve(prepared.plan, steps=tuple(map(_hasty, prepared.plan.steps))))
        build.create(hasty, run)
        with pytest.raises(BuildFailed) as caught:
            build.work(hasty, "", run)
    error = caught.value
    assert error.step == "run the bootloader command"
    assert "no end of the guest script 'install-command' within 2 s" in error.cause
    assert "dozing off" in error.cause
    assert error.run_directory in place.run_directories()
    assert place.guests() == []


def _hasty(step: Step) -> Step:
    return evolve(step, deadline=2.0) if step.script == "install-command" else step


def test_machine_that_is_killed(place: Workplace) -> None:
    """QEMU killed from outside in the middle of a step: noticed within a second, and named."""
    definition = place.define(trees.MINIMAL + trees.shell("echo waiting; sleep 300"))
    with place.start("build", definition, "-o", place.folder / "out") as live:
        live.wait_for_output("waiting")
        os.kill(place.wait_for_guest(), signal.SIGKILL)
        killed = time.monotonic()
        failure = live.wait_for(lambda event: event["event"] == "Failed")
        assert time.monotonic() - killed < 1
        assert live.end().status == failure["exit_code"] == 1
    assert COMMAND_STEP in failure["error"]
    assert "the machine is gone: QEMU was killed by SIGKILL" in failure["error"]
    assert not (place.folder / "out").exists()
    assert place.guests() == []
