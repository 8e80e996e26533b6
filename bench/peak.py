"""Builds an image and says how much memory vmharness itself took meanwhile: a program of its own, run by ``memory.py``.

``python -m bench.peak DEFINITION OUTPUT ACCELERATOR KERNEL MODULES REPORT`` leaves in REPORT, as JSON, the peak of each
part of the build in bytes.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from vmharness.events import Event, StepFinished
from vmharness.flows.build import build
from vmharness.flows.prepare import Options

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak() -> int:
    """The most memory that this process has held, in bytes.

    Not ``getrusage``: its peak begins with what the process that started this one held.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), flags=re.MULTILINE)
    assert found is not None, "Linux says so since 2.6"
    return int(found[1]) * 1024


def forget_peak() -> None:
    """Begin a new peak (proc(5))."""
    _CLEAR.write_text("5")


def main(definition: str, output: str, accelerator: str, kernel: str, modules: str, report: str) -> None:  # noqa: PLR0913, PLR0917 -- the program's arguments
    """Build, and write the report."""
    peaks: dict[str, int] = {}

    def note(event: Event) -> None:
        if isinstance(event, StepFinished):
            peaks[event.step] = peak()
            forget_peak()

    # a state saved for one build would not pay
    options = Options(accel=accelerator, kernel=Path(kernel), modules=Path(modules), resume=False)
    build(Path(definition), Path(output), options, note)
    Path(report).write_text(json.dumps(peaks))


if __name__ == "__main__":
    main(*sys.argv[1:])
