"""QEMU's arguments, as values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, Bus, DirectKernel, Disk, Faults, MachineSpec, UserNetwork
from vmharness.model.sizes import GIB
from vmharness.plan.qemu_args import Channels, argv
from vmharness.plan.qemu_disks import blockdev, devices, disk_device, overlay

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
    flash_nodes = "pflash0=firmware-code,pflash1=firmware-variables"
    machine = f"q35,smm={'on' if smm else 'off'},{flash_nodes},memory-backend=memory"
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
    assert disk_device(evolve(disk, port=2))["bus"] == "port2"


def test_a_disk_in_layers() -> None:
    """The images under a disk are named to QEMU one by one and read-only; what their headers name is never followed."""
    node = blockdev(Disk(name="target", path=Path("/2"), format="qcow2", backing=(Path("/0"), Path("/1"))))
    found = []
    while node is not None:
        found.append((node["node-name"], node["driver"], node["file"]["filename"], node["read-only"]))
        node = node.get("backing")
    assert found == [
        ("target", "qcow2", "/2", False), ("target-under1", "qcow2", "/1", True), ("target-under0", "raw", "/0", True),
    ]  # fmt: skip
    assert overlay("target-1", Path("/3"))["backing"] is None


def test_memory_in_a_file() -> None:
    """A machine that is saved or resumed has its memory in a file, as large as its memory."""
    spec = MachineSpec(accelerator=Accelerator.TCG, memory=GIB, memory_file=Path("/m, 1"), memory_shared=True)
    backend = next(item for item in objects(spec, "-object") if item["qom-type"] == "memory-backend-file")
    assert (backend["mem-path"], backend["size"], backend["share"]) == ("/m, 1", GIB, True)
    assert values(spec, "-machine") == [f"q35,smm=off,memory-backend={backend['id']}"]
    without = objects(evolve(spec, memory_file=None), "-object")
    assert [(item["qom-type"], item["id"]) for item in without if item["id"] == "memory"] == [
        ("memory-backend-ram", backend["id"])
    ]


def test_a_build_machine_is_as_it_was() -> None:
    """Saved states are keyed by these arguments: what machines for boot tests have must not show in them."""
    spec = MachineSpec(
        accelerator=Accelerator.TCG,
        firmware=Firmware(code=Path("/code"), template=Path("/template")),
        variables=Path("/variables"),
        memory_file=Path("/memory"),
        command_console=True,
        root_ports=1,
    )
    assert " ".join(argv("qemu", spec, CHANNELS)) == (
        "qemu -name vmharness -nodefaults -no-user-config -display none"
        " -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
        " -machine q35,smm=off,pflash0=firmware-code,pflash1=firmware-variables,memory-backend=memory"
        " -accel tcg -cpu qemu64 -m 512M -smp 1 -rtc base=utc -action panic=pause,reboot=shutdown"
        ' -device {"driver": "pvpanic"}'
        ' -object {"qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom"}'
        ' -device {"driver": "virtio-rng-pci", "rng": "entropy"}'
        ' -object {"qom-type": "memory-backend-file", "id": "memory", "size": 536870912, "mem-path": "/memory",'
        ' "share": false}'
        " -chardev socket,id=monitor,fd=10 -mon chardev=monitor,mode=control"
        " -chardev socket,id=log,fd=11 -serial chardev:log"
        ' -device {"driver": "virtio-serial-pci", "id": "consoles"} -chardev socket,id=command,fd=12'
        ' -device {"driver": "virtconsole", "chardev": "command"}'
        ' -blockdev {"driver": "raw", "node-name": "firmware-code", "read-only": true,'
        ' "file": {"driver": "file", "filename": "/code"}}'
        ' -blockdev {"driver": "raw", "node-name": "firmware-variables", "read-only": false,'
        ' "file": {"driver": "file", "filename": "/variables"}}'
        ' -device {"driver": "pcie-root-port", "id": "port0", "chassis": 1, "slot": 1}'
    )


@pytest.mark.parametrize(
    ("bus", "expected"),
    [
        (Bus.VIRTIO, [("virtio-blk-pci", None)]),
        (Bus.NVME, [("nvme", None)]),
        (Bus.AHCI, [("ide-hd", "ide.0")]),
        (Bus.USB, [("qemu-xhci", None), ("usb-bot", "usb.0"), ("scsi-hd", "one-usb.0")]),
        (Bus.SCSI, [("virtio-scsi-pci", None), ("scsi-hd", "one-scsi.0")]),
        (Bus.CDROM, [("ide-cd", "ide.0")]),
    ],
)
def test_buses(bus: Bus, expected: list[tuple[str, str | None]]) -> None:
    """A disk on a bus is that bus' device, with the controller that the board lacks; nobody asks for a boot index."""
    made = list(devices([Disk(name="one", path=Path("/one"), bus=bus)]))
    assert [(device["driver"], device.get("bus")) for device in made] == expected
    assert made[-1]["serial"] == "one"
    assert "bootindex" not in str(made)


