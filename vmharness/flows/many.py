"""Many builds at once, through any ``concurrent.futures`` executor: processes here, or an engine elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from attrs import frozen

from vmharness.errors import HostError, SpecError, VmharnessError
from vmharness.events import Event, to_json
from vmharness.flows.build import build
from vmharness.flows.definition import read_definition
from vmharness.flows.prepare import Options

DASK_SECONDS = 10
"""How long a scheduler may take to answer."""


@frozen(kw_only=True)
class Job:
    """One build: its definition and the folder for its outputs.

    :param events: file that gets the build's events where it runs, one JSON object a line; None for none.
    """

    definition: Path
    output: Path
    events: Path | None = None


@frozen(kw_only=True)
class Finished:
    """What one build came to; ``error`` is empty where it went well, ``exit_code`` is that of the error."""

    job: Job
    seconds: float
    error: str = ""
    exit_code: int = 0


def jobs_for(definitions: Sequence[Path], output: Path, events: Path | None = None) -> tuple[Job, ...]:
    """A job for each definition: one alone fills ``output`` itself, several fill folders in it, by the images' names.

    :param events: folder for the jobs' events.
    :raises SpecError: two have the same name.
    """
    output = output.absolute()
    if len(definitions) == 1:
        return (Job(definition=definitions[0].absolute(), output=output),)
    by_name: dict[str, Path] = {}
    for definition in definitions:
        name = _name_of(definition)
        if name in by_name:
            raise SpecError(
                f"{definition} and {by_name[name]} have the same image name '{name}', so their outputs would collide",
                origin="<command line>",
            )
        by_name[name] = definition.absolute()
    return tuple(
        Job(definition=path, output=output / name, events=events / f"{name}.jsonl" if events else None)
        for name, path in by_name.items()
    )


def _name_of(definition: Path) -> str:
    """The image's name; that of the file where it cannot be read, which its build will say."""
    try:
        return read_definition(definition).name
    except SpecError:
        return definition.stem


def build_all(
    jobs: Sequence[Job], options: Options, executor: Executor, on_finished: Callable[[Finished], None]
) -> tuple[Finished, ...]:
    """Run all builds; one that fails does not stop the others.

    :param executor: runs them; each of its workers uses the cache and the run directories of its own machine, and must
        see the definitions, their sources and the output folder under the same paths.
    :param on_finished: called with each build that has ended.
    :returns: in the order of ``jobs``.
    """
    futures: dict[Future[Finished], Job] = {executor.submit(build_one, job, options): job for job in jobs}
    finished: dict[Job, Finished] = {}
    try:
        for future in as_completed(futures):
            job = futures[future]
            finished[job] = _result(future, job)
            on_finished(finished[job])
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return tuple(finished[job] for job in jobs)


def build_one(job: Job, options: Options) -> Finished:
    """Run one build in a worker; its errors are part of the result."""
    started = time.monotonic()
    error, exit_code = "", 0
    with _recorder(job.events) as emit:
        try:
            build(job.definition, job.output, options, emit)
        except VmharnessError as failure:
            error, exit_code = str(failure), failure.exit_code
    return Finished(job=job, seconds=time.monotonic() - started, error=error, exit_code=exit_code)


@contextmanager
def executor_for(where: str | None, workers: int) -> Iterator[Executor]:
    """The executor of that name.

    :param where: ``dask://HOST:PORT`` for a running Dask scheduler; None for processes on this machine.
    :param workers: how many builds run at once on this machine.
    :raises SpecError: the name is not known.
    :raises HostError: the engine's client is not installed, or its scheduler does not answer.
    """
    if where is None:
        # Fresh interpreters: a forked one would inherit threads' locks and the cache's locks.
        with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn")) as pool:
            yield pool
        return
    scheme, _, address = where.partition("://")
    if scheme != "dask" or not address:
        raise SpecError(
            f"{where!r} names no executor", origin="<command line>", key="--executor", allowed="dask://HOST:PORT"
        )
    try:
        distributed: Any = import_module("distributed")  # an extra that most do without
    except ImportError as error:
        raise HostError("the Dask client is not installed", hint="pip install 'vmharness[dask]'") from error
    try:
        client = distributed.Client(f"tcp://{address}", timeout=DASK_SECONDS)
    except OSError as error:
        raise HostError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield client.get_executor(pure=False, retries=0)


def _result(future: Future[Finished], job: Job) -> Finished:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 -- a worker that died, whatever killed it, is that build's failure alone
        what = f"the worker of {job.definition} ended without a result: {type(error).__name__}: {error}"
        return Finished(job=job, seconds=0.0, error=what, exit_code=HostError.exit_code)


@contextmanager
def _recorder(path: Path | None) -> Iterator[Callable[[Event], None]]:
    if path is None:
        yield lambda _event: None
        return
    with path.open("w") as file:

        def emit(event: Event) -> None:
            file.write(to_json(event) + "\n")
            file.flush()

        yield emit
