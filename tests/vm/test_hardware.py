"""The hardware of machines, as a real QEMU and a real firmware see it; no guest system is needed."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from attrs import evolve

from vmharness.disk import efivars
from vmharness.host import accelerator, descriptors
from vmharness.host.rundir import RunDirectory
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Bus, Disk, Faults, MachineSpec, UserNetwork
from vmharness.model.image import AutoFirmware
from vmharness.model.outcome import PoweredOff
from vmharness.model.sizes import MIB
from vmharness.plan import firmware as choice_of
from vmharness.vm import checkpoints
from vmharness.vm.console import Seen
from vmharness.vm.machine import Machine, State

pytestmark = pytest.mark.vm

ACCELERATOR = accelerator.choose("tcg").accelerator
ON_BOARD = "Press ESC in"


def wait_for(machine: Machine, pattern: str, within: float = 90) -> Seen:
    seen = machine.log.expect([re.compile(pattern)], within=within, waiting_for=pattern)
    assert isinstance(seen, Seen), seen
    return seen


def type_in(machine: Machine, line: str) -> str:
    """Run a line in the firmware's shell; gives what it printed."""
    machine.log.send(line.encode() + b"\r")
    wait_for(machine, re.escape(line))
    return wait_for(machine, r"(?:Shell|FS\d:\\)> ").before


@pytest.fixture
def fat(tmp_path: Path) -> Path:
    """A disk of 8 MiB with two small files, far enough from each other not to be read together."""
    disk, text = tmp_path / "fat.raw", tmp_path / "text"
    with disk.open("wb") as file:
        file.truncate(8 * MIB)
    subprocess.run(["mkfs.vfat", "-F", "12", "--mbr=n", disk], check=True, capture_output=True)
    for name, size in {"first.txt": 20, "padding": 2 * MIB, "second.txt": 20}.items():
        text.write_text(f"this is {name}\n".ljust(size))
        subprocess.run(["mcopy", "-i", disk, text, f"::{name}"], check=True)
    return disk


@pytest.fixture
def firmware() -> Firmware:
    """The firmware that builds take."""
    return choice_of.select(AutoFirmware(), descriptors.for_choice(AutoFirmware()))


