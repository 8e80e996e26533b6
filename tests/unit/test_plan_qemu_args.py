"""QEMU's arguments, as values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, DirectKernel, Disk, MachineSpec
from vmharness.model.sizes import GIB
from vmharness.plan.qemu_args import Channels, argv, blockdev, disk_device

CHANNELS = Channels(monitor=10, log=11, command=12)
SPEC = MachineSpec(accelerator=Accelerator.TCG)
PATHS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1).map(Path)


def arguments(spec: MachineSpec, channels: Channels = CHANNELS) -> list[tuple[str, str]]:
    """Options with their values; an option without one has an empty value."""
    pairs: list[tuple[str, str]] = []
    for part in argv("qemu", spec, channels)[1:]:
        if part.startswith("-") and not (pairs and pairs[-1][0] == "-append" and not pairs[-1][1]):
            pairs.append((part, ""))
        else:
            pairs[-1] = (pairs[-1][0], part)
    return pairs


def values(spec: MachineSpec, option: str) -> list[str]:
    return [value for name, value in arguments(spec) if name == option]


def objects(spec: MachineSpec, option: str) -> list[dict[str, Any]]:
    return [json.loads(value) for value in values(spec, option)]


def test_the_least_machine() -> None:
    """Nothing that was not asked for: no defaults, no display, no network card."""
    options = [name for name, _ in arguments(SPEC)]
    assert {"-nodefaults", "-no-user-config"} <= set(options)
    assert values(SPEC, "-display") == ["none"]
    assert not {"-netdev", "-nic", "-drive", "-kernel"} & set(options)
    assert values(SPEC, "-m") == ["512M"]
    assert {device["driver"] for device in objects(SPEC, "-device")} >= {"pvpanic", "virtio-rng-pci"}


@pytest.mark.parametrize(
    ("accelerator", "cpu", "expected"),
    [(Accelerator.TCG, "qemu64", "qemu64"), (Accelerator.TCG, "max", "max"), (Accelerator.KVM, "qemu64", "host")],
)
def test_the_processor(accelerator: Accelerator, cpu: str, expected: str) -> None:
    """KVM gives the guest the host's processor; TCG emulates the one that is asked for."""
    spec = MachineSpec(accelerator=accelerator, cpu=cpu, cpus=2)
    assert (values(spec, "-accel"), values(spec, "-cpu")) == ([accelerator.value], [expected])
    assert values(spec, "-smp") == ["2"]


def test_channels() -> None:
    """Monitor and consoles are the inherited descriptors; the command console is there only where it is asked for."""
    assert values(SPEC, "-chardev") == ["socket,id=monitor,fd=10", "socket,id=log,fd=11", "socket,id=command,fd=12"]
    assert values(SPEC, "-mon") == ["chardev=monitor,mode=control"]
    assert values(SPEC, "-serial") == ["chardev:log"]
    without = arguments(SPEC, Channels(monitor=3, log=4))
    assert [value for name, value in without if name == "-chardev"] == ["socket,id=monitor,fd=3", "socket,id=log,fd=4"]
    assert "virtconsole" not in str(without)


@pytest.mark.parametrize("smm", [True, False])
def test_firmware(smm: bool) -> None:
    """Firmware is two flash devices, the code read-only; one that needs SMM gets it and secure flash."""
    firmware = Firmware(code=Path("/code"), template=Path("/t"), features=("requires-smm",) if smm else ())
    spec = MachineSpec(accelerator=Accelerator.TCG, firmware=firmware, variables=Path("/vars"))
    machine = f"q35,smm={'on' if smm else 'off'},pflash0=firmware-code,pflash1=firmware-variables"
    assert values(spec, "-machine") == [machine]
    flash = {node["node-name"]: (node["file"]["filename"], node["read-only"]) for node in objects(spec, "-blockdev")}
    assert flash == {"firmware-code": ("/code", True), "firmware-variables": ("/vars", False)}
    assert (values(spec, "-global") == ["driver=cfi.pflash01,property=secure,value=on"]) is smm


def test_a_store_of_its_own() -> None:
    """Firmware without a variable store of this machine is the caller's bug: the template must never be written."""
    firmware = Firmware(code=Path("/code"), template=Path("/template"))
    with pytest.raises(AssertionError, match="variable store of its own"):
        argv("qemu", MachineSpec(accelerator=Accelerator.TCG, firmware=firmware), CHANNELS)


def test_a_direct_kernel() -> None:
    """Kernel, initrd and command line; a command line that begins with a dash is still one."""
    kernel = DirectKernel(image=Path("/k,x"), initrd=Path("/i y"), command_line=("-- ", "console=ttyS0"))
    spec = MachineSpec(accelerator=Accelerator.TCG, kernel=kernel)
    assert (values(spec, "-kernel"), values(spec, "-initrd")) == (["/k,x"], ["/i y"])
    assert values(spec, "-append") == ["--  console=ttyS0"]


def test_root_ports() -> None:
    """Each port has a name, chassis and slot of its own."""
    spec = MachineSpec(accelerator=Accelerator.TCG, root_ports=3)
    ports = [device for device in objects(spec, "-device") if device["driver"] == "pcie-root-port"]
    assert [(port["id"], port["chassis"], port["slot"]) for port in ports] == [
        ("port0", 1, 1), ("port1", 2, 2), ("port2", 3, 3),
    ]  # fmt: skip


def test_a_disk() -> None:
    """A disk is found by its name as serial number; a plugged one sits on a port."""
    disk = Disk(name="target", path=Path("/d.qcow2"), format="qcow2", read_only=True)
    node = blockdev(disk)
    assert (node["driver"], node["node-name"], node["read-only"]) == ("qcow2", "target", True)
    assert disk_device(disk)["serial"] == "target"
    assert "bus" not in disk_device(disk)
    assert disk_device(disk, 2)["bus"] == "port2"


def test_memory_in_a_file() -> None:
    """A machine that is saved or resumed has its memory in a file, as large as its memory."""
    spec = MachineSpec(accelerator=Accelerator.TCG, memory=GIB, memory_file=Path("/m, 1"), memory_shared=True)
    backend = next(item for item in objects(spec, "-object") if item["qom-type"] == "memory-backend-file")
    assert (backend["mem-path"], backend["size"], backend["share"]) == ("/m, 1", GIB, True)
    assert values(spec, "-machine") == [f"q35,smm=off,memory-backend={backend['id']}"]


@given(PATHS, PATHS, PATHS)
def test_any_path(code: Path, variables: Path, disk: Path) -> None:
    """Paths with blanks, commas, quotes, line breaks or any other character arrive as they are."""
    spec = MachineSpec(
        accelerator=Accelerator.TCG,
        firmware=Firmware(code=code, template=code),
        variables=variables,
        disks=(Disk(name="disk", path=disk),),
    )
    nodes = {node["node-name"]: node["file"]["filename"] for node in objects(spec, "-blockdev")}
    assert nodes == {"firmware-code": str(code), "firmware-variables": str(variables), "disk": str(disk)}
