"""KVM where it really runs a 64-bit guest, TCG otherwise.

``/dev/kvm`` that opens and still hangs every guest exists (nested and paravirtual hypervisors), so the proof is a
guest: :mod:`~vmharness.host.probe_rom` on the machine type and processor model that builds use.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from attrs import frozen

from vmharness.errors import SpecError
from vmharness.host import cache, proc
from vmharness.host.probe_rom import EXIT_PORT, EXIT_STATUS, probe_rom
from vmharness.host.versions import identity, version_of
from vmharness.model.hardware import Accelerator, AcceleratorVerdict

LIMIT = 3.0
"""Seconds that the probe guest may take; it needs 0.1 s under KVM and 0.3 s under TCG."""

_QEMU = "qemu-system-x86_64"
_KVM = Path("/dev/kvm")
_CPUINFO = Path("/proc/cpuinfo")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@frozen(kw_only=True)
class GuestProof:
    """What the probe guest came to: whether it ran to its end, and a clause that says what was seen."""

    passed: bool
    seen: str


def choose(override: str | None = None) -> AcceleratorVerdict:
    """The accelerator for this host.

    :param override: ``kvm`` or ``tcg`` is taken without looking; None or ``auto`` decides.
    :raises SpecError: another word.
    :raises HostError: QEMU is not installed.
    """
    if override in {"kvm", "tcg"}:
        accelerator = Accelerator(override)
        return AcceleratorVerdict(accelerator=accelerator, reason=f"{accelerator.name}: asked for, not probed")
    if override not in {None, "auto"}:
        raise SpecError(
            f"unknown accelerator '{override}'", origin="<command line>", key="--accel", allowed="auto, kvm, tcg"
        )
    refusal = _cheap_refusal()
    if refusal:
        return AcceleratorVerdict(accelerator=Accelerator.TCG, reason=f"TCG: {refusal}")
    proof = _cached_proof()
    if proof.passed:
        return AcceleratorVerdict(accelerator=Accelerator.KVM, reason=f"KVM: {proof.seen}")
    return AcceleratorVerdict(accelerator=Accelerator.TCG, reason=f"TCG: {_KVM} opens, but {proof.seen}")


def prove(accelerator: Accelerator, rom: bytes, *, seconds: float = LIMIT) -> GuestProof:
    """Run the probe guest.

    :param rom: 64 KiB of firmware; :func:`~vmharness.host.probe_rom.probe_rom` unless a test says otherwise.
    :param seconds: after which the guest counts as hanging; QEMU is then ended.
    :raises HostError: QEMU is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="vmharness-probe-") as folder:
        file = Path(folder, "probe.rom")
        file.write_bytes(rom)
        began = time.monotonic()
        done = proc.run_within(_probe_argv(accelerator, file), seconds=seconds, cwd=Path(folder))
        took = time.monotonic() - began
    if done is None:
        return GuestProof(passed=False, seen=f"a 64-bit guest did not finish within {seconds:g} s")
    if done.status == EXIT_STATUS:
        return GuestProof(passed=True, seen=f"a 64-bit guest ran in {took:.1f} s")
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    ending = f"died of signal {-done.status}" if done.status < 0 else f"ended with status {done.status}"
    return GuestProof(passed=False, seen=": ".join([f"QEMU {ending} on a 64-bit guest", *last]))


def _probe_argv(accelerator: Accelerator, rom: Path) -> list[str]:
    return [
        _QEMU,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",  # a triple fault ends QEMU with status 0 instead of turning forever
        *("-display", "none"),
        *("-machine", "q35"),
        *("-accel", accelerator.value),
        *("-cpu", "host" if accelerator is Accelerator.KVM else "qemu64"),
        *("-m", "32M"),
        *("-bios", str(rom)),
        *("-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=0x04"),
    ]


def _cheap_refusal() -> str:
    """Why KVM cannot work, from what can be seen without a guest; empty when nothing speaks against it."""
    if not _KVM.exists():
        return f"{_KVM} is not there"
    flags = next((line for line in _CPUINFO.read_text().splitlines() if line.startswith("flags")), "").split()
    if not {"vmx", "svm"} & set(flags):
        return f"{_KVM} is there, but the processor shows neither the vmx nor the svm flag"
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{_KVM} does not open ({error.strerror})"
    return ""


def _cached_proof() -> GuestProof:
    """The proof for this boot and this QEMU; the guest runs once for them."""
    rom = probe_rom()
    key = cache.key_of(
        {
            "boot": _BOOT_ID.read_text().strip(),
            "qemu": version_of(_QEMU),
            "binary": identity(proc.require(_QEMU)),
            "rom": rom.hex(),
        }
    )

    def make(folder: Path) -> None:
        proof = prove(Accelerator.KVM, rom)
        (folder / "proof.json").write_text(json.dumps({"passed": proof.passed, "seen": proof.seen}))

    return GuestProof(**json.loads((cache.entry("accelerator", key, make) / "proof.json").read_text()))
