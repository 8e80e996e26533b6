"""What every plan keeps to, checked where a plan comes from a file that anybody may have written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmharness.model.bootloader import BOOTLOADERS, NO_BOOTLOADER
from vmharness.model.dialogue import Entry
from vmharness.model.hardware import MachineSpec
from vmharness.model.partitions import SECTOR, Layout, Partition, label_of
from vmharness.model.sizes import MIB, TIB
from vmharness.model.steps import Step
from vmharness.plan.dialogue import check_entry
from vmharness.plan.make import Plan
from vmharness.plan.problem import Problem

SCRIPTS = frozenset(
    {
        "identify", "format-root", "copy-tree", "format-fat", "mount-target", "graft", "seal", "unmount", "pack-root",
        "check-root", "declared-step",
        *(f"install-{name}" for name in BOOTLOADERS if name != NO_BOOTLOADER),
    }
)  # fmt: skip
"""The guest scripts that steps of a build run."""

_LARGEST_DISK = 1024 * TIB
_LEAST_MEMORY, _MOST_MEMORY = 16 * MIB, 4 * TIB
_MOST_CPUS = 255
_MOST_PORTS = 32  # of a PCI Express root bus
_LONGEST = 7 * 24 * 3600.0
_LARGEST_FILE = 64 * MIB
_LONGEST_TEXT = 1000
_CPU = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_bounds(plan: Plan) -> None:
    """Refuse a plan that no build could have made.

    :raises ValueError: with a sentence that names the place and what is there.
    """
    problem = next(_problems(plan), None)
    if problem is not None:
        raise ValueError(problem)


def _problems(plan: Plan) -> Iterator[str]:
    yield from _texts("accelerator", plan.accelerator.reason)
    if not 0 <= plan.boot_deadline <= _LONGEST:
        yield f"boot_deadline: {plan.boot_deadline} is no number of seconds that a boot may take"
    yield from _layout(plan.layout)
    if plan.scratch is not None and not 0 < plan.scratch.size <= _LARGEST_DISK:
        yield f"scratch.size: {plan.scratch.size} is no size of a disk"
    for number, step in enumerate(plan.steps):
        yield from _step(f"steps[{number}]", step)
    for number, entry in enumerate(plan.dialogue):
        yield from _entry(f"dialogue[{number}]", entry)
    if plan.machine is None:
        if plan.steps:
            yield "steps: there are steps, and no machine to run them in"
        return
    yield from _machine(plan.machine)
    if plan.machine.firmware not in {None, plan.firmware}:
        yield "machine.firmware: it is not the plan's"
    if plan.spec.install is None and plan.layout.find("root") is None:
        yield "layout.partitions: there is no root filesystem"


def _layout(layout: Layout) -> Iterator[str]:
    if not 0 < layout.size <= _LARGEST_DISK or layout.size % SECTOR:
        yield f"layout.size: {layout.size} is no size of a disk"
    for what in ("role", "number"):
        values = [getattr(part, what) for part in layout.partitions]
        if len(set(values)) < len(values):
            yield f"layout.partitions: two have the same {what}"
    for part in layout.partitions:
        yield from _partition(f"layout.partitions[{part.number}]", part, layout.size // SECTOR)


def _partition(place: str, part: Partition, sectors: int) -> Iterator[str]:
    if not (0 <= part.number <= 128 and part.start >= 0 and part.sectors > 0 and part.start + part.sectors <= sectors):
        yield f"{place}: it does not lie on the disk"
    if not 0 <= part.attributes < 1 << 64:
        yield f"{place}.attributes: {part.attributes} is no 64-bit number"
    label = label_of(part.filesystem) if part.filesystem is not None else None
    yield from _texts(place, part.role, part.name, label or "")


def _step(place: str, step: Step) -> Iterator[str]:
    if not step.name:
        yield f"{place}.name: it is empty"
    yield from _texts(f"{place}.name", step.name)
    yield from _texts(f"{place}.expect", step.expect)
    if step.script not in SCRIPTS:
        yield f"{place}.script: no step of this vmharness has the script {step.script[:40]!r}"
    if not 0 < step.deadline <= _LONGEST:
        yield f"{place}.deadline: {step.deadline} is no number of seconds that a step may take"
    if step.file is not None:
        if not (step.file.path.startswith("/") and 0 <= step.file.size <= _LARGEST_FILE):
            yield f"{place}.file: its path or its size is not one that a file of a step has"
        yield from _texts(f"{place}.file", step.file.name, step.file.path)


def _entry(place: str, entry: Entry) -> Iterator[str]:
    try:
        check_entry(entry)
    except Problem as problem:
        yield f"{place}: {problem.what}"
    if not 0 < entry.deadline <= _LONGEST:
        yield f"{place}.deadline: {entry.deadline} is no number of seconds that an entry may take"


def _machine(machine: MachineSpec) -> Iterator[str]:
    own = ("variables", "memory_file", "tpm", "monitor_socket", "network", "disks")
    for name in own:
        if getattr(machine, name):
            yield f"machine.{name}: plans leave it to the run"
    if not _LEAST_MEMORY <= machine.memory <= _MOST_MEMORY or machine.memory % MIB:
        yield f"machine.memory: {machine.memory} bytes are not possible"
    if not 1 <= machine.cpus <= _MOST_CPUS:
        yield f"machine.cpus: {machine.cpus} processors are not possible"
    if not 0 <= machine.root_ports <= _MOST_PORTS:
        yield f"machine.root_ports: {machine.root_ports} ports are not possible"
    if _CPU.fullmatch(machine.cpu) is None:
        yield f"machine.cpu: {machine.cpu[:40]!r} is no name of a processor"
    words = machine.kernel.command_line if machine.kernel is not None else ()
    yield from _texts("machine.kernel.command_line", " ".join(words))


def _texts(place: str, *texts: str) -> Iterator[str]:
    for text in texts:
        if len(text) > _LONGEST_TEXT or not text.isprintable():
            yield f"{place}: a text is too long, or has characters that cannot be printed"
