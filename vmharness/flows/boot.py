"""A boot: a build's output on overlays, with its own firmware, until a milestone or under a person's hands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen

from vmharness.errors import HostError
from vmharness.events import Emit, MilestoneReached, nobody
from vmharness.flows.run import recorded
from vmharness.model.outcome import Outcome, Reached, describe
from vmharness.model.sizes import GIB
from vmharness.testing import evidence
from vmharness.testing.hardware import Hardware
from vmharness.testing.machine import Machine
from vmharness.testing.operator import BOOT_SECONDS
from vmharness.testing.progress import goal
from vmharness.testing.report import Screenshot, page
from vmharness.testing.state import BootState
from vmharness.vm.machine import Machine as RunningMachine


@frozen(kw_only=True)
class BootOptions:
    """What the caller chooses.

    :param until: a milestone's name or a regular expression; None means that a person has the console.
    :param accel: ``auto``, ``kvm`` or ``tcg``.
    :param memory: bytes.
    :param seconds: time limit to the milestone; None takes :data:`~vmharness.testing.operator.BOOT_SECONDS` in the
        accelerator's scale.
    :param bios: whether to boot with BIOS, whatever the image was made for.
    :param report: file that gets a page of HTML about the boot.
    """

    until: str | None = "login"
    accel: str = "auto"
    memory: int = GIB
    seconds: float | None = None
    bios: bool = False
    report: Path | None = None


@frozen(kw_only=True)
class BootReport:
    """What a boot came to.

    :param milestones: seconds since the machine's start at which each was reached, in order.
    :param transcript: every byte that the guest printed.
    """

    outcome: Outcome
    milestones: dict[str, float] = field(factory=dict)
    transcript: Path
    run_directory: Path
    accelerator: str


Attach = Callable[[RunningMachine], None]
"""Connects a person to a running machine and returns when they leave or it ends."""


def boot(output: Path, options: BootOptions, emit: Emit = nobody) -> BootReport:
    """Boot a build's output until a milestone; the output is not changed.

    :param output: folder that a build published.
    :param emit: takes the run's events, the console's lines among them.
    :raises SpecError: ``output`` is none, or ``until`` is no regular expression.
    :raises HostError: the firmware is not on this host, or the report cannot be written.
    """
    assert options.until is not None
    goal(options.until)  # a wrong one is refused before anything starts
    state = _state(output, options)
    with recorded("boot", _name(output), emit, keep_always=True) as run:
        album: list[Screenshot] = []

        def passed(milestone: str, seconds: float) -> None:
            run.emit(MilestoneReached(milestone=milestone, seconds=seconds))
            if options.report is not None:
                album.append(Screenshot(caption=f"{milestone}, {seconds:.1f} s", png=machine.screenshot().read_bytes()))

        machine = Machine(
            state,
            _hardware(options),
            directory=run.directory,
            name=_name(output),
            on_line=lambda line: run.say(line, "console"),
            on_milestone=passed,
        )
        try:
            with run.part("boot"), machine:
                run.note(f"accelerator: {machine.accelerator.reason}")
                machine.start()
                within = BOOT_SECONDS if options.seconds is None else options.seconds / machine.time_scale
                outcome = machine.reach(options.until, within=within)
                if options.report is not None:
                    reached = isinstance(outcome, Reached)
                    record = evidence.record(machine, describe(outcome), reached=reached, pictures=album)
                    _write(options.report, page([record]))
                return BootReport(
                    outcome=outcome,
                    milestones=dict(machine.milestones),
                    transcript=run.directory.transcript,
                    run_directory=run.directory.path,
                    accelerator=machine.accelerator.accelerator.value,
                )
        finally:
            for overlay in run.directory.path.glob("*.qcow2"):
                overlay.unlink()  # the transcript stays, as evidence; the writes are nobody's


def attach(output: Path, options: BootOptions, connect: Attach, emit: Emit = nobody) -> None:
    """Boot a build's output and hand its console to a person; the output is not changed.

    :param connect: connects the person's terminal.
    :raises: as :func:`boot`.
    """
    state = _state(output, options)
    with (
        recorded("boot", _name(output), emit) as run,
        Machine(state, _hardware(options), directory=run.directory, deaths=()) as machine,
    ):
        run.note(f"accelerator: {machine.accelerator.reason}")
        machine.start()
        connect(machine.core)


def _state(output: Path, options: BootOptions) -> BootState:
    state = BootState.of(output)
    return state.with_firmware(None) if options.bios else state


def _hardware(options: BootOptions) -> Hardware:
    return Hardware(memory=options.memory, accelerator=options.accel)


def _write(report: Path, text: str) -> None:
    try:
        report.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HostError(f"cannot write the report {report}: {error.strerror}") from error


def _name(output: Path) -> str:
    return output.absolute().name or "boot"
