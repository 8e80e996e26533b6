"""Checkpoints, on the fake QEMU: which files they have, and what becomes of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from fake_machines import NewMachine

from vmharness.errors import ApiMisuse, HostError, QmpRefused
from vmharness.host.rundir import RunDirectory
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, Bus, Disk, MachineSpec
from vmharness.vm import checkpoints
from vmharness.vm.machine import State

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@pytest.fixture
def spec(run: RunDirectory) -> MachineSpec:
    """A machine with one of everything that a checkpoint keeps."""
    for name in ("written", "medium", "code", "variables", "memory"):
        (run.path / name).write_text(name)
    (run.path / "link").symlink_to("written")
    return MachineSpec(
        accelerator=Accelerator.TCG,
        firmware=Firmware(code=run.path / "code", template=run.path / "code"),
        variables=run.path / "variables",
        disks=(
            Disk(name="disk", path=run.path / "link", bus=Bus.SCSI),
            Disk(name="medium", path=run.path / "medium", bus=Bus.CDROM),
        ),
        memory_file=run.path / "memory",
        memory_shared=True,
        monitor_socket=run.path / "monitor",
    )


def test_what_is_kept(new_machine: NewMachine, run: RunDirectory, spec: MachineSpec, tmp_path: Path) -> None:
    """A checkpoint has copies of what the guest writes, the memory itself, and the rest where it was."""
    with new_machine(spec=spec) as machine:
        machine.start()
        kept = checkpoints.take(machine, tmp_path / "here")
        assert machine.state is State.OFF
    disk, medium = kept.spec.disks
    assert disk.path == tmp_path / "here/disk.raw"
    assert not disk.path.is_symlink()
    assert disk.path.read_text() == "written" == (run.path / "written").read_text()
    assert medium.path == run.path / "medium"
    assert kept.spec.variables == tmp_path / "here/efi-vars.fd"
    assert kept.spec.memory_file == tmp_path / "here/memory"
    assert kept.spec.memory_file.read_text() == "memory"
    assert (kept.spec.memory_shared, kept.spec.monitor_socket) == (False, None)
    assert kept.devices.read_bytes() == b"state of the devices"
    with new_machine(spec=kept.spec) as machine:
        machine.start(resume=kept.devices)
        again = checkpoints.take(machine, tmp_path / "again")
    assert again.spec.memory_file == kept.spec.memory_file  # what the second one wrote to it is with its devices


def test_a_paused_machine(new_machine: NewMachine, spec: MachineSpec, tmp_path: Path) -> None:
    """A machine that was paused can be kept as it is, and one without a file for its memory, too."""
    with new_machine(spec=evolve(spec, memory_file=None, memory_shared=False)) as machine:
        machine.start()
        machine.pause()
        assert checkpoints.take(machine, tmp_path / "here").spec.memory_file is None


def test_what_cannot_be_saved(new_machine: NewMachine, run: RunDirectory, spec: MachineSpec, tmp_path: Path) -> None:
    """A disk on nvme is refused while the machine runs on."""
    on_nvme = evolve(spec, disks=(Disk(name="disk", path=run.path / "written", bus=Bus.NVME),))
    with new_machine(spec=on_nvme) as machine:
        machine.start()
        with pytest.raises(ApiMisuse, match=r"cannot save the nvme controller of its disk 'disk'(.|\n)*virtio, scsi"):
            checkpoints.take(machine, tmp_path / "here")
        assert machine.state is State.RUNNING
    assert not (tmp_path / "here").exists()


def test_a_qemu_that_refuses(new_machine: NewMachine, spec: MachineSpec, tmp_path: Path) -> None:
    """A machine that QEMU cannot save is paused and can go on; nothing is left of the checkpoint."""
    with new_machine(spec=spec, migration=["setup", "failed"]) as machine:
        machine.start()
        with pytest.raises(QmpRefused, match="saving the machine: QEMU says that it failed"):
            checkpoints.take(machine, tmp_path / "here")
        assert not (tmp_path / "here").exists()
        assert machine.state is State.PAUSED
        machine.unpause()
        assert machine.state is State.RUNNING


def test_a_file_that_is_gone(new_machine: NewMachine, run: RunDirectory, spec: MachineSpec, tmp_path: Path) -> None:
    """A file that cannot be copied is an error that names it, and nothing is left of the checkpoint."""
    with new_machine(spec=spec) as machine:
        machine.start()
        (run.path / "written").unlink()
        with pytest.raises(HostError, match="copying link into the checkpoint"):
            checkpoints.take(machine, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_folder_that_is_there(new_machine: NewMachine, spec: MachineSpec, tmp_path: Path) -> None:
    """A checkpoint never goes into somebody's folder, and the machine runs on."""
    with new_machine(spec=spec) as machine:
        machine.start()
        with pytest.raises(HostError, match=r"cannot make the checkpoint .*: File exists"):
            checkpoints.take(machine, tmp_path)
        assert machine.state is State.RUNNING
