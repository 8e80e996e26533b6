"""Checkpoints: a machine at one moment, as a folder of files from which any number of machines go on.

The folder holds the state of the devices (the flash among them), what the guest has written to its disks, a copy of the
variable store and one of the TPM's folder. The guest's memory is a file of its own where the machine had it in one, and
is then mapped privately by those that go on; otherwise it is with the devices, and each of them reads it whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import evolve, frozen

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.model.hardware import Disk, MachineSpec
from vmharness.vm.machine import Machine

STATE, MEMORY, VARIABLES, TPM = "state", "memory", "efi-vars.fd", "tpm"
"""A checkpoint's files, in its folder."""


@frozen(kw_only=True)
class Checkpoint:
    """A machine at one moment.

    To go on from it, start a machine of ``spec`` with disks, variable store and TPM's folder of its own
    (:func:`attrs.evolve`: overlays on these disks, copies of the others), and with ``resume=devices``. What it does
    changes nothing here.

    :param spec: the machine, with the checkpoint's own files.
    :param devices: the state of its devices.
    """

    spec: MachineSpec
    devices: Path


def take(machine: Machine, folder: Path) -> Checkpoint:
    """Save a running or paused machine with its disks, and switch it off.

    After an error while it is saved the machine is ``PAUSED`` and can go on.

    :param folder: made by this; it belongs to the checkpoint.
    :raises ApiMisuse: the machine has something that cannot be saved, such as a disk on nvme.
    :raises QemuError: QEMU cannot save it.
    :raises HostError: its files cannot be copied.
    """
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise HostError(f"cannot make the checkpoint {folder}: {error.strerror}") from error
    try:
        devices = folder / STATE
        machine.save(devices)
        machine.off()
        return Checkpoint(spec=_kept(machine.spec, folder), devices=devices)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def branch(
    machine: Machine, folder: Path, overlays: Mapping[str, Path], beside: Callable[[Path], None] | None = None
) -> Checkpoint:
    """Save a machine with its disks, and let it go on as it did. It stands still for some tenths of a second.

    Its disks' images are the checkpoint's from now on, and nobody writes to them any more: what the machine writes goes
    to the overlays.

    :param folder: made by this; it belongs to the checkpoint.
    :param overlays: a fresh qcow2 image for each writable disk, by the disk's name, that names no backing file.
    :param beside: is called with ``folder`` while the guest stands still, for what belongs to its state besides.
    :raises ApiMisuse: the machine has something that cannot be saved, such as a disk on nvme.
    :raises QemuError: QEMU cannot save it, such as for want of space.
    :raises HostError: its files cannot be copied.
    """
    spec = machine.spec

    def copy() -> None:
        if spec.memory_file is not None and spec.memory_shared:
            copied(spec.memory_file, folder / MEMORY)
        if spec.variables is not None:
            copied(spec.variables, folder / VARIABLES)
        if spec.tpm is not None:
            copied(spec.tpm, folder / TPM)
        if beside is not None:
            beside(folder)

    try:
        folder.mkdir(mode=0o700, parents=True)
        machine.checkpoint(folder / STATE, overlays, copy)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise HostError(f"cannot make the checkpoint {folder}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    spec = evolve(
        spec,
        variables=None if spec.variables is None else folder / VARIABLES,
        tpm=None if spec.tpm is None else folder / TPM,
        memory_file=folder / MEMORY if spec.memory_shared else None,
        memory_shared=False,
        monitor_socket=None,
    )
    return Checkpoint(spec=spec, devices=folder / STATE)


def _kept(spec: MachineSpec, folder: Path) -> MachineSpec:
    """The machine with files in ``folder``: nobody writes to the old ones any more, since QEMU has ended."""
    memory = spec.memory_file
    if memory is not None and spec.memory_shared:
        memory = Path(shutil.move(memory, folder / "memory"))
    return evolve(
        spec,
        disks=tuple(_kept_disk(disk, folder) for disk in spec.disks),
        variables=None if spec.variables is None else copied(spec.variables, folder / VARIABLES),
        tpm=None if spec.tpm is None else copied(spec.tpm, folder / TPM),
        memory_file=memory,
        memory_shared=False,
        monitor_socket=None,
    )


def _kept_disk(disk: Disk, folder: Path) -> Disk:
    target = folder / f"{disk.name}.{disk.format}"
    return evolve(disk, path=copied(disk.path, target)) if disk.writable else disk


def copied(source: Path, target: Path) -> Path:
    """A copy of a file or folder that shares its blocks where the filesystem can; holes stay holes."""
    how = ["--recursive", "--dereference", "--reflink=auto", "--sparse=auto", "--preserve=timestamps"]
    proc.run(["cp", *how, "--", source, target], doing=f"copying {source.name} into the checkpoint")
    return target
