"""The accelerator's proof, with real guests."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vmharness.host import accelerator
from vmharness.host.accelerator import prove
from vmharness.host.probe_rom import SIZE, probe_rom
from vmharness.model.hardware import Accelerator


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of this test's own, so that every verdict is found anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def changed(offset: int, code: str) -> bytes:
    """The probe ROM with other instructions at ``offset``."""
    rom, part = bytearray(probe_rom()), bytes.fromhex(code)
    rom[offset : offset + len(part)] = part
    return bytes(rom)


def test_the_probe_guest_runs_to_its_end() -> None:
    """Under TCG, which always works, the ROM reaches long mode, turns its loop and reports, well within the limit."""
    assert len(probe_rom()) == SIZE
    proof = prove(Accelerator.TCG, probe_rom(), seconds=30)
    assert proof.passed, proof.seen
    assert proof.seen.startswith("a 64-bit guest ran in ")


def test_a_guest_that_hangs_is_no_proof() -> None:
    """A guest that never leaves its first instruction is ended at the limit, QEMU with it."""
    began = time.monotonic()
    proof = prove(Accelerator.TCG, changed(0xFFF0, "eb fe"), seconds=1)  # jmp to itself
    assert (proof.passed, proof.seen) == (False, "a 64-bit guest did not finish within 1 s")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (0x0100, "00" * 32),  # no descriptors: a triple fault at the first far jump
        (0x0300, "b0 01 66 ba f4 00 ee"),  # mov al, 1; mov dx, 0xf4; out dx, al: another exit code
    ],
)
def test_a_guest_that_ends_otherwise_is_no_proof(offset: int, code: str) -> None:
    """A triple fault, or another exit code, is a no with what was seen."""
    proof = prove(Accelerator.TCG, changed(offset, code), seconds=30)
    assert not proof.passed
    assert "on a 64-bit guest" in proof.seen


def test_the_verdict_on_this_host_is_true() -> None:
    """KVM is chosen only where a guest runs under it, and refused only where none does or the flag is missing."""
    began = time.monotonic()
    verdict = accelerator.choose()
    assert time.monotonic() - began < accelerator.LIMIT + 2
    runs = prove(Accelerator.KVM, probe_rom()).passed
    unsupported = "flag" in verdict.reason
    assert verdict.accelerator is (Accelerator.KVM if runs and not unsupported else Accelerator.TCG), verdict.reason
    assert verdict.reason.startswith(f"{verdict.accelerator.name}: ")
