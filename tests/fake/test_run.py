"""A run's directory and events."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from vmharness.errors import BuildFailed, HostError, SpecError
from vmharness.events import Event, RunStarted, StepFailed, StepFinished, StepOutput, StepStarted, nobody
from vmharness.flows.run import recorded


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run directories are made under this test's own folder."""
    monkeypatch.setenv("VMHARNESS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_events_are_on_disk_while_the_run_lives(base: Path) -> None:
    """Each event is in the file as one JSON object a line, as soon as it happened, and goes to the caller's sink."""
    heard: list[Event] = []
    with recorded("build x", "x", heard.append) as run:
        run.note("one")
        with run.part("work"):
            run.say("out \x1b[1m")
        lines = [json.loads(line) for line in run.directory.events.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["RunStarted", "Note", "StepStarted", "StepOutput", "StepFinished"]
    assert [type(event).__name__ for event in heard] == [line["event"] for line in lines]
    assert lines[0]["run_directory"] == str(run.directory.path)
    assert run.seconds.keys() == {"work"}
    assert run.directory.path.parent == base


def test_the_steps_output_is_a_text(base: Path) -> None:
    """What the steps wrote is in a file of its own, without the console's lines."""
    with recorded("build x", "x", nobody, keep_always=True) as run, run.part("copy"):
        run.say("one \udcff ümläut")
        run.say("boot message", "console")
        run.say("two", "stderr")
    assert run.directory.commands.read_text(encoding="utf-8") == "[copy] one ? ümläut\n[copy] two\n"


def test_private_and_removed(base: Path) -> None:
    """A run's directory is for its owner only, and gone when all went well."""
    with recorded("build x", "x", nobody) as run:
        assert run.directory.path.stat().st_mode & 0o777 == 0o700
        assert base.stat().st_mode & 0o777 == 0o700
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("error", [BuildFailed("it failed"), ValueError("a bug"), KeyboardInterrupt()])
def test_kept_when_something_failed(base: Path, error: BaseException) -> None:
    """The evidence of a failure, a bug or an interruption stays."""
    with pytest.raises(type(error)), recorded("build x", "x", nobody):
        raise error
    assert len(list(base.iterdir())) == 1


@pytest.mark.parametrize("error", [SpecError("wrong"), HostError("no space")])
def test_removed_when_there_is_nothing_to_see(base: Path, error: Exception) -> None:
    """An error of the definition or the host needs no run directory."""
    with pytest.raises(type(error)), recorded("build x", "x", nobody):
        raise error
    assert list(base.iterdir()) == []


def test_kept_when_the_error_points_into_it(base: Path) -> None:
    """An error whose evidence is in the run directory keeps it."""

    def fail() -> None:
        with recorded("build x", "x", nobody) as run:
            run.directory.qemu_stderr.touch()
            raise HostError("mke2fs failed", evidence=run.directory.qemu_stderr)

    with pytest.raises(HostError) as failure:
        fail()
    assert failure.value.evidence is not None
    assert failure.value.evidence.is_file()


def test_a_failed_part(base: Path) -> None:
    """A part that fails says so, with the error's text and the time; it has no time among the finished ones."""
    heard: list[Event] = []
    with pytest.raises(BuildFailed), recorded("build x", "x", heard.append) as run, run.part("work"):
        raise BuildFailed("it failed")
    started, failed = heard[1:]
    assert isinstance(started, StepStarted)
    assert isinstance(failed, StepFailed)
    assert (failed.step, failed.error) == ("work", "it failed")
    assert run.seconds == {}


def test_an_error_without_words(base: Path) -> None:
    """An error that says nothing is told by its kind."""
    heard: list[Event] = []
    with pytest.raises(KeyboardInterrupt), recorded("build x", "x", heard.append) as run, run.part("work"):
        raise KeyboardInterrupt
    assert isinstance(heard[-1], StepFailed)
    assert heard[-1].error == "KeyboardInterrupt"


def test_parts_in_order(base: Path) -> None:
    """The times of the parts are there in the order in which they ended."""
    heard: list[Event] = []
    with recorded("build x", "x", heard.append) as run:
        for name in ("b", "a", "c"):
            with run.part(name):
                run.say("line")
    assert list(run.seconds) == ["b", "a", "c"]
    assert [event.step for event in heard if isinstance(event, StepFinished)] == ["b", "a", "c"]
    assert [event.step for event in heard if isinstance(event, StepOutput)] == ["b", "a", "c"]


def test_events_from_several_threads(base: Path) -> None:
    """Lines that come from the console's thread and from the steps at the same time do not run into each other."""
    with recorded("build x", "x", nobody) as run:
        run.current = "work"
        threads = [
            threading.Thread(target=lambda: [run.say("x" * 200, "console") for _ in range(500)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = run.directory.events.read_text().splitlines()
    assert len(lines) == 2001
    assert all(json.loads(line)["event"] in {"RunStarted", "StepOutput"} for line in lines)


def test_no_place_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no run directory can be made, the error says where and what to set."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("VMHARNESS_RUNS", str(tmp_path / "file"))
    with pytest.raises(HostError, match="cannot make a run directory in") as failure, recorded("x", "x", nobody):
        pass
    assert "VMHARNESS_RUNS" in str(failure.value)


def test_the_first_event_names_the_directory(base: Path) -> None:
    """Whoever listens learns the run directory first."""
    heard: list[Event] = []
    with recorded("boot x", "x", heard.append, keep_always=True) as run:
        pass
    assert heard[0] == RunStarted(at=heard[0].at, what="boot x", run_directory=run.directory.path)
    assert run.directory.path.is_dir()
