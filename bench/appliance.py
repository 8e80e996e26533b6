"""The appliance: from the start of QEMU to the first answered command, against a plain boot made by hand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from attrs import evolve, frozen

from bench import libguestfs
from bench.context import Context, Skip
from bench.figures import Figure, compared
from bench.measure import Sample, Stopwatch, interleave
from vmharness.events import nobody
from vmharness.flows.bringup import appliance_up, wake_parameters
from vmharness.flows.run import recorded
from vmharness.host import appliance, cache, descriptors, kernel, packages, proc, rundir
from vmharness.host.cpio import CpioWriter
from vmharness.host.rundir import RunDirectory
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, DirectKernel, MachineSpec
from vmharness.model.image import AutoFirmware
from vmharness.model.sizes import MIB
from vmharness.plan.firmware import select
from vmharness.plan.qemu_args import Channels
from vmharness.vm.console import Console, Seen
from vmharness.vm.ending import Ending
from vmharness.vm.guest import unreachable
from vmharness.vm.process import launch

_COLD, _RESUMED = 0.9, 0.08  # at most, of the plain boot
_OF_LAUNCH = 0.1  # at most, of libguestfs' launch
_PEER = "libguestfs"
_DEADLINE = 120.0
_ROOT_PORTS = 4  # as in a build
_PLAIN_INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
echo "plain boot: ready"
exec /bin/busybox sh </dev/ttyS0 >/dev/ttyS0 2>&1
"""


@frozen(kw_only=True)
class Subjects:
    """What is booted on either side.

    :param ours: the machine of a build, and ``identity`` that of its kernel and initramfs.
    :param kernel: the distribution's ordinary kernel.
    :param initramfs: busybox and ten lines of shell.
    """

    ours: MachineSpec
    identity: str
    kernel: Path
    initramfs: Path
    firmware: Firmware


def measure(context: Context) -> tuple[Figure, ...]:
    """Both ways with the same UEFI firmware, and both without; and libguestfs' appliance, which has none."""
    subjects = _subjects(context)
    context.say("saving the appliance's state, where there is none")
    boot_ours(subjects, uefi=True, resume=True)
    contenders = {
        "cold, UEFI": lambda: boot_ours(subjects, uefi=True, resume=False),
        "resumed, UEFI": lambda: boot_ours(subjects, uefi=True, resume=True),
        "plain, UEFI": lambda: boot_plain(subjects, uefi=True),
        "cold, BIOS": lambda: boot_ours(subjects, uefi=False, resume=False),
        "plain, BIOS": lambda: boot_plain(subjects, uefi=False),
    }
    peer = libguestfs.version()
    if peer is not None:
        context.say("letting libguestfs make its appliance")
        libguestfs.launch(context)
        contenders[_PEER] = lambda: libguestfs.launch(context)
    context.say(f"booting {len(contenders)} machines {context.rounds} times")
    taken = interleave(contenders, context.rounds)
    marks = {"cold, UEFI": _COLD, "resumed, UEFI": _RESUMED, "cold, BIOS": _COLD}
    plain = (
        figure
        for name, at_most in marks.items()
        for figure in compared(
            f"appliance to its first answer, {name}",
            taken[name],
            f"QEMU, Debian's kernel and busybox, {name[-4:]}",
            taken[f"plain, {name[-4:]}"],
            at_most=at_most,
        )
    )
    name = f"libguestfs {peer}, `launch`" if peer is not None else "libguestfs' `launch`: not installed"
    against = compared(
        "appliance to its first answer, resumed, UEFI",
        taken["resumed, UEFI"],
        name,
        taken.get(_PEER, ()),
        at_most=_OF_LAUNCH if peer is not None else None,
    )
    return (*plain, *against)


def boot_ours(subjects: Subjects, *, uefi: bool, resume: bool) -> Sample:
    """The appliance, up to the answer to its first script."""
    with recorded("bench", "bench", nobody) as run:
        variables = _own_variables(subjects.firmware, run.directory) if uefi else None
        spec = evolve(subjects.ours, firmware=subjects.firmware if uefi else None, variables=variables)
        watch = Stopwatch()
        with appliance_up(spec, subjects.identity, _DEADLINE, run, resume=resume) as up:
            up.agent.run("wake", wake_parameters(""), within=_DEADLINE)
            watch.stop()
        sample = watch.sample()
    if up.way != ("resumed" if resume else "cold"):
        raise Skip("the appliance cannot be resumed here: `vmharness build` says why")
    return sample


