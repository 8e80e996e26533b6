"""Checkpoints: a machine at one moment, as a folder of files from which any number of machines go on.

The folder holds the state of the devices (the flash among them), what the guest has written to its disks, a copy of the
variable store and one of the TPM's folder. The guest's memory is a file of its own where the machine had it in one, and
is then mapped privately by those that go on; otherwise it is with the devices, and each of them reads it whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from attrs import evolve, frozen

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.model.hardware import Disk, MachineSpec
from vmharness.vm.machine import Machine


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
        devices = folder / "devices"
        machine.save(devices)
        machine.off()
        return Checkpoint(spec=_kept(machine.spec, folder), devices=devices)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _kept(spec: MachineSpec, folder: Path) -> MachineSpec:
    """The machine with files in ``folder``: nobody writes to the old ones any more, since QEMU has ended."""
    memory = spec.memory_file
    if memory is not None and spec.memory_shared:
        memory = Path(shutil.move(memory, folder / "memory"))
    return evolve(
        spec,
        disks=tuple(_kept_disk(disk, folder) for disk in spec.disks),
        variables=None if spec.variables is None else _copied(spec.variables, folder / "efi-vars.fd"),
        tpm=None if spec.tpm is None else _copied(spec.tpm, folder / "tpm"),
        memory_file=memory,
        memory_shared=False,
        monitor_socket=None,
    )


def _kept_disk(disk: Disk, folder: Path) -> Disk:
    target = folder / f"{disk.name}.{disk.format}"
    return evolve(disk, path=_copied(disk.path, target)) if disk.writable else disk


def _copied(source: Path, target: Path) -> Path:
    """A copy of a file or folder that shares its blocks where the filesystem can; holes stay holes."""
    how = ["--recursive", "--dereference", "--reflink=auto", "--sparse=auto", "--preserve=timestamps"]
    proc.run(["cp", *how, "--", source, target], doing=f"copying {source.name} into the checkpoint")
    return target