@pytest.fixture
def spec(tmp_path: Path, firmware: Firmware) -> MachineSpec:
    """A machine with a blank store that ends up in its firmware's shell."""
    shutil.copyfile(firmware.template, tmp_path / "variables.fd")
    return MachineSpec(
        accelerator=ACCELERATOR,
        memory=256 * MIB,
        cpu="max",
        firmware=firmware,
        variables=tmp_path / "variables.fd",
        display=True,
        resets=True,
        tpm=tmp_path / "tpm, with state",
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run directory."""
    (tmp_path / "run").mkdir()
    return RunDirectory(path=tmp_path / "run")


def blank(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(MIB)
    return path


def test_every_bus(spec: MachineSpec, run: RunDirectory, fat: Path, tmp_path: Path) -> None:
    """The firmware finds a disk on each bus, with small and with large sectors; clock, keyboard, screen, TPM and the
    person's monitor are there; an unreadable sector cannot be read; and the firmware can switch the machine off.
    """
    content = fat.read_bytes()
    bad = content.index(b"this is second.txt") // 512
    disks = [Disk(name="fat", path=fat, faults=Faults(unreadable=[bad]))]
    for bus in Bus:
        disks.append(Disk(name=bus.value, path=blank(tmp_path / bus.value), bus=bus))
        if not bus.is_sata:
            disks.append(Disk(name=f"{bus.value}-4k", path=blank(tmp_path / f"{bus.value}4"), bus=bus, block_size=4096))
    monitor = tmp_path / "a, b"
    asked = evolve(spec, disks=tuple(disks), clock="2031-02-03T04:05:06", monitor_socket=monitor)
    with Machine(asked, run, deaths=()) as machine:
        machine.start()
        found = wait_for(machine, ON_BOARD).before
        machine.screenshot(run.path / "screen.png")
        machine.send_keys(["spc"])  # any key goes on without waiting
        wait_for(machine, "Shell> ", within=4)
        drives = re.findall(r"(?:BLK|FS)\d+: Alias.*\s+(PciRoot\S+)", found)
        assert len(drives) == len(disks)
        kinds = [drive.count("/") > 1 and drive.split("/")[2].split("(")[0] for drive in drives]
        assert {kind: kinds.count(kind) for kind in kinds} == {False: 3, "NVMe": 2, "Sata": 2, "USB": 2, "Scsi": 2}
        assert "02/03/2031" in type_in(machine, "date")
        assert "this is first.txt" in type_in(machine, r"type fs0:\first.txt")
        assert "this is second.txt" not in type_in(machine, r"type fs0:\second.txt")
        assert machine.block_io().read_bytes > 4096
        assert "RIP=" in machine.registers()
        with socket.socket(socket.AF_UNIX) as person:
            person.connect(str(monitor))
            assert b"QEMU" in person.recv(4096)
        machine.log.send(b"reset -s\r")
        assert isinstance(machine.wait_off(within=20), PoweredOff)
    assert (run.path / "screen.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tpm, with state").glob("*.permall"))


def test_resets_and_network(run: RunDirectory) -> None:
    """QEMU's sandbox lets a network in: a connection to the port that it chose is taken; a reset restarts the BIOS."""
    spec = MachineSpec(accelerator=ACCELERATOR, memory=64 * MIB, network=UserNetwork(), resets=True, display=True)
    with Machine(spec, run) as machine:
        machine.start()
        with socket.create_connection(("127.0.0.1", machine.ssh_port()), timeout=5):
            pass
        machine.reset()
        machine.reset()
        assert (machine.resets.by_us, machine.resets.by_guest) == (2, 0)
        machine.kill()
        assert machine.state is State.OFF


def test_checkpoint(spec: MachineSpec, run: RunDirectory, fat: Path, tmp_path: Path) -> None:
    """Machines go on from a checkpoint, each for itself, with disks on every bus that can be saved, variables, memory
    and TPM; and a checkpoint can be made of one of them.
    """
    others = [bus for bus in Bus if bus not in {Bus.VIRTIO, Bus.NVME}]
    disks = [Disk(name="fat", path=fat)]
    disks += [Disk(name=bus.value, path=blank(tmp_path / bus.value), bus=bus) for bus in others]
    memory = run.path / "memory"
    memory.touch()
    spec = evolve(spec, disks=tuple(disks), memory_file=memory, memory_shared=True)
    with Machine(spec, run, deaths=()) as machine:
        machine.start()
        wait_for(machine, ON_BOARD)
        machine.log.send(b"\x1b")
        wait_for(machine, "Shell> ")
        type_in(machine, "set kept before")
        first = checkpoints.take(machine, tmp_path / "first")
    assert first.devices.stat().st_size < spec.memory / 4
    with resumed(first, tmp_path / "one") as one:
        assert "kept = before" in type_in(one, "set kept")
        type_in(one, "set kept changed")
        assert kept_in(tmp_path / "one") == "changed"
        type_in(one, r"cp fs0:\first.txt fs0:\third.txt")
        assert "this is first.txt" in type_in(one, r"type fs0:\third.txt")
        second = checkpoints.take(one, tmp_path / "second")
    with resumed(first, tmp_path / "two") as two:
        assert "kept = before" in type_in(two, "set kept")
        assert kept_in(tmp_path / "two") == "before"
        assert "this is" not in type_in(two, r"type fs0:\third.txt")
    with resumed(second, tmp_path / "three") as three:
        assert "kept = changed" in type_in(three, "set kept")
        assert "this is first.txt" in type_in(three, r"type fs0:\third.txt")


def kept_in(folder: Path) -> str:
    """The value of the shell's variable ``kept``, which is an EFI variable, in the store's file of a machine."""
    (value,) = [v.data for v in efivars.read_store(folder / "variables.fd").variables if v.name == "kept"]
    return value.decode("utf-16").rstrip("\0")


def resumed(checkpoint: checkpoints.Checkpoint, folder: Path) -> Machine:
    """A running machine that goes on from a checkpoint, with files of its own."""
    folder.mkdir()
    spec = checkpoint.spec
    assert spec.tpm is not None
    assert spec.variables is not None
    shutil.copytree(spec.tpm, folder / "tpm")
    shutil.copyfile(spec.variables, folder / "variables.fd")
    disks = []
    for disk in spec.disks:
        if disk.writable:
            overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", disk.format, "-b", disk.path]
            subprocess.run([*overlay, folder / disk.name], check=True)
            disk = evolve(disk, path=folder / disk.name, format="qcow2")  # noqa: PLW2901 -- the machine's own
        disks.append(disk)
    own = evolve(spec, disks=tuple(disks), variables=folder / "variables.fd", tpm=folder / "tpm")
    machine = Machine(own, RunDirectory(path=folder), deaths=())
    began = time.monotonic()
    machine.start(resume=checkpoint.devices)
    assert time.monotonic() - began < 4  # a fifth of a second where nobody else is at work
    return machine
