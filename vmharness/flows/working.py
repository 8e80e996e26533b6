"""The machine's part of a build: the appliance comes up, gets the build's disks, and the steps run in it."""

from __future__ import annotations

from vmharness.errors import BuildStopped, GuestError
from vmharness.flows import appliance
from vmharness.flows.bringup import Up
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run
from vmharness.flows.steps import run_step
from vmharness.flows.trail import Trail
from vmharness.model.checkpoint import Checkpoints, When
from vmharness.model.steps import Step
from vmharness.plan.stopping import Stop


def work(prepared: Prepared, run: Run) -> None:
    """Boot the appliance and run the steps in it. The disk is ``run.directory.finished`` afterwards.

    :raises BuildStopped: it stopped where it was to; the machine's state is in a checkpoint.
    :raises GuestError: a step failed; where the machine can still be saved, its state after that is in a checkpoint.
    :raises QemuDied: QEMU ended by itself.
    """
    plan, guest, stop = prepared.plan, prepared.appliance, prepared.stop
    trail = Trail(run=run, directory=run.directory, policy=prepared.checkpoints)
    assert guest is not None
    assert plan.machine is not None
    memory = trail.memory_for(plan.machine.memory)
    with appliance.started(plan, guest.identity, run, resume=prepared.resume, memory=memory) as up:
        for disk in appliance.disks(plan, run.directory):
            up.machine.plug(disk)
        for number, step in enumerate(plan.steps):
            _stop(stop, When.BEFORE, number, step, up, trail)
            trail.before(up.machine, number, step)
            try:
                run_step(up.agent, step, run)
            except GuestError:
                trail.take(up.machine, number, step, When.FAILED)
                raise
            _stop(stop, When.AFTER, number, step, up, trail)
        appliance.switch_off(up, run, in_place=trail.policy is not Checkpoints.ALL)


def _stop(stop: Stop | None, when: When, number: int, step: Step, up: Up, trail: Trail) -> None:  # noqa: PLR0913, PLR0917 -- a place in a run
    """Stop, with the machine's state in a checkpoint, where the run is to stop here."""
    if stop == Stop(number=number, when=when):
        trail.take(up.machine, number, step, when)
        what = f"the build stopped {when.value} the step '{step.name}', as it was to"
        raise BuildStopped(what, run_directory=trail.run.directory.path)
