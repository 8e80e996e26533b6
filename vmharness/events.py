"""What a run says while it runs: frozen events, and sinks that take them.

A flow calls one function, ``emit(event)``. Who listens (a person's terminal, a JSON stream, the run directory's
``events.jsonl``) is the caller's choice; below ``cli/`` nothing prints.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen


@frozen(kw_only=True)
class Event:
    """Base: something happened at ``at`` (seconds since the epoch)."""

    at: float = field(factory=time.time)


@frozen(kw_only=True)
class RunStarted(Event):
    """A run began; its evidence is written to ``run_directory``."""

    what: str
    run_directory: Path


@frozen(kw_only=True)
class Note(Event):
    """One line that a person should know, such as the accelerator and why it was chosen."""

    text: str


@frozen(kw_only=True)
class StepStarted(Event):
    """A phase of the host or a step of the guest began."""

    step: str


@frozen(kw_only=True)
class StepOutput(Event):
    """A line of output of the running step; ``stream`` is ``stdout``, ``stderr`` or ``console``. Untrusted text."""

    step: str
    stream: str
    line: str


@frozen(kw_only=True)
class CheckpointTaken(Event):
    """The machine's state was saved in ``seconds``; it takes ``size`` bytes.

    :param wanted: whether somebody has asked for it, and wants to know what it costs.
    """

    name: str
    seconds: float
    size: int
    wanted: bool


@frozen(kw_only=True)
class StepFinished(Event):
    """A step ended well after ``seconds``."""

    step: str
    seconds: float


@frozen(kw_only=True)
class StepFailed(Event):
    """A step failed after ``seconds``; ``error`` is the error's text."""

    step: str
    seconds: float
    error: str


@frozen(kw_only=True)
class MilestoneReached(Event):
    """A booting machine passed a milestone ``seconds`` after its start."""

    milestone: str
    seconds: float


@frozen(kw_only=True)
class Published(Event):
    """The outputs are in place."""

    directory: Path
    files: tuple[str, ...]


Emit = Callable[[Event], None]


def to_json(event: Event) -> str:
    """The event as one JSON object on one line; ``event`` holds its class name."""

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    return json.dumps({"event": type(event).__name__, **asdict(event, value_serializer=lambda _i, _a, v: plain(v))})


def nobody(_event: Event) -> None:
    """A sink that drops everything."""


def fan_out(*sinks: Emit) -> Emit:
    """One sink that hands each event to all of ``sinks``, in order."""

    def emit(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return emit
