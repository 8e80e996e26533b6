"""What a person, a pipe or a program sees of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from vmharness.cli.live import LiveList
from vmharness.cli.progress import Plain, sink
from vmharness.events import (
    Event,
    MilestoneReached,
    Note,
    Published,
    RunStarted,
    StepFailed,
    StepFinished,
    StepOutput,
    StepStarted,
)

HOSTILE = "\x1b]0;owned\x07\x1b[2Jcopying\rfiles"
RUN = RunStarted(what="build", run_directory=Path("/var/tmp/x-1"))
EVENTS: list[Event] = [
    RUN,
    Note(text="accelerator: TCG"),
    StepStarted(step="make the disk"),
    StepOutput(step="make the disk", stream="stdout", line=HOSTILE),
    StepFinished(step="make the disk", seconds=1.25),
    StepStarted(step="boot"),
    MilestoneReached(milestone="login", seconds=20),
    StepFailed(step="boot", seconds=3, error="it died"),
    Published(directory=Path("/out"), files=("a.raw", "manifest.json")),
]


def shown(subject: object) -> str:
    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(subject)
    return capture.get()


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets one line a finished step, on standard error; output of steps only when asked for."""
    with sink(as_json=False, verbose=False) as emit:
        for event in EVENTS:
            emit(event)
    written = capsys.readouterr()
    assert written.out == ""
    assert [" ".join(line.split()) for line in written.err.splitlines()] == [
        "-- accelerator: TCG",
        "ok make the disk 1.2 s",
        "ok reached login 20.0 s",
        "!! boot 3.0 s",
        "-- published in /out: a.raw, manifest.json",
    ]


def test_columns_line_up() -> None:
    """The times of steps and milestones stand below each other."""
    lines = [Plain(verbose=False).line(event) for event in EVENTS]
    ends = {line.index(" s") for line in lines if line is not None and line.endswith(" s")}
    assert len(ends) == 1


def test_verbose_streams_the_guest(capsys: pytest.CaptureFixture[str]) -> None:
    """With --verbose the guest's lines are shown, without anything that a terminal would obey."""
    with sink(as_json=False, verbose=True) as emit:
        emit(StepOutput(step="boot", stream="console", line=HOSTILE))
        emit(StepOutput(step="copy", stream="stdout", line="one"))
    assert capsys.readouterr().err == "console | copyingfiles\n        | one\n"


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A program gets every event as one JSON object a line, on standard output."""
    with sink(as_json=True, verbose=False) as emit:
        for event in EVENTS:
            emit(event)
    written = capsys.readouterr()
    objects = [json.loads(line) for line in written.out.splitlines()]
    assert [data["event"] for data in objects] == [type(event).__name__ for event in EVENTS]
    assert objects[3]["line"] == HOSTILE
    assert objects[-1]["files"] == ["a.raw", "manifest.json"]
    assert "\x1b" not in written.out


def test_an_interruption_names_the_run_directory(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C says where the evidence is, and that nothing was published; the interruption goes on."""

    def interrupted() -> None:
        with sink(as_json=False, verbose=False) as emit:
            emit(RUN)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err == "vmharness: nothing was published; the run directory is /var/tmp/x-1\n"


def test_the_live_list() -> None:
    """The running step shows its name and the guest's last harmless line; a finished one leaves a line."""
    live = LiveList()
    assert shown(live) == ""
    lines = [live.take(event) for event in EVENTS[:4]]
    assert [line.plain.strip() for line in lines if line is not None] == ["accelerator: TCG"]
    running = shown(live)
    assert "> make the disk" in running
    assert running.splitlines()[1].strip() == "copyingfiles"
    finished = live.take(EVENTS[4])
    assert finished is not None
    assert " ".join(finished.plain.split()) == "✓ make the disk 1.2 s"
    assert shown(live) == ""


def test_an_empty_line_leaves_the_last_one() -> None:
    """Blank output of the guest does not blank the display."""
    live = LiveList()
    live.take(StepStarted(step="boot"))
    live.take(StepOutput(step="boot", stream="console", line="booting"))
    live.take(StepOutput(step="boot", stream="console", line="\x1b[2J  "))
    assert "booting" in shown(live)


def test_a_long_last_line_stays_one() -> None:
    """The guest's last line never takes more than one line of the terminal."""
    live = LiveList()
    live.take(StepStarted(step="boot"))
    live.take(StepOutput(step="boot", stream="console", line="[bold]x[/bold] " * 50))
    lines = shown(live).splitlines()
    assert len(lines) == 2
    assert lines[1].strip().startswith("[bold]x[/bold]")


@pytest.mark.parametrize("event", EVENTS[-4:], ids=lambda event: type(event).__name__)
def test_what_stays_on_the_terminal(event: Event) -> None:
    """Milestones, failures and outputs stay above the list."""
    line = LiveList().take(event)
    assert (line is not None) == (not isinstance(event, StepStarted))