def test_many_disks() -> None:
    """Disks come in their order; each on scsi has a controller of its own, and each SATA device a port."""
    buses = (Bus.CDROM, Bus.SCSI, Bus.AHCI, Bus.USB, Bus.VIRTIO, Bus.SCSI, Bus.USB, Bus.AHCI)
    disks = tuple(Disk(name=f"d{number}", path=Path(f"/{number}"), bus=bus) for number, bus in enumerate(buses))
    spec = MachineSpec(accelerator=Accelerator.TCG, disks=disks)
    made = objects(spec, "-device")
    assert [device["drive"] for device in made if "drive" in device] == [disk.name for disk in disks]
    drivers = [device["driver"] for device in made]
    assert (drivers.count("virtio-scsi-pci"), drivers.count("qemu-xhci"), drivers.count("usb-bot")) == (2, 1, 2)
    assert [device["bus"] for device in made if device["driver"].startswith("ide")] == ["ide.0", "ide.1", "ide.2"]
    assert [node["node-name"] for node in objects(spec, "-blockdev")] == [disk.name for disk in disks]


@pytest.mark.parametrize("bus", [Bus.VIRTIO, Bus.NVME, Bus.USB, Bus.SCSI])
def test_large_sectors(bus: Bus) -> None:
    """A disk with sectors of 4096 bytes has and shows them so."""
    disk = Disk(name="disk", path=Path("/d"), bus=bus, block_size=4096)
    device = disk_device(disk)
    assert (device["logical_block_size"], device["physical_block_size"]) == (4096, 4096)
    assert "logical_block_size" not in disk_device(Disk(name="disk", path=Path("/d"), bus=bus))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"bus": Bus.CDROM, "block_size": 4096},
            "a disk on cdrom cannot have sectors of 4096 bytes: virtio, nvme, usb",
        ),
        ({"bus": Bus.AHCI, "block_size": 4096}, "a disk on ahci cannot have sectors of 4096 bytes"),
        ({"block_size": 2048}, r"cannot have sectors of 2048 bytes \(allowed: 512, 4096\)"),
        ({"bus": Bus.AHCI, "read_only": True}, "no read-only disk on ahci"),
        ({"name": "a name, with a comma"}, "is no name for a disk"),
        ({"name": "longer-than-a-serial-number"}, "is no name for a disk"),
    ],
)
def test_disks_that_cannot_be(values: dict[str, Any], reason: str) -> None:
    """What QEMU cannot do, or would cut off silently, is refused with a sentence."""
    with pytest.raises(ValueError, match=reason):
        Disk(**{"name": "disk", "path": Path("/d"), **values})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"disks": [Disk(name="a", path=Path("/a")), Disk(name="a", path=Path("/b"))]}, "two disks are called 'a'"),
        ({"disks": [Disk(name=f"d{n}", path=Path("/d"), bus=Bus.CDROM) for n in range(7)]}, "has 6 ports for disks"),
        ({"clock": "yesterday"}, "the clock cannot be set to 'yesterday': give it as 2020-01-01T00:00:00"),
        ({"clock": "2020-01-01"}, "cannot be set to '2020-01-01'"),
        ({"clock": "2020-01-01T00:00:00+01:00"}, "without a time zone"),
        ({"monitor_socket": Path("/" + 107 * "x")}, "longer than the 107 bytes"),
    ],
)
def test_machines_that_cannot_be(values: dict[str, Any], reason: str) -> None:
    """So are machines that cannot be."""
    with pytest.raises(ValueError, match=reason):
        MachineSpec(accelerator=Accelerator.TCG, **values)


