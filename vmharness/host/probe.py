"""The host, looked at before anything is planned."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from vmharness.errors import HostError
from vmharness.host import accelerator, descriptors, proc
from vmharness.host.versions import numbers, version_of
from vmharness.model.facts import HostFacts, Tool
from vmharness.model.image import AutoFirmware, FirmwareChoice

QEMU = "qemu-system-x86_64"
BUILD_TOOLS = (
    "qemu-img", "sfdisk", "sgdisk", "mke2fs", "e2fsck", "debugfs", "mkfs.vfat", "fsck.vfat", "mdir", "mcopy",
    "busybox", "tar", "blkid", "virt-fw-vars",
)  # fmt: skip
"""Programs that every build uses, besides QEMU."""

OLDEST_QEMU = (7, 2)
"""The oldest QEMU that the project is tested with (Debian 12's)."""


def probe(
    *, accel: str | None = None, firmware: FirmwareChoice | None = None, tools: Sequence[str] = BUILD_TOOLS
) -> HostFacts:
    """Look at the host.

    :param accel: the user's word on the accelerator: ``auto`` (or None), ``kvm``, ``tcg``.
    :param firmware: the user's choice of firmware; None leaves it to vmharness.
    :param tools: programs that the run will use besides QEMU.
    :raises HostError: it is not an x86_64 host, programs are missing (all are named), or QEMU is too old.
    :raises SpecError: ``accel`` is another word.
    """
    check_architecture()
    check_tools([QEMU, *tools])
    known = tuple(Tool(name=name, path=proc.require(name), version=version_of(name)) for name in (QEMU, *tools))
    check_qemu(known[0].version)
    return HostFacts(
        architecture=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        accelerator=accelerator.choose(accel),
        tools=known,
        descriptors=descriptors.for_choice(firmware or AutoFirmware()),
    )


def check_architecture(machine: str | None = None) -> None:
    """Make sure that the host is one that vmharness works on.

    :param machine: ``uname -m``, looked up if None.
    :raises HostError: it is another one.
    """
    machine = machine or platform.machine()
    if machine != "x86_64":
        raise HostError(f"vmharness works on x86_64 hosts; this one is {machine}", hint="run it on an x86_64 machine")


def check_tools(names: Sequence[str]) -> None:
    """Make sure that all programs are there.

    :raises HostError: naming every one that is missing, and the command that installs them.
    """
    missing = [name for name in names if proc.find(name) is None]
    if missing:
        are = "programs are" if len(missing) > 1 else "program is"
        raise HostError(f"{len(missing)} {are} not installed: {', '.join(missing)}", hint=install_command(missing))


def install_command(names: Sequence[str]) -> str:
    """The command that installs the packages of these programs; on a host without apt, what to look for."""
    packages = sorted({proc.package_of(name) for name in names})
    system = " ".join(package for package in packages if " " not in package)
    python = " ".join(package.split()[-1] for package in packages if " " in package)
    sudo = "" if os.geteuid() == 0 else "sudo "
    commands = [f"pip install {python}"] if python else []
    if system and proc.find("apt-get") is None:
        return ", ".join([f"install what Debian calls {system}", *commands])
    return " && ".join([f"{sudo}apt-get install {system}", *commands] if system else commands)


def check_qemu(version: str) -> None:
    """Make sure that QEMU is not older than what the project is tested with.

    :raises HostError: it is. A version that cannot be read passes.
    """
    if numbers(version) and numbers(version) < OLDEST_QEMU:
        oldest = ".".join(map(str, OLDEST_QEMU))
        raise HostError(f"QEMU {version} is too old", hint=f"install QEMU {oldest} or newer")
