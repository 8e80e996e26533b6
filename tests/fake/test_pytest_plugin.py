"""The pytest plugin, in a pytest of its own, with guests that are played by the fake QEMU."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_machines import FAKE_QEMU

from vmharness.host import proc

BOOTED = [
    {"log": 'BdsDxe: starting Boot0001 "Linux" from HD(1,GPT,0,0x0,0x0)/\\\\EFI\\\\LINUX.EFI\n'},
    {"log": "Linux version 6.1\n"},
    {"log": "\x1b[2Jminimal login: "},
]

USE = """
import pytest
from vmharness.testing import BootState, Hardware

@pytest.fixture
def vm(vm_factory):
    return vm_factory(BootState(disks=()), Hardware(accelerator="tcg", cpus=1))
"""

RunTests = Callable[..., str]


@pytest.fixture
def run_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunTests:
    """Runs a test file whose guests do what they are told; gives pytest's output."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-system-x86_64").symlink_to(FAKE_QEMU)

    def run(text: str, *guest: dict[str, Any], options: tuple[str, ...] = ()) -> str:
        scenario = tmp_path / "scenario.json"
        scenario.write_text(json.dumps({"guest": list(guest)}))
        (tmp_path / "test_it.py").write_text(USE + text)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_QEMU_SCENARIO", str(scenario))
        monkeypatch.setenv("VMHARNESS_RUNS", str(tmp_path / "runs"))
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tmp'}", *options]
        return proc.run([*argv, "test_it.py"], doing="running the tests", ok=(0, 1), cwd=tmp_path).text

    return run


def test_a_machine_for_a_test(run_tests: RunTests, tmp_path: Path) -> None:
    """A test gets a machine that is not started; after the test nothing of it is left."""
    said = run_tests("def test_boot(vm):\n    vm.start()\n    vm.expect_boot('login')\n", *BOOTED)
    assert "1 passed" in said
    assert list((tmp_path / "runs").iterdir()) == []


def test_evidence_of_a_failure(run_tests: RunTests, tmp_path: Path) -> None:
    """A failed test shows the console without control sequences, how far the boot came, and how to look again."""
    text = "def test_boot(vm):\n    vm.start()\n    vm.expect_boot('login')\n    assert False\n"
    said = run_tests(text, *BOOTED)
    assert "1 failed" in said
    assert 'firmware: Boot0001 "Linux" was started' in said
    assert "milestones: firmware" in said
    assert "minimal login:" in said
    assert "\x1b" not in said
    (kept,) = (tmp_path / "runs").iterdir()
    assert f"vmharness boot {kept}" in said
    assert (kept / "registers.txt").is_file()
    page = (kept / "report.html").read_text()
    assert "minimal login:" in page
    assert "\x1b" not in page
    assert "<script" not in page


def test_what_ended_the_boot_is_named(run_tests: RunTests) -> None:
    """A failed demand names the death pattern and the line."""
    text = "def test_boot(vm):\n    vm.start()\n    vm.expect_boot('login')\n"
    said = run_tests(text, {"log": "Kernel panic - not syncing: VFS\n"})
    assert "the guest stopped: kernel panic: Kernel panic - not syncing: VFS" in said


def test_a_dead_qemu_is_tried_again_and_told_apart(run_tests: RunTests, tmp_path: Path) -> None:
    """A QEMU that is killed is the infrastructure's failure: the test runs once more, and is green if that is."""
    text = f"""
from pathlib import Path
COUNT = Path({str(tmp_path / "count")!r})

def test_boot(vm):
    COUNT.write_text(COUNT.read_text() + "x" if COUNT.exists() else "x")
    vm.start()
    if len(COUNT.read_text()) == 1:
        vm.core._powered.process.child.kill()
    vm.expect_boot('login')
"""
    said = run_tests(text, {"wait": 0.5}, *BOOTED)
    assert "1 passed" in said
    assert (tmp_path / "count").read_text() == "xx"


def test_a_qemu_that_dies_twice_fails_the_test(run_tests: RunTests) -> None:
    """One retry, not more; the report says whose failure it was."""
    text = "def test_boot(vm):\n    vm.start()\n    vm.expect_boot('login')\n"
    said = run_tests(text, {"signal": "KILL"})
    assert "1 failed" in said
    assert "QEMU failed, not the guest" in said


def test_firmware_and_bus_are_parameters(run_tests: RunTests) -> None:
    """A test that takes them runs once for each that was asked for."""
    text = "def test_each(firmware, bus):\n    assert firmware and bus\n"
    options = ("--vmharness-firmware=bios,ovmf", "--vmharness-bus=virtio,nvme,ahci")
    assert "6 passed" in run_tests(text, options=options)


def test_a_test_without_an_image_is_told_what_to_do(run_tests: RunTests) -> None:
    """Asking for the image's state without naming an image is an error that says how to name one."""
    said = run_tests("def test_it(boot_state):\n    pass\n")
    assert "mark the test with image(PATH), or give --vmharness-image" in said


def test_memory_is_shared_out(run_tests: RunTests) -> None:
    """A machine that wants more than the budget is refused in a sentence."""
    said = run_tests("def test_it(vm):\n    pass\n", options=("--vmharness-memory=512M",))
    assert "a machine wants 1 GiB of memory, and the budget is 512 MiB" in said