def test_unreadable_sectors() -> None:
    """A disk with faults is the same disk under a node that lets reads of these sectors fail, and nothing else."""
    disk = Disk(name="disk", path=Path("/d"), format="qcow2", faults=Faults(unreadable=[5, 9]))
    node = blockdev(disk)
    assert (node["driver"], node["node-name"], node["read-only"]) == ("blkdebug", "disk", False)
    assert (node["image"]["driver"], node["image"]["file"]["filename"]) == ("qcow2", "/d")
    assert node["image"]["node-name"] != "disk"
    assert [(rule["sector"], rule["iotype"]) for rule in node["inject-error"]] == [(5, "read"), (9, "read")]


def test_a_cdrom_is_never_written() -> None:
    """A cdrom is read-only, whether that was said or not."""
    assert blockdev(Disk(name="disk", path=Path("/d"), bus=Bus.CDROM))["read-only"] is True
    assert not Disk(name="disk", path=Path("/d"), bus=Bus.CDROM).writable
    assert Disk(name="disk", path=Path("/d")).writable


def test_screen_network_and_tpm() -> None:
    """Each is there only where it is asked for; the forwarded port is QEMU's choice, on the loopback address."""
    spec = MachineSpec(accelerator=Accelerator.TCG, display=True, network=UserNetwork(guest_port=80))
    assert values(spec, "-display") == ["none"]
    assert {device["driver"] for device in objects(spec, "-device")} >= {"VGA", "virtio-net-pci"}
    (net,) = objects(spec, "-netdev")
    assert net["hostfwd"] == [{"str": "tcp:127.0.0.1:0-:80"}]
    assert "restrict" not in net
    (net,) = objects(MachineSpec(accelerator=Accelerator.TCG, network=UserNetwork(restricted=True)), "-netdev")
    assert net["restrict"] is True
    with_tpm = arguments(spec, Channels(monitor=3, log=4, tpm=5))
    assert ("-chardev", "socket,id=tpm,fd=5") in with_tpm
    assert ("-tpmdev", "emulator,id=tpm,chardev=tpm") in with_tpm
    assert "tpm" not in str(arguments(spec, Channels(monitor=3, log=4)))
    assert not {"VGA", "virtio-net-pci"} & {device["driver"] for device in objects(SPEC, "-device")}


def test_clock_entropy_and_resets() -> None:
    """A fixed clock runs with the guest; without entropy there is no source of it; resets restart or end."""
    spec = MachineSpec(accelerator=Accelerator.TCG, clock="2040-02-29T12:00:00", entropy=False, resets=True)
    assert values(spec, "-rtc") == ["base=2040-02-29T12:00:00,clock=vm"]
    assert "rng" not in str(arguments(spec))
    assert values(spec, "-action") == ["panic=pause,reboot=reset"]
    assert values(SPEC, "-action") == ["panic=pause,reboot=shutdown"]


def test_a_monitor_for_a_person() -> None:
    """A second monitor listens on a socket, whose path may have commas."""
    spec = MachineSpec(accelerator=Accelerator.TCG, monitor_socket=Path("/run/a, b"))
    assert "socket,id=person,path=/run/a,, b,server=on,wait=off" in values(spec, "-chardev")
    assert values(spec, "-mon") == ["chardev=monitor,mode=control", "chardev=person,mode=readline"]


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
