"""What this host has of what the record of a build names: emulator, accelerator, processor, firmware."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vmharness.host import accelerator, cache, descriptors, proc, versions
from vmharness.host.probe import QEMU
from vmharness.model.firmware import Firmware
from vmharness.model.manifest import FirmwareIdentity, SourceFile
from vmharness.model.record import Here, ProcessorIdentity, ProgramIdentity, Record
from vmharness.model.sizes import MIB

_CPUINFO = Path("/proc/cpuinfo")
_LARGEST_FIRMWARE = 64 * MIB


def look(record: Record, *, accel: str | None = None) -> Here:
    """Look at the host with a record in hand.

    :param accel: the user's word on the accelerator, as for :func:`~vmharness.host.accelerator.choose`.
    :raises HostError: QEMU is not installed.
    """
    return Here(
        qemu=emulator(),
        accelerator=accelerator.choose(accel),
        processor=processor(),
        firmware=find_firmware(record.firmware) if record.firmware is not None else None,
    )


def emulator() -> ProgramIdentity:
    """This host's QEMU.

    :raises HostError: it is not installed.
    """
    return ProgramIdentity(version=versions.version_of(QEMU), sha256=cache.remembered_digest(proc.require(QEMU)))


def processor(cpuinfo: Path = _CPUINFO) -> ProcessorIdentity | None:
    """This host's processor, as guests under KVM see it; None if the kernel does not tell."""
    said = dict.fromkeys(("model name", "flags"), "")
    for line in reversed(cpuinfo.read_text().splitlines()):
        key, _, value = line.partition(":")
        if key.strip() in said:
            said[key.strip()] = value.strip()
    if not all(said.values()):
        return None
    abilities = " ".join(sorted(said["flags"].split()))
    return ProcessorIdentity(name=said["model name"], sha256=hashlib.sha256(abilities.encode()).hexdigest())


def find_firmware(wanted: FirmwareIdentity) -> Firmware | None:
    """This host's firmware with the digests of ``wanted``, wherever it lies; None if there is none.

    The recorded paths come first, then the files of all firmware descriptors.
    """
    code, template = _find(wanted.code, "code"), _find(wanted.template, "template")
    if code is None or template is None:
        return None
    return Firmware(code=code, template=template, features=wanted.features, description=wanted.description)


def _find(wanted: SourceFile, role: str) -> Path | None:
    return next((path for path in _places(wanted, role) if _digest(path) == wanted.sha256), None)


def _places(wanted: SourceFile, role: str) -> Iterator[Path]:
    if wanted.path.is_absolute():
        yield wanted.path
    for descriptor in descriptors.installed():
        file = getattr(descriptor, role)
        if file is not None:
            yield file.path


def _digest(path: Path) -> str | None:
    """SHA-256 of a regular file of a firmware's size; None for all else.

    The path may be a stranger's: opening it must neither wait nor have an effect.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FIRMWARE:
                return None
            return hashlib.sha256(file.read(status.st_size)).hexdigest()
    except (OSError, ValueError):
        return None


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
