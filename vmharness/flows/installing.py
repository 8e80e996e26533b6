"""Driven installs: an installer runs in a machine with an empty disk, and a dialogue walks through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve

from vmharness.disk import efivars, image, partitioning
from vmharness.errors import BuildStopped, GuestError, VerificationFailed
from vmharness.flows.outputs import Prepared
from vmharness.flows.run import Run
from vmharness.flows.talking import Installer, talk
from vmharness.flows.trail import Trail, overlay
from vmharness.host import sparse
from vmharness.host.rundir import RunDirectory
from vmharness.model.checkpoint import When
from vmharness.model.dialogue import Entry, Network
from vmharness.model.hardware import Bus, Disk, MachineSpec, UserNetwork
from vmharness.plan.make import Plan
from vmharness.plan.steps import TARGET_DISK
from vmharness.plan.stopping import Stop
from vmharness.vm.following import Follower
from vmharness.vm.machine import Machine
from vmharness.vm.states import State

ISO_DISK = "installer"


def work(prepared: Prepared, run: Run) -> None:
    """Start the installer and walk through its dialogue. The disk is ``run.directory.finished`` afterwards.

    :raises BuildStopped: it stopped where it was to; the machine's state is in a checkpoint.
    :raises GuestError: an entry failed; where the machine can still be saved, its state after that is in a checkpoint.
    :raises QemuDied: QEMU ended by itself.
    """
    plan, directory = prepared.plan, run.directory
    link_media(plan, directory)
    trail = Trail(run=run, directory=directory, policy=prepared.checkpoints)
    assert plan.machine is not None
    with started(plan, directory, run, memory=trail.memory_for(plan.machine.memory)) as installer:
        trail.beside = installer.follower.save
        for number, entry in enumerate(plan.dialogue):
            _entry(installer, number, entry, prepared.stop, trail)
        collect(installer, run)


def _entry(installer: Installer, number: int, entry: Entry, stop: Stop | None, trail: Trail) -> None:
    machine = installer.machine
    if stop == Stop(number=number, when=When.BEFORE):
        _stop(machine, number, entry, When.BEFORE, trail)
    if machine.ending is None:
        trail.before(machine, number, entry)
    try:
        talk(installer, entry, trail.run)
    except GuestError:
        if machine.state is not State.GONE:
            trail.take(machine, number, entry, When.FAILED)
        raise
    if entry.stop:
        _stop(machine, number, entry, When.BEFORE, trail)
    if stop == Stop(number=number, when=When.AFTER):
        _stop(machine, number, entry, When.AFTER, trail)


def _stop(machine: Machine, number: int, entry: Entry, when: When, trail: Trail) -> None:
    """Stop the run, with the machine's state in a checkpoint."""
    if machine.state is not State.GONE:
        trail.take(machine, number, entry, when)
    what = f"the install stopped {when.value} '{entry.name}', as it was to"
    raise BuildStopped(what, run_directory=trail.run.directory.path)


def link_media(plan: Plan, directory: RunDirectory) -> None:
    """Bring the installer's ISO image into the run directory, without a copy where possible; nobody writes to it.

    :raises HostError: there is no room for it.
    """
    install = plan.spec.install
    if install is not None and install.iso is not None:
        image.link(install.iso.resolve(), directory.installer)


@contextmanager
def started(
    plan: Plan, site: RunDirectory, run: Run, *, memory: Path | None = None, offline: bool = False
) -> Iterator[Installer]:
    """The installer's machine, switched on; it is ended when the block is left.

    :param site: the folder with the empty disk and the ISO image; it gets the machine's overlays.
    :param memory: file that is made and holds the guest's memory, so that checkpoints can be taken cheaply; None keeps
        it to the process.
    :param offline: whether its network leads nowhere.
    :raises QemuError: QEMU does not start.
    """
    disk = Disk(name=TARGET_DISK, path=overlay(TARGET_DISK, (site.disk,), site), format="qcow2", backing=(site.disk,))
    disks = [disk]
    if site.installer.exists():
        disks.append(Disk(name=ISO_DISK, path=site.installer, bus=Bus.CDROM, read_only=True))
    spec = machine_of(plan, run.directory, tuple(disks), offline=offline)
    if memory is not None:
        memory.touch(mode=0o600)
        spec = evolve(spec, memory_file=memory, memory_shared=True)
    follower = Follower()
    machine = Machine(spec, run.directory, on_line=lambda line: run.say(line, "console"), on_output=follower.feed)
    with machine:
        with run.part("start the installer"):
            machine.start()
            follower.follow(machine)
        yield Installer(machine=machine, follower=follower)


def machine_of(plan: Plan, directory: RunDirectory, disks: tuple[Disk, ...], *, offline: bool) -> MachineSpec:
    """The installer's machine, with what belongs to one run.

    :param offline: whether its network leads nowhere.
    """
    assert plan.machine is not None
    assert plan.spec.install is not None
    return evolve(
        plan.machine,
        variables=directory.variables if plan.machine.firmware is not None else None,
        network=UserNetwork(restricted=offline) if plan.spec.install.network is Network.USER else None,
        disks=disks,
    )


def collect(installer: Installer, run: Run) -> None:
    """Make the disk of an installer that has ended its machine one file again."""
    machine = installer.machine
    target = next(disk for disk in machine.spec.disks if disk.name == TARGET_DISK)
    with run.part("take the disk out of the machine"):
        machine.close()
        image.join_layers((*target.backing, target.path), run.directory.finished)


def read_back(prepared: Prepared, run: Run) -> Prepared:
    """The plan with the partition table that the installer has made.

    :raises VerificationFailed: the disk is empty, or its variable store is damaged.
    """
    disk = run.directory.finished
    with run.part("read the partition table back"):
        layout = partitioning.read_layout(disk)
        if sparse.data_size(disk) == 0:
            raise VerificationFailed("the installer ended its machine, and its disk is empty")
        if prepared.plan.spec.efi.touch_variables:
            efivars.read_store(run.directory.variables)
        return evolve(prepared, plan=evolve(prepared.plan, layout=layout))
