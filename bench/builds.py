"""Whole builds of the examples, from what is in the cache."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from attrs import evolve

from bench.context import CHECKOUT, Context, Skip
from bench.figures import AtMost, Figure, Of, compared
from bench.measure import Sample, interleave, timed
from vmharness.flows.build import read_definition
from vmharness.host import proc
from vmharness.model import manifest
from vmharness.model.image import DebianSource
from vmharness.model.results import StagedTree
from vmharness.tree.debian import stage_debian

DEBIAN = CHECKOUT / "examples" / "debian-uefi.toml"
MINIMAL = CHECKOUT / "examples" / "minimal-systemd-boot.toml"
_MINIMAL = AtMost(limit=2.5, of=Of.VALUE)  # CPU seconds
_UP_TO_DATE = AtMost(limit=0.5, of=Of.VALUE)  # seconds
_UNCACHED = (
    f"the tree of {DEBIAN.relative_to(CHECKOUT)} is not in the cache; `--full` makes it, or build the example once"
)


def measure_minimal(context: Context) -> tuple[Figure, ...]:
    """The minimal image, as a user builds it: what remains where the tree costs nothing."""
    context.say("building the minimal image")
    build("minimal", MINIMAL, context)  # not counted: afterwards everything is in the cache
    taken = interleave({"build": lambda: build("minimal", MINIMAL, context, "--rebuild")}, context.rounds)
    cpu, wall = compared(f"build of {MINIMAL.name}", taken["build"])
    return (evolve(cpu, wanted=_MINIMAL), wall)


def measure_debian(context: Context) -> tuple[Figure, ...]:
    """The Debian example from its cached tree, as a user builds it, and the time of each of its steps."""
    if staged_if_cached(make=context.full) is None:
        raise Skip(_UNCACHED)
    steps: dict[str, list[float]] = {}

    def rebuild() -> Sample:
        sample = build("debian", DEBIAN, context, "--rebuild")
        made = manifest.from_json((context.scratch / "debian" / manifest.MANIFEST_NAME).read_text())
        for step in made.steps:
            steps.setdefault(step.step, []).append(step.seconds)
        return sample

    contenders = {
        "built anew": rebuild,
        "up to date": lambda: build("debian", DEBIAN, context),
    }
    context.say(f"building the Debian example, {context.rounds} times")
    rebuild()  # not counted: afterwards the tree is in the page cache, and the appliance's state is saved
    steps.clear()
    taken = interleave(contenders, context.rounds)
    figures: list[Figure] = []
    for name, samples in taken.items():
        cpu, wall = compared(f"build of {DEBIAN.name}, tree cached, {name}", samples)
        figures += (cpu, evolve(wall, wanted=_UP_TO_DATE if name == "up to date" else None))
    figures += (Figure(what=f"- {name}", unit="s", samples=tuple(seconds)) for name, seconds in steps.items())
    return tuple(figures)


def build(name: str, definition: Path, context: Context, *options: str) -> Sample:
    """One run of the command."""
    argv = ["vmharness", "build", definition, "-o", context.scratch / name, "--accel", context.accelerator.value]
    return timed(lambda: proc.run([*map(str, argv), *options], doing=f"building {definition.name}"))


def staged_if_cached(*, make: bool = False) -> StagedTree | None:
    """The Debian example's tree, or None if it is not in the cache.

    :param make: make it then.
    """
    source = read_definition(DEBIAN).root.source
    assert isinstance(source, DebianSource)
    uncached = threading.Event()

    def stop_at_first_word(_line: str) -> None:
        # mmdebstrap speaks, so the tree is being made: end that as Ctrl-C would
        if not make and not uncached.is_set():
            uncached.set()
            os.kill(os.getpid(), signal.SIGINT)

    try:
        return stage_debian(source, origin=str(DEBIAN), say=stop_at_first_word)
    except KeyboardInterrupt:
        if not uncached.is_set():
            raise
        return None
