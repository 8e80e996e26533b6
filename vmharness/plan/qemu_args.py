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

from vmharness.model.hardware import Accelerator, Disk, MachineSpec
from vmharness.model.sizes import MIB


@frozen(kw_only=True)
class Channels:
    """Numbers of the descriptors that QEMU inherits: monitor, log console and, where there is one, command console."""

    monitor: int
    log: int
    command: int | None = None


def argv(program: str, machine: MachineSpec, channels: Channels) -> list[str]:
    """The whole argument list, program first."""
    return [
        program,
        *_base(machine),
        *_memory(machine),
        *_channels(channels),
        *_firmware(machine),
        *_kernel(machine),
        *_ports(machine),
        *(part for disk in machine.disks for part in _disk(disk)),
    ]


def blockdev(disk: Disk) -> dict[str, Any]:
    """The block node of a disk, as ``-blockdev`` and ``blockdev-add`` take it.

    Flushes are not passed to the host while a disk is being built: it is published only after it was synced as a whole.
    """
    return {
        "driver": disk.format,
        "node-name": disk.name,
        "read-only": disk.read_only,
        "discard": "unmap",
        "detect-zeroes": "off" if disk.read_only else "unmap",
        "cache": {"direct": False, "no-flush": True},
        "file": {
            "driver": "file",
            "filename": str(disk.path),
            "cache": {"direct": False, "no-flush": True},
            "discard": "unmap",
        },
    }


def disk_device(disk: Disk, port: int | None = None) -> dict[str, Any]:
    """The device through which the guest sees a disk; on the root port ``port`` when it is plugged later."""
    device: dict[str, Any] = {
        "driver": "virtio-blk-pci",
        "id": f"{disk.name}-device",
        "drive": disk.name,
        "serial": disk.name,
    }
    return device if port is None else {**device, "bus": f"port{port}"}


def _base(machine: MachineSpec) -> list[str]:
    smm = machine.firmware is not None and machine.firmware.needs_smm
    board = "q35,smm=on" if smm else "q35,smm=off"
    if machine.firmware is not None:
        board += ",pflash0=firmware-code,pflash1=firmware-variables"
    if machine.memory_file is not None:
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
        "-rtc", "base=utc",
        "-action", "panic=pause,reboot=shutdown",
        "-device", _json({"driver": "pvpanic"}),
        "-object", _json({"qom-type": "rng-random", "id": "entropy", "filename": "/dev/urandom"}),
        "-device", _json({"driver": "virtio-rng-pci", "rng": "entropy"}),
    ]  # fmt: skip


def _memory(machine: MachineSpec) -> list[str]:
    if machine.memory_file is None:
        return []
    backend = {
        "qom-type": "memory-backend-file",
        "id": "memory",
        "size": machine.memory,
        "mem-path": str(machine.memory_file),
        "share": machine.memory_shared,
    }
    return ["-object", _json(backend)]


def _channels(channels: Channels) -> list[str]:
    parts = [
        "-chardev", f"socket,id=monitor,fd={channels.monitor}",
        "-mon", "chardev=monitor,mode=control",
        "-chardev", f"socket,id=log,fd={channels.log}",
        "-serial", "chardev:log",
    ]  # fmt: skip
    if channels.command is not None:
        parts += [
            "-device", _json({"driver": "virtio-serial-pci", "id": "consoles"}),
            "-chardev", f"socket,id=command,fd={channels.command}",
            "-device", _json({"driver": "virtconsole", "chardev": "command"}),
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


def _disk(disk: Disk) -> list[str]:
    return ["-blockdev", _json(blockdev(disk)), "-device", _json(disk_device(disk))]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value)
