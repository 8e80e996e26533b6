"""What a build leaves that did not end with an image: its run directory, complete enough to go on from it elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from vmharness import __version__
from vmharness.disk import image
from vmharness.errors import CommandFailed, GuestError, HostError, VmharnessError
from vmharness.events import nobody
from vmharness.flows.outputs import firmware_identity
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run
from vmharness.flows.sessions import session_on
from vmharness.flows.trail import Trail, notes
from vmharness.host import here
from vmharness.host.data import data_directory
from vmharness.host.rundir import RunDirectory
from vmharness.model import record
from vmharness.model.checkpoint import Checkpoints, When
from vmharness.model.hardware import Accelerator
from vmharness.model.manifest import StepTime
from vmharness.model.record import Failure, Record
from vmharness.model.suspicious import first_suspicious

_LAST_LINES = 30
_LARGEST_LOG = 4 << 20
_AGAIN = "again"


def keep(prepared: Prepared, inputs: str, failure: Failure | None, run: Run) -> None:
    """Complete the run directory of a build in whose machine something happened: with a record of the build, its
    definition and its appliance.

    :param inputs: content id of the build.
    :param failure: how it failed, or None where it stopped on purpose.
    :raises HostError: there is no room for it.
    """
    plan, directory = prepared.plan, run.directory
    directory.memory.unlink(missing_ok=True)  # what is needed of it is in the checkpoints
    assert plan.machine is not None
    image.clone(plan.spec.origin, directory.definition)
    if plan.machine.kernel is not None:
        directory.kernel.parent.mkdir(mode=0o700, exist_ok=True)
        image.link(plan.machine.kernel.image.resolve(), directory.kernel)
        image.link(plan.machine.kernel.initrd.resolve(), directory.initramfs)
    directory.guest_scripts.mkdir(mode=0o700, exist_ok=True)
    for name in {step.script for step in plan.steps}:
        shutil.copyfile(data_directory("guest-scripts") / "steps" / name, directory.guest_scripts / name)
    if plan.spec.install is not None and plan.spec.install.script is not None:
        image.clone(plan.spec.install.script, directory.dialogue)
    accelerator = plan.accelerator.accelerator
    noted = Record(
        vmharness=__version__,
        name=plan.spec.name,
        inputs=inputs,
        seed=prepared.seed,
        nonce=directory.nonce,
        tools=dict(prepared.tools),
        accelerator=accelerator,
        processor=here.processor() if accelerator is Accelerator.KVM else None,
        qemu=here.emulator(),
        firmware=firmware_identity(plan.firmware) if plan.firmware is not None else None,
        kernel=plan.start.kernel.taken if plan.start is not None else None,
        appliance=prepared.appliance.identity if prepared.appliance is not None else None,
        contents=directory.contents.exists(),
        media=prepared.media,
        signed=prepared.signed,
        times=tuple(StepTime(step=step, seconds=round(took, 3)) for step, took in run.seconds.items()),
        failure=failure,
    )
    directory.record.write_text(record.to_json(noted), encoding="utf-8")


def failure_of(error: VmharnessError, prepared: Prepared, run: Run) -> Failure:
    """How a build failed, as its record has it.

    :param error: what ended the part that was running.
    """
    numbers = {step.name: number for number, step in enumerate(prepared.plan.actions)}
    return Failure(
        step=run.current,
        index=numbers.get(run.current),
        sentence=error.what,
        status=error.status if isinstance(error, CommandFailed) else None,
        last_lines=tuple(error.last_words.splitlines()[-_LAST_LINES:]) if isinstance(error, GuestError) else (),
        kernel_line=first_suspicious(_end_of(run.directory.transcript)),
        hint=error.hint,
    )


def kept_after_failure(prepared: Prepared, inputs: str, failure: Failure, run: Run) -> bool:
    """Keep what is needed to enter a build that failed, with a checkpoint before the step that failed.

    Where none was taken in time, the steps up to it are run again. What hinders it, the run says: the failure is the
    news.

    :returns: whether the build can be entered.
    """
    try:
        keep(prepared, inputs, failure, run)
    except (HostError, OSError) as error:
        run.note(f"what is needed to enter the build cannot be kept: {str(error).splitlines()[0]}")
        return False
    number = failure.index
    found = notes(run.directory)
    if number is None or prepared.checkpoints is Checkpoints.NONE:
        return True
    if not any(note.step == number and note.when is When.BEFORE for note in found):
        _go_back(prepared, number, run)
    return True


def _go_back(prepared: Prepared, number: int, run: Run) -> None:
    step, directory = prepared.plan.actions[number], run.directory
    aside = RunDirectory(path=directory.path / _AGAIN)
    again = Run(directory=aside, emit=nobody)
    trail = Trail(run=again, directory=directory, policy=Checkpoints.NONE)
    with run.part(f"go back to the state before '{step.name}'"):
        try:
            aside.path.mkdir(mode=0o700)
            with session_on(prepared.plan, again, trail) as session:
                session.rewind(number)
                trail.take(session.machine, number, step, When.BEFORE)
        except (VmharnessError, OSError) as error:
            run.note(f"the state before '{step.name}' cannot be saved: {str(error).splitlines()[0]}")


def _end_of(transcript: Path) -> str:
    """What the guest printed last on its log console."""
    try:
        with transcript.open("rb") as file:
            file.seek(max(0, transcript.stat().st_size - _LARGEST_LOG))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
