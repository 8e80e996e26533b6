"""The trail of a run: its checkpoints, as a tree in its run directory, taken while the machine goes on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import define, evolve, frozen

from vmharness.disk import image
from vmharness.errors import HostError, QemuError, SpecError
from vmharness.events import CheckpointTaken
from vmharness.flows.run import Run
from vmharness.host.rundir import RunDirectory
from vmharness.model import checkpoint
from vmharness.model.checkpoint import CheckpointNote, Checkpoints, SavedDisk, When
from vmharness.model.hardware import Disk, MachineSpec
from vmharness.model.sizes import MIB
from vmharness.model.steps import Action
from vmharness.vm import checkpoints
from vmharness.vm.machine import Machine

_ROOM = 256 * MIB
"""What must stay free beside a checkpoint for the guest's own writes."""


@define
class Trail:
    """Takes the checkpoints of one run.

    :param run: is told what is done.
    :param directory: gets them.
    :param policy: which are taken. It becomes ``NONE`` when there is no room for them.
    :param last: the checkpoint from which the machine has come.
    :param beside: is called with each checkpoint's folder while the guest stands still, for what it takes besides.
    """

    run: Run
    directory: RunDirectory
    policy: Checkpoints
    last: CheckpointNote | None = None
    beside: Callable[[Path], None] | None = None

    def memory_for(self, size: int) -> Path | None:
        """The file for the guest's memory, so that saving it is cheap; None where no checkpoints are taken.

        :param size: bytes of memory. Where there is no room for it and a checkpoint of it, none are taken, which the
            run says.
        """
        if self.policy is Checkpoints.NONE:
            return None
        try:
            image.require_space(self.directory.path, 2 * size + _ROOM)
        except HostError as error:
            self.run.note(f"no checkpoints are taken: {error.what}")
            self.policy = Checkpoints.NONE
            return None
        return self.directory.memory

    def before(self, machine: Machine, number: int, step: Action) -> None:
        """Take the checkpoint before a step, where the policy wants one."""
        if self.policy is Checkpoints.NONE or (self.policy is Checkpoints.FAILURE and not step.foreign):
            return
        earlier = self.last
        if self.take(machine, number, step, When.BEFORE) is None:
            self.policy = Checkpoints.NONE
        elif self.policy is Checkpoints.FAILURE and earlier is not None:
            forget(self.directory, earlier)

    def take(self, machine: Machine, number: int, step: Action, when: When) -> CheckpointNote | None:
        """Take a checkpoint now; the machine goes on as it did.

        :returns: its note; None where there is no room for it or QEMU cannot, which the run says.
        """
        directory = self.directory
        try:
            image.require_space(directory.path, machine.spec.memory + _ROOM)
            started = time.monotonic()
            name = _free_name(directory, number, when)
            folder = directory.checkpoints / name
            parts = _overlays(machine.spec, directory)
            taken = checkpoints.branch(machine, folder, parts, self.beside)
        except (HostError, QemuError) as error:
            self.run.note(f"no checkpoint {when.value} '{step.name}', the run goes on without: {error.what}")
            return None
        note = CheckpointNote(
            id=name,
            parent=self.last.id if self.last is not None else None,
            step=number,
            name=step.name,
            when=when,
            disks=tuple(_saved_disk(disk, directory.path) for disk in taken.spec.disks),
            seconds=round(time.monotonic() - started, 3),
            size=sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()),
        )
        (folder / checkpoint.NOTE_NAME).write_text(checkpoint.to_json(note), encoding="utf-8")
        wanted = self.policy is Checkpoints.ALL or when is When.FAILED
        self.run.emit(CheckpointTaken(name=name, seconds=note.seconds, size=note.size, wanted=wanted))
        self.last = note
        return note


def notes(directory: RunDirectory) -> tuple[CheckpointNote, ...]:
    """The checkpoints in a run directory, in the order in which they were taken.

    :raises SpecError: one of them is damaged.
    """
    return tuple(sorted(_notes(directory), key=lambda note: note.id))


