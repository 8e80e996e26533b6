"""Whether the saved state of a build that was stopped can be opened on this host."""

from __future__ import annotations

from vmharness.model.hardware import Accelerator
from vmharness.model.record import Here, Record


def obstacles(record: Record, here: Here) -> tuple[str, ...]:
    """What is in the way, one sentence each; where there is something, the build can still be replayed from its
    beginning.

    Another build of the same QEMU version is none: distributions rebuild theirs for every correction, a state's format
    is kept within a version, and QEMU refuses what it cannot load; :func:`doubts` names it then. What ran under TCG
    goes on under TCG, also where KVM works.
    """
    found = []
    if record.qemu.version != here.qemu.version:
        found.append(f"it was made with QEMU {record.qemu.version}, and this host has QEMU {here.qemu.version}")
    if record.firmware is not None and here.firmware is None:
        digests = f"{record.firmware.code.sha256[:12]}, {record.firmware.template.sha256[:12]}"
        name = record.firmware.description or record.firmware.code.path.name
        found.append(f"this host has no firmware with the digests of the one that it ran ({name}: {digests})")
    if record.accelerator is Accelerator.KVM:
        found += _kvm(record, here)
    return tuple(found)


def doubts(record: Record, here: Here) -> tuple[str, ...]:
    """What may be why a state cannot be loaded although there is no obstacle, one sentence each."""
    if record.qemu != here.qemu and record.qemu.version == here.qemu.version:
        return (f"this host's QEMU {here.qemu.version} is another build than the one that it was made with",)
    return ()


def _kvm(record: Record, here: Here) -> list[str]:
    if here.accelerator.accelerator is not Accelerator.KVM:
        return [f"it was made under KVM, and this host has none that works ({here.accelerator.reason})"]
    if record.processor is None or record.processor == here.processor:
        return []
    name = here.processor.name if here.processor is not None else "another one"
    same = name == record.processor.name
    other = "one of that name with other abilities" if same else name
    return [f"it was made under KVM on the processor {record.processor.name}, and this host's is {other}"]
