"""QEMU's arguments from a :class:`~vmharness.model.hardware.MachineSpec`.

Options that take JSON are given as JSON: a path with a comma or a space is right there and wrong in a ``key=value``
list.
Every block node is named, so that disks can be plugged, overlaid and saved while the machine runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from vmharness.model.hardware import Accelerator, MachineSpec
from vmharness.model.sizes import MIB
from vmharness.plan import qemu_disks


@frozen(kw_only=True)
class Channels:
    """Numbers of the descriptors that QEMU inherits; those of the other channels where there is one."""

    monitor: int
    log: int
    command: int | None = None
    terminal: int | None = None
    tpm: int | None = None


def argv(program: str, machine: MachineSpec, channels: Channels) -> list[str]:
    """The whole argument list, program first."""
    return [
        program,
        *_base(machine),
        *_memory(machine),
        *_channels(channels),
        *_person(machine),
        *_firmware(machine),
        *_kernel(machine),
        *_ports(machine),
        *_disks(machine),
        *_extras(machine, channels),
    ]


def _base(machine: MachineSpec) -> list[str]:
    smm = machine.firmware is not None and machine.firmware.needs_smm
    board = "q35,smm=on" if smm else "q35,smm=off"
    if machine.firmware is not None:
        board += ",pflash0=firmware-code,pflash1=firmware-variables"
    board += ",memory-backend=memory"
    cpu = "host" if machine.accelerator is Accelerator.KVM else machine.cpu
    return [
        "-name", "vmharness",
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine", board,
        "-accel", machine.accelerator.value,
        "-cpu", cpu,
        "-m", f"{machine.memory // MIB}M",
        "-smp", str(machine.cpus),
        "-rtc", "base=utc" if machine.clock is None else f"base={machine.clock},clock=vm",
        "-action", f"panic=pause,reboot={'reset' if machine.resets else 'shutdown'}",
        "-device", _json({"driver": "pvpanic"}),
        *(_ENTROPY if machine.entropy else ()),
    ]  # fmt: skip


def _memory(machine: MachineSpec) -> list[str]:
    # Of one name whether it has a file or not, so that a saved state fits both.
    backend: dict[str, Any] = {"qom-type": "memory-backend-ram", "id": "memory", "size": machine.memory}
    if machine.memory_file is not None:
        file = {"mem-path": str(machine.memory_file), "share": machine.memory_shared}
        backend |= {"qom-type": "memory-backend-file", **file}
    return ["-object", _json(backend)]


def _channels(channels: Channels) -> list[str]:
    parts = [
        "-chardev", f"socket,id=monitor,fd={channels.monitor}",
        "-mon", "chardev=monitor,mode=control",
        "-chardev", f"socket,id=log,fd={channels.log}",
        "-serial", "chardev:log",
    ]  # fmt: skip
    virtual = {"command": channels.command, "terminal": channels.terminal}
    if any(number is not None for number in virtual.values()):
        parts += ["-device", _json({"driver": "virtio-serial-pci", "id": "consoles"})]
    for name, number in virtual.items():
        if number is not None:
            parts += [
                "-chardev", f"socket,id={name},fd={number}",
                "-device", _json({"driver": "virtconsole", "chardev": name}),
            ]  # fmt: skip
    return parts


def _person(machine: MachineSpec) -> list[str]:
    """More monitors: one in words for a person, one for another program."""
    parts: list[str] = []
    for name, mode, path in (
        ("person", "readline", machine.monitor_socket),
        ("second", "control", machine.qmp_socket),
    ):
        if path is not None:
            escaped = str(path).replace(",", ",,")  # QemuOpts' way to write a comma
            parts += [
                "-chardev", f"socket,id={name},path={escaped},server=on,wait=off",
                "-mon", f"chardev={name},mode={mode}",
            ]  # fmt: skip
    return parts


def _firmware(machine: MachineSpec) -> list[str]:
    if machine.firmware is None:
        return []
    assert machine.variables is not None, "a machine with firmware has a variable store of its own"
    parts = [
        "-blockdev", _json(_flash("firmware-code", str(machine.firmware.code), read_only=True)),
        "-blockdev", _json(_flash("firmware-variables", str(machine.variables), read_only=False)),
    ]  # fmt: skip
    if machine.firmware.needs_smm:
        parts += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return parts


def _flash(name: str, path: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "driver": "raw",
        "node-name": name,
        "read-only": read_only,
        "file": {"driver": "file", "filename": path},
    }


def _kernel(machine: MachineSpec) -> list[str]:
    if machine.kernel is None:
        return []
    return [
        "-kernel", str(machine.kernel.image),
        "-initrd", str(machine.kernel.initrd),
        "-append", " ".join(machine.kernel.command_line),
    ]  # fmt: skip


def _ports(machine: MachineSpec) -> list[str]:
    ports = [
        _json({"driver": "pcie-root-port", "id": f"port{number}", "chassis": number + 1, "slot": number + 1})
        for number in range(machine.root_ports)
    ]
    return [part for port in ports for part in ("-device", port)]


def _disks(machine: MachineSpec) -> list[str]:
    nodes = [part for disk in machine.disks for part in ("-blockdev", _json(qemu_disks.blockdev(disk)))]
    return nodes + [part for device in qemu_disks.devices(machine.disks) for part in ("-device", _json(device))]


def _extras(machine: MachineSpec, channels: Channels) -> list[str]:
    parts: list[str] = []
    if machine.display:
        parts += ["-device", _json({"driver": "VGA", "id": "display"})]
    if machine.network is not None:
        forward = f"tcp:127.0.0.1:0-:{machine.network.guest_port}"
        restricted = {"restrict": True} if machine.network.restricted else {}
        card = {"driver": "virtio-net-pci", "id": "card", "netdev": "net", "romfile": ""}
        parts += [
            "-netdev", _json({"type": "user", "id": "net", "hostfwd": [{"str": forward}], **restricted}),
            "-device", _json(card),
        ]  # fmt: skip
    if channels.tpm is not None:
        parts += [
            "-chardev", f"socket,id=tpm,fd={channels.tpm}",
            "-tpmdev", "emulator,id=tpm,chardev=tpm",
            "-device", _json({"driver": "tpm-crb", "tpmdev": "tpm"}),
        ]  # fmt: skip
    return parts


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value)


_ENTROPY = (
    "-object", _json({"qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom"}),
    "-device", _json({"driver": "virtio-rng-pci", "rng": "entropy"}),
)  # fmt: skip
