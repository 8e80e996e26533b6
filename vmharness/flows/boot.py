"""A boot: a build's output on overlays, with its own firmware, until a milestone or under a person's hands."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen

from vmharness.disk import image
from vmharness.errors import HostError, SpecError
from vmharness.events import Emit, MilestoneReached, nobody
from vmharness.flows.inspect import read_manifest
from vmharness.flows.run import Run, recorded
from vmharness.host import accelerator, cache, descriptors
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import AcceleratorVerdict, Disk, MachineSpec
from vmharness.model.manifest import FirmwareIdentity, Manifest
from vmharness.model.milestones import MILESTONES, Milestone, by_name
from vmharness.model.outcome import Outcome, Reached
from vmharness.model.sizes import GIB
from vmharness.plan.firmware import check_pair
from vmharness.vm.console import Seen
from vmharness.vm.machine import Machine

OVERLAY_NAME = "disk.qcow2"
BOOT_SECONDS = 90.0
"""How long a boot may take to its milestone, before the accelerator's time scale."""


@frozen(kw_only=True)
class BootOptions:
    """What the caller chooses.

    :param until: a milestone's name or a regular expression; None means that a person has the console.
    :param accel: ``auto``, ``kvm`` or ``tcg``.
    :param memory: bytes.
    :param seconds: time limit to the milestone; None takes :data:`BOOT_SECONDS` in the accelerator's scale.
    :param bios: whether to boot with BIOS, whatever the image was made for.
    """

    until: str | None = "login"
    accel: str = "auto"
    memory: int = GIB
    seconds: float | None = None
    bios: bool = False


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


Attach = Callable[[Machine], None]
"""Connects a person to a running machine and returns when they leave or it ends."""


def boot(output: Path, options: BootOptions, emit: Emit = nobody) -> BootReport:
    """Boot a build's output until a milestone; the output is not changed.

    :param output: folder that a build published.
    :param emit: takes the run's events, the console's lines among them.
    :raises SpecError: ``output`` is none, or ``until`` is no regular expression.
    :raises HostError: the firmware is not on this host.
    """
    assert options.until is not None
    target = goal(options.until)
    made = read_manifest(output)
    with recorded("boot", made.name, emit, keep_always=True) as run:
        verdict = accelerator.choose(options.accel)
        run.note(f"accelerator: {verdict.reason}")
        spec = machine_spec(output, made, verdict, options, run)
        within = options.seconds or BOOT_SECONDS * verdict.accelerator.time_scale
        try:
            with (
                run.part("boot"),
                Machine(spec, run.directory, on_line=lambda line: run.say(line, "console")) as machine,
            ):
                started = time.monotonic()
                machine.start()
                outcome, milestones = _reach(machine, target, started, within, run)
        finally:
            (run.directory.path / OVERLAY_NAME).unlink()  # the transcript stays, as evidence; the writes are nobody's
        return _report(run, outcome, milestones, verdict)


def attach(output: Path, options: BootOptions, connect: Attach, emit: Emit = nobody) -> None:
    """Boot a build's output and hand its console to a person; the output is not changed.

    :param connect: connects the person's terminal.
    :raises: as :func:`boot`.
    """
    made = read_manifest(output)
    with recorded("boot", made.name, emit) as run:
        verdict = accelerator.choose(options.accel)
        run.note(f"accelerator: {verdict.reason}")
        spec = machine_spec(output, made, verdict, options, run)
        with Machine(spec, run.directory, deaths=()) as machine:
            machine.start()
            connect(machine)


def goal(until: str) -> Milestone:
    """The milestone of that name, or one made of a regular expression.

    :raises SpecError: it is neither.
    """
    known = by_name(until)
    if known is not None:
        return known
    try:
        return Milestone(name=until, pattern=re.compile(until))
    except re.error as error:
        names = ", ".join(milestone.name for milestone in MILESTONES)
        raise SpecError(
            f"{until!r} is no regular expression: {error}",
            origin="<command line>",
            key="--until",
            allowed=f"{names}, or a regular expression",
        ) from error


def machine_spec(
    output: Path, made: Manifest, verdict: AcceleratorVerdict, options: BootOptions, run: Run
) -> MachineSpec:
    """The machine that boots a build's output, on an overlay and a copy of the variable store in the run directory.

    :raises SpecError: the output's variable store does not fit its firmware.
    """
    base = made.file("image")
    if base is None:
        raise SpecError(f"the manifest in {output} names no image", origin=str(output))
    overlay = run.directory.path / OVERLAY_NAME
    image.create_overlay(output / base.name, made.format, overlay)
    firmware = None
    if made.firmware is not None and not options.bios:
        firmware = find_firmware(made.firmware)
        store = made.file("efi-variables")
        variables = output / store.name if store is not None else firmware.template
        check_pair(descriptors.flash_file(firmware.code), descriptors.flash_file(variables))
        shutil.copyfile(variables, run.directory.variables)
    return MachineSpec(
        accelerator=verdict.accelerator,
        memory=options.memory,
        cpus=min(2, len(os.sched_getaffinity(0))),
        cpu="max",
        firmware=firmware,
        variables=run.directory.variables if firmware is not None else None,
        disks=(Disk(name="disk", path=overlay, format="qcow2"),),
    )


def find_firmware(identity: FirmwareIdentity) -> Firmware:
    """The firmware that an image was built with.

    :raises HostError: it is not on this host, or another version of it is.
    """
    code, template = identity.code, identity.template
    if not code.path.is_file() or cache.remembered_digest(code.path) != code.sha256:
        there = "has another content" if code.path.is_file() else "is not there"
        raise HostError(
            f"the image was built for the firmware {code.path}, which {there} on this host",
            hint=f"install the firmware with SHA-256 {code.sha256[:16]}..., or build the image again here",
        )
    return Firmware(
        code=code.path, template=template.path, features=identity.features, description=identity.description
    )


def _reach(
    machine: Machine, target: Milestone, started: float, within: float, run: Run
) -> tuple[Outcome, dict[str, float]]:
    """Wait for the target, noting each milestone on the way; one that shows implies those before it."""
    ahead = list(MILESTONES)
    reached: dict[str, float] = {}
    while True:
        # The target comes first: of two that match at the same place it is the one that counts.
        patterns = [target.pattern, *(milestone.pattern for milestone in ahead if milestone is not target)]
        names = [target, *(milestone for milestone in ahead if milestone is not target)]
        left = max(started + within - time.monotonic(), 0.0)
        seen = machine.log.expect(patterns, within=left, waiting_for=target.name)
        now = time.monotonic() - started
        if not isinstance(seen, Seen):
            return seen, reached
        passed = names[seen.index]
        implied = MILESTONES[: MILESTONES.index(passed) + 1] if passed in MILESTONES else (passed,)
        for milestone in implied:
            if milestone.name not in reached:
                reached[milestone.name] = round(now, 2)
                run.emit(MilestoneReached(milestone=milestone.name, seconds=now))
        if passed is target or target.name in reached:
            return Reached(milestone=target.name, seconds=now, text=seen.text), reached
        ahead = [milestone for milestone in ahead if milestone.name not in reached]


def _report(run: Run, outcome: Outcome, milestones: dict[str, float], verdict: AcceleratorVerdict) -> BootReport:
    return BootReport(
        outcome=outcome,
        milestones=milestones,
        transcript=run.directory.transcript,
        run_directory=run.directory.path,
        accelerator=verdict.accelerator.value,
    )
