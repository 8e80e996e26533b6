"""Many builds at once: through any executor, one failure apart from the others."""

import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from vmharness.errors import HostError, SpecError
from vmharness.flows.many import Finished, Job, build_all, executor_for, jobs_for
from vmharness.flows.prepare import Options

WRONG = '[image]\nname = "{name}"\nsize = "1M"\n[root]\nsource = {{ directory = "missing" }}\n'


def definition(folder: Path, name: str, text: str = WRONG) -> Path:
    """A definition whose build fails before any guest starts."""
    path = folder / f"{name}.toml"
    path.write_text(text.format(name=name))
    return path


class Dying(Executor):
    """An executor whose workers are killed."""

    def submit(self, function, /, *arguments, **keywords):
        """Give what a broken pool gives."""
        future: Future[Finished] = Future()
        future.set_exception(OSError("the worker was killed"))
        return future


def test_one_definition_fills_the_output_itself(tmp_path: Path) -> None:
    """A single definition needs no folder of its own."""
    (job,) = jobs_for([definition(tmp_path, "one")], tmp_path / "out")
    assert job.output == tmp_path / "out"


def test_several_definitions_get_folders_by_name(tmp_path: Path) -> None:
    """Each of several gets a folder by its image's name, or its file's name where the definition is broken."""
    broken = definition(tmp_path, "broken", "nonsense")
    jobs = jobs_for([definition(tmp_path, "one"), broken], tmp_path / "out")
    assert [job.output.name for job in jobs] == ["one", "broken"]


def test_colliding_outputs_are_refused(tmp_path: Path) -> None:
    """Two definitions with one name would overwrite each other; the error names both."""
    (tmp_path / "x").mkdir()
    first, second = definition(tmp_path, "same"), definition(tmp_path / "x", "same")
    with pytest.raises(SpecError, match=f"{second} and {first}"):
        jobs_for([first, second], tmp_path / "out")


def test_failures_stay_apart(tmp_path: Path) -> None:
    """Every build ends with its own error and exit code, in the order of the jobs, from real worker processes."""
    jobs = jobs_for([definition(tmp_path, "a"), definition(tmp_path, "b", "nonsense")], tmp_path / "out")
    seen: list[Finished] = []
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        finished = build_all(jobs, Options(), pool, seen.append)
    assert [one.job for one in finished] == list(jobs)
    assert {one.job for one in seen} == set(jobs)
    assert [one.exit_code for one in finished] == [2, 2]
    assert "missing" in finished[0].error
    assert "not valid TOML" in finished[1].error


def test_lost_worker_is_that_build_alone(tmp_path: Path) -> None:
    """A worker that dies without a result is a failed build with a sentence, not an exception."""
    jobs = (Job(definition=tmp_path / "a.toml", output=tmp_path / "out"),)
    (one,) = build_all(jobs, Options(), Dying(), lambda _one: None)
    assert one.exit_code == HostError.exit_code
    assert "the worker was killed" in one.error


def test_events_are_written_where_the_build_runs(tmp_path: Path) -> None:
    """A job with an events file leaves its events there, so that others can follow it."""
    jobs = jobs_for([definition(tmp_path, "a"), definition(tmp_path, "b")], tmp_path / "out", tmp_path)
    with ThreadPoolExecutor(max_workers=1) as pool:
        build_all(jobs, Options(), pool, lambda _one: None)
    assert '"event": "RunStarted"' in (tmp_path / "a.jsonl").read_text()


def test_unknown_executor_is_refused() -> None:
    """Another name than a Dask scheduler's is an error that says what is allowed."""
    with pytest.raises(SpecError, match="dask://HOST:PORT"), executor_for("slurm://x", 1):
        pass


@pytest.fixture
def scheduler():
    """The address of a Dask scheduler with one worker process, on the loopback interface."""
    from distributed import LocalCluster  # noqa: PLC0415 -- takes a second to import

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        yield cluster.scheduler_address.removeprefix("tcp://")


@pytest.mark.filterwarnings("ignore")  # Dask's own, at its shutdown
def test_dask_runs_builds(tmp_path: Path, scheduler: str) -> None:
    """Builds run in a Dask worker, another process, and their errors come back."""
    jobs = jobs_for([definition(tmp_path, "a"), definition(tmp_path, "b")], tmp_path / "out", tmp_path)
    with executor_for(f"dask://{scheduler}", 1) as engine:
        assert engine.submit(os.getpid).result() != os.getpid()
        finished = build_all(jobs, Options(), engine, lambda _one: None)
    assert ["missing" in one.error for one in finished] == [True, True]


def test_silent_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where no scheduler answers is said so within seconds."""
    monkeypatch.setattr("vmharness.flows.many.DASK_SECONDS", 1)
    with pytest.raises(HostError, match="no Dask scheduler answers"), executor_for("dask://127.0.0.1:9", 1):
        pass