def _notes(directory: RunDirectory) -> Iterator[CheckpointNote]:
    for path in directory.checkpoints.glob(f"*/{checkpoint.NOTE_NAME}"):
        try:
            note = checkpoint.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise SpecError(f"the checkpoint is damaged: {error}", origin=str(path)) from error
        if note.id != path.parent.name:
            raise SpecError(f"the checkpoint is damaged: it calls itself {note.id!r}", origin=str(path))
        yield note


def forget(directory: RunDirectory, note: CheckpointNote) -> None:
    """Delete a checkpoint. Its disks' images stay: later checkpoints lie over them."""
    shutil.rmtree(directory.checkpoints / note.id, ignore_errors=True)


@frozen(kw_only=True)
class Restorable:
    """What a machine is started with to go on from a checkpoint.

    :param spec: with disks and variable store of its own; what it does changes nothing in the checkpoint.
    :param state: what it resumes.
    """

    spec: MachineSpec
    state: Path


def restorable(note: CheckpointNote, site: RunDirectory, spec: MachineSpec, own: RunDirectory) -> Restorable:
    """Make what a machine needs to go on from a checkpoint.

    :param site: the folder with the checkpoint; it gets the machine's overlays, too.
    :param spec: the run's machine, without disks and variable store.
    :param own: gets the machine's variable store and TPM.
    :raises HostError: they cannot be made.
    """
    folder = site.checkpoints / note.id
    memory = folder / checkpoints.MEMORY
    variables, tpm = None, None
    if spec.firmware is not None:
        variables = own.variables
        shutil.copyfile(folder / checkpoints.VARIABLES, variables)
    if spec.tpm is not None:
        tpm = own.path / checkpoints.TPM
        shutil.rmtree(tpm, ignore_errors=True)
        shutil.copytree(folder / checkpoints.TPM, tpm)
    disks = tuple(_own_disk(disk, site) for disk in note.disks)
    return Restorable(
        spec=evolve(
            spec,
            variables=variables,
            tpm=tpm,
            disks=disks,
            memory_file=memory if memory.exists() else None,
            memory_shared=False,
        ),
        state=folder / checkpoints.STATE,
    )


def _own_disk(disk: SavedDisk, site: RunDirectory) -> Disk:
    images = tuple(site.path / name for name in disk.images)
    if disk.read_only:
        return Disk(name=disk.name, path=images[-1], bus=disk.bus, port=disk.port, read_only=True)
    path = overlay(disk.name, images, site)
    return Disk(name=disk.name, path=path, format="qcow2", bus=disk.bus, port=disk.port, backing=images)


def _overlays(spec: MachineSpec, own: RunDirectory) -> dict[str, Path]:
    return {disk.name: overlay(disk.name, (*disk.backing, disk.path), own) for disk in spec.disks if disk.writable}


def overlay(name: str, images: tuple[Path, ...], own: RunDirectory) -> Path:
    """A fresh overlay for images that lie over each other, the lowest of them raw; it is as large as that.

    :raises HostError: it cannot be made.
    """
    own.layers.mkdir(mode=0o700, exist_ok=True)
    count = 1 + sum(1 for _ in own.layers.glob(f"{name}-*.qcow2"))
    path = own.layers / f"{name}-{count}.qcow2"
    image.create_layer(path, images[0].stat().st_size)
    return path


def _saved_disk(disk: Disk, folder: Path) -> SavedDisk:
    images = tuple(str(path.relative_to(folder)) for path in (*disk.backing, disk.path))
    return SavedDisk(name=disk.name, bus=disk.bus, port=disk.port, read_only=not disk.writable, images=images)


def _free_name(directory: RunDirectory, number: int, when: When) -> str:
    """A name that sorts in the order of taking, and says where it belongs: ``003-before-05``."""
    count = 1 + max((int(path.name[:3]) for path in directory.checkpoints.glob("[0-9][0-9][0-9]-*")), default=0)
    return f"{count:03}-{when.value}-{number + 1:02}"