def boot_plain(subjects: Subjects, *, uefi: bool) -> Sample:
    """The plain machine, up to the answer to one command on its serial console."""
    run = rundir.create("bench")
    try:
        variables = _own_variables(subjects.firmware, run) if uefi else None
        watch = Stopwatch()
        process = launch(
            lambda channels: plain_argv(subjects, variables, channels),
            channels=(),
            argv_path=run.qemu_argv,
            stderr_path=run.qemu_stderr,
        )
        ending = Ending()
        console = Console(name="log", stream=process.streams.log, transcript=run.transcript, ending=ending)
        try:
            _expect(console, r"plain boot: ready")
            console.send(b"echo $((6 * 7)) is the answer\n")
            _expect(console, r"42 is the answer")
            watch.stop()
        finally:
            console.close()
            process.streams.monitor.close()
            process.end()
        return watch.sample()
    finally:
        run.remove()


def plain_argv(subjects: Subjects, variables: Path | None, channels: Channels) -> list[str]:
    """What a person who knows QEMU writes by hand: no devices that cost time, otherwise its defaults."""
    spec = subjects.ours
    firmware = []
    if variables is not None:
        firmware = [
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={subjects.firmware.code}",
            "-drive", f"if=pflash,format=raw,unit=1,file={variables}",
        ]  # fmt: skip
    return [
        "qemu-system-x86_64",
        "-nodefaults",
        "-machine", f"q35,accel={spec.accelerator.value}",
        *(["-cpu", "host"] if spec.accelerator is Accelerator.KVM else []),
        "-m", f"{spec.memory // MIB}",
        "-display", "none",
        "-chardev", f"socket,id=serial,fd={channels.log}",
        "-serial", "chardev:serial",
        *firmware,
        "-kernel", str(subjects.kernel),
        "-initrd", str(subjects.initramfs),
        "-append", "console=ttyS0 quiet",
        "-no-reboot",
    ]  # fmt: skip


def _subjects(context: Context) -> Subjects:
    context.say("getting both kernels")
    guest = appliance.make(kernel.appliance_kernel())
    initramfs = context.scratch / "plain.cpio"
    _write_plain_initramfs(initramfs)
    direct = DirectKernel(image=guest.kernel.image, initrd=guest.initramfs, command_line=appliance.KERNEL_PARAMETERS)
    return Subjects(
        ours=MachineSpec(accelerator=context.accelerator, kernel=direct, root_ports=_ROOT_PORTS, command_console=True),
        identity=guest.identity,
        kernel=_ordinary_kernel(),
        initramfs=initramfs,
        firmware=select(AutoFirmware(), descriptors.for_choice(AutoFirmware())),
    )


def _ordinary_kernel() -> Path:
    """Debian's kernel for any machine; its package is unpacked into the cache and not installed."""
    made = sorted((cache.root() / "packages").glob("linux-image-*-amd64/[!.]*/tree/boot/vmlinuz-*"))
    ordinary = [path for path in made if "-cloud-" not in path.name]
    if ordinary:
        return ordinary[-1]
    packages.require_apt()
    said = proc.run(["apt-cache", "depends", "--important", "linux-image-amd64"], doing="asking apt for the kernel")
    found = re.search(r"Depends: (linux-image-\S+)", said.text)
    if found is None:
        raise Skip("apt knows no package linux-image-amd64, whose kernel the plain boot takes")
    return next((packages.unpack([found[1]]) / "boot").glob("vmlinuz-*"))


def _write_plain_initramfs(path: Path) -> None:
    with path.open("wb") as file:
        archive = CpioWriter(file)
        for folder in ("dev", "proc", "sys"):
            archive.directory(folder)
        archive.character_device("dev/console", 0o600, 5, 1)
        archive.regular("bin/busybox", proc.require("busybox").read_bytes(), 0o755)
        archive.regular("init", _PLAIN_INIT, 0o755)
        archive.finish()


def _own_variables(firmware: Firmware, run: RunDirectory) -> Path:
    shutil.copyfile(firmware.template, run.variables)
    return run.variables


def _expect(console: Console, pattern: str) -> None:
    outcome = console.expect([re.compile(pattern)], within=_DEADLINE, waiting_for=f"'{pattern}'")
    if not isinstance(outcome, Seen):
        raise unreachable(outcome)
