"""A machine on the fake QEMU, and the check that nothing of it is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_machines import FAKE_QEMU, NewMachine, leftovers, snapshot

from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Accelerator, MachineSpec
from vmharness.vm.machine import Machine


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """No descriptor, thread or process is there after the test that was not there before."""
    before = snapshot()
    yield
    deadline = time.monotonic() + 2  # a process that was killed from outside takes a moment to be gone
    while leftovers(before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert leftovers(before) == []


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run directory."""
    folder = tmp_path / "run"
    folder.mkdir()
    return RunDirectory(path=folder)


@pytest.fixture
def new_machine(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> NewMachine:
    """Makes a machine whose QEMU is the fake one; keywords that are not the machine's own are the scenario's keys."""

    def make(
        *,
        on_line: Callable[[str], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
        spec: MachineSpec | None = None,
        **scenario: Any,
    ) -> Machine:
        file = run.path / "scenario.json"
        file.write_text(json.dumps(scenario))
        monkeypatch.setenv("FAKE_QEMU_SCENARIO", str(file))
        spec = spec or MachineSpec(accelerator=Accelerator.TCG, command_console=True, root_ports=2)
        return Machine(spec, run, on_line=on_line, on_output=on_output, program=str(FAKE_QEMU))

    return make
