"""Driven installs: an installer runs in a machine with an empty disk, and a dialogue walks through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, evolve, field

from vmharness.disk import efivars, image, partitioning
from vmharness.errors import BuildStopped, GuestError, VerificationFailed
from vmharness.flows import scripted
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run
from vmharness.flows.talking import Installer, talk
from vmharness.flows.trail import Trail, overlay
from vmharness.host import sparse
from vmharness.host.rundir import RunDirectory
from vmharness.model.checkpoint import When
from vmharness.model.dialogue import Entry, Network
from vmharness.model.hardware import Bus, Disk, MachineSpec, UserNetwork
from vmharness.plan import stored
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
        walk = _Walk(plan=plan, installer=installer, trail=trail, stop=prepared.stop)
        if plan.spec.install is not None and plan.spec.install.script is not None:
            scripted.follow(plan.spec.install.script, walk.add, plan.accelerator.accelerator.time_scale)
        else:
            for entry in plan.dialogue:
                walk.do(entry)
        collect(installer, run)


def as_it_went(prepared: Prepared, run: Run) -> Prepared:
    """The preparation with the entries that a Python file has asked for so far; without one, as it was."""
    install = prepared.plan.spec.install
    if install is None or install.script is None:
        return prepared
    plan = stored.from_json(run.directory.plan.read_text(encoding="utf-8"), prepared.plan.spec)
    return evolve(prepared, plan=evolve(prepared.plan, dialogue=plan.dialogue))


@define
class _Walk:
    """The way through a dialogue.

    :param plan: has the entries so far, where a Python file asks for them one by one.
    :param seen: what was seen, by the entries' numbers.
    """

    plan: Plan
    installer: Installer
    trail: Trail
    stop: Stop | None
    seen: list[str] = field(factory=list)

    def add(self, entry: Entry) -> str:
        """Do an entry that the plan does not know yet; gives what was seen."""
        self.plan = evolve(self.plan, dialogue=(*self.plan.dialogue, entry))
        directory = self.trail.run.directory
        directory.plan.write_text(stored.to_json(self.plan), encoding="utf-8")
        text = self.do(entry)
        scripted.remember(directory, self.seen)
        return text

    def do(self, entry: Entry) -> str:
        """Do the next entry; gives what was seen."""
        text = _entry(self.installer, len(self.seen), entry, self.stop, self.trail)
        self.seen.append(text)
        return text


def _entry(installer: Installer, number: int, entry: Entry, stop: Stop | None, trail: Trail) -> str:
    machine = installer.machine
    if stop == Stop(number=number, when=When.BEFORE):
        _stop(machine, number, entry, When.BEFORE, trail)
    if machine.ending is None:
        trail.before(machine, number, entry)
    try:
        text = talk(installer, entry, trail.run)
    except GuestError:
        if machine.state is not State.GONE:
            trail.take(machine, number, entry, When.FAILED)
        raise
    if entry.stop:
        _stop(machine, number, entry, When.BEFORE, trail)
    if stop == Stop(number=number, when=When.AFTER):
        _stop(machine, number, entry, When.AFTER, trail)
    return text


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
