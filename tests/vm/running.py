"""Runs vmharness as a person or a program does, and looks at what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen

PROGRAM = (sys.executable, "-m", "vmharness")

Event = dict[str, Any]


@frozen(kw_only=True)
class Done:
    """A run that has ended."""

    status: int
    stdout: str
    stderr: str
    seconds: float

    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.stdout)

    def events(self) -> list[Event]:
        """Standard output as one JSON object a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def failed_after(self) -> float:
        """Seconds that the step took which failed."""
        (failure,) = (event for event in self.events() if event["event"] == "StepFailed")
        return float(failure["seconds"])

    def error(self) -> str:
        """The text of the error that ended a run with ``--json``."""
        last = self.events()[-1]
        assert last["event"] == "Failed", last
        assert last["exit_code"] == self.status
        return str(last["error"])


@frozen(kw_only=True)
class Live:
    """A run under way, started with ``--json``; ``pid`` leads a process group of its own."""

    child: subprocess.Popen[str]
    errors: Path

    @property
    def pid(self) -> int:
        """Process id, and that of the group."""
        return self.child.pid

    def wait_for(self, matches: Callable[[Event], bool]) -> Event:
        """The first event from now on that matches."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            event: Event = json.loads(line)
            if matches(event):
                return event
        raise AssertionError(f"the run ended before: {self.errors.read_text()}")

    def wait_for_output(self, text: str) -> None:
        """Wait until a step or the console writes the line ``text``."""
        self.wait_for(lambda event: event["event"] == "StepOutput" and event["line"].strip() == text)

    def end(self, within: float = 30) -> Done:
        """Wait for the end of the run."""
        began = time.monotonic()
        stdout, _ = self.child.communicate(timeout=within)
        seconds = time.monotonic() - began
        return Done(status=self.child.returncode, stdout=stdout, stderr=self.errors.read_text(), seconds=seconds)


@frozen(kw_only=True)
class Workplace:
    """A folder in which vmharness is run.

    :param command: how vmharness is called.
    :param environment: what is added to the environment.
    """

    folder: Path
    command: tuple[str, ...] = PROGRAM
    environment: Mapping[str, str] = field(factory=dict)

    @property
    def runs(self) -> Path:
        """Where run directories are made."""
        return self.folder / "runs"

    def define(self, text: str) -> Path:
        """Write an image definition."""
        path = self.folder / "image.toml"
        path.write_text(text)
        return path

    def run(self, *arguments: str | Path, within: float = 400, verbs: str | None = None) -> Done:
        """Run vmharness to its end.

        :param verbs: its standard input.
        """
        began = time.monotonic()
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment_of_runs(),
            input=verbs or "",
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        seconds = time.monotonic() - began
        return Done(status=done.returncode, stdout=done.stdout, stderr=done.stderr, seconds=seconds)

    def build(self, definition: str, *options: str | Path, output: str = "out") -> Path:
        """Build an image, anew whatever is there already, which must succeed; gives the output folder."""
        done = self.run("build", self.define(definition), "-o", self.folder / output, "--rebuild", *options)
        assert done.status == 0, done.stderr
        return self.folder / output

    def fail(self, definition: str, *options: str | Path) -> Done:
        """Build an image with ``--json``, which must fail, publish nothing and leave no machine behind."""
        done = self.run("build", self.define(definition), "-o", self.folder / "out", "--json", *options)
        assert done.status != 0
        assert not (self.folder / "out").exists()
        assert self.unfinished() == []
        assert self.guests() == []
        assert "Traceback" not in done.stdout + done.stderr
        return done

    @contextmanager
    def start(self, *arguments: str | Path) -> Iterator[Live]:
        """Start vmharness; it is killed when the block ends, with whatever it left in its process group."""
        errors = self.folder / "stderr"
        with errors.open("w") as stderr:
            child = subprocess.Popen(
                [*self.command, *map(str, arguments), "--json"],
                cwd=self.folder,
                env=self.environment_of_runs(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
                preexec_fn=_listen_to_signals,  # noqa: PLW1509 -- nothing is held
            )
        with child:
            try:
                yield Live(child=child, errors=errors)
            finally:
                child.kill()

    def guests(self) -> list[int]:
        """The machines (QEMU processes) of this workplace's runs."""
        marks = os.fsencode(f"VMHARNESS_RUNS={self.runs}")
        return [pid for pid, variables in _processes("qemu-system") if marks in variables]

    def wait_for_guest(self) -> int:
        """The one machine of this workplace, as soon as there is one."""
        deadline = time.monotonic() + 60
        while not (found := self.guests()):
            assert time.monotonic() < deadline, "no machine was started"
            time.sleep(0.02)
        (pid,) = found
        return pid

    def wait_for_console(self) -> None:
        """Wait until the machine of the one run has printed something."""
        deadline = time.monotonic() + 60
        while not any(log.stat().st_size for log in self.runs.glob("*/console.log")):
            assert time.monotonic() < deadline, "the machine printed nothing"
            time.sleep(0.02)

    def wait_for_no_guest(self, within: float) -> None:
        """Wait until no machine of this workplace is there."""
        deadline = time.monotonic() + within
        while self.guests():
            assert time.monotonic() < deadline, f"a machine is left after {within} s"
            time.sleep(0.02)

    def run_directories(self) -> list[Path]:
        """The run directories that are there."""
        return sorted(self.runs.iterdir()) if self.runs.is_dir() else []

    def unfinished(self) -> list[Path]:
        """What an interrupted publication would leave beside the output folder."""
        return sorted(self.folder.glob(".out*"))

    def environment_of_runs(self) -> dict[str, str]:
        """The environment in which vmharness is run."""
        return {**os.environ, "VMHARNESS_RUNS": str(self.runs), **self.environment}


def _processes(program: str) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Every process of a program that this user may look at, with its environment; ended ones are not counted."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name = (entry / "cmdline").read_bytes().split(b"\0")[0]
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended, or is another user's
            continue
        if program in os.fsdecode(name):
            yield int(entry.name), variables


def _listen_to_signals() -> None:
    """What a test runner in the background (SIGINT) or under nohup (SIGHUP) ignores, its children would ignore, too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
