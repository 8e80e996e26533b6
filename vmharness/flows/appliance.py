"""The appliance of a build: started, given the build's disks, and switched off."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import evolve

from vmharness.disk import image
from vmharness.flows.bringup import Up, appliance_up, wake_parameters
from vmharness.flows.run import Run
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Disk
from vmharness.model.partitions import ReadOnly
from vmharness.plan.make import Plan
from vmharness.plan.steps import CONTENTS_DISK, TARGET_DISK, TREE_DISK


@contextmanager
def started(plan: Plan, identity: str, run: Run, *, resume: bool, memory: Path | None = None) -> Iterator[Up]:
    """The build's appliance, up and brought to the present, without disks; it is ended when the block is left.

    :raises: as :func:`~vmharness.flows.bringup.appliance_up`.
    """
    assert plan.machine is not None
    spec = evolve(plan.machine, variables=run.directory.variables if plan.machine.firmware else None)
    with ExitStack() as stack:
        with run.part("start the appliance"):
            coming = appliance_up(spec, identity, plan.boot_deadline, run, resume=resume, memory=memory)
            up = stack.enter_context(coming)
            # What deterministic builds draw at random must be the same in each: the state's own numbers.
            seed = "" if plan.spec.deterministic.enabled else secrets.token_hex(32)
            up.agent.run("wake", wake_parameters(seed), within=plan.boot_deadline)
        yield up


def disks(plan: Plan, directory: RunDirectory) -> tuple[Disk, ...]:
    """The disks of a build, as they are plugged: the target, the tree's own where there is one, the grafted files."""
    found = [Disk(name=TARGET_DISK, path=directory.disk)]
    if plan.scratch is not None:
        packed = isinstance(plan.layout.by_role("root").filesystem, ReadOnly)
        found.append(Disk(name=TREE_DISK, path=directory.tree, read_only=not packed))
    if directory.contents.exists():
        found.append(Disk(name=CONTENTS_DISK, path=directory.contents, read_only=True))
    return tuple(found)


def switch_off(up: Up, run: Run, *, in_place: bool) -> None:
    """Switch off a machine in which all steps are done, and make its disk one file again.

    :param in_place: whether the disk's overlays may be joined with the image under them, on which no checkpoint that is
        kept may lie; otherwise a new file is written.
    """
    directory = run.directory
    with run.part("switch the appliance off"):
        if in_place:
            up.machine.join(TARGET_DISK)
        target = next(disk for disk in up.machine.spec.disks if disk.name == TARGET_DISK)
        up.machine.off()
        if in_place:
            directory.disk.rename(directory.finished)
        else:
            image.join_layers((*target.backing, target.path), directory.finished)
