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
from vmharness.flows.definition import read_definition
from vmharness.host import kernel, proc
from vmharness.model import manifest
from vmharness.model.results import StagedTree
from vmharness.model.sources import DebianSource
from vmharness.tree.debian import stage_debian

DEBIAN = CHECKOUT / "examples" / "debian-uefi.toml"
MINIMAL = CHECKOUT / "examples" / "minimal-systemd-boot.toml"
_MINIMAL = AtMost(limit=2.5, of=Of.VALUE)  # CPU seconds
_UP_TO_DATE = AtMost(limit=0.5, of=Of.VALUE)  # seconds
PHASE = "- "  # what the figures of steps begin with
Steps = dict[str, list[float]]  # by name: seconds, one a round
_UNCACHED = (
    f"the tree of {DEBIAN.relative_to(CHECKOUT)} is not in the cache; `--full` makes it, or build the example once"
)


def measure_minimal(context: Context) -> tuple[Figure, ...]:
    """The minimal image, as a user builds it: what remains where the tree costs nothing; and the time of each step."""
    context.say("building the minimal image")
    steps: Steps = {}
    build("minimal", MINIMAL, context)  # not counted: afterwards everything is in the cache
    taken = interleave({"build": lambda: _rebuild("minimal", MINIMAL, context, steps)}, context.rounds)
    cpu, wall = compared(f"build of {MINIMAL.name}", taken["build"])
    return (evolve(cpu, wanted=_MINIMAL), wall, *_phases(steps))


def measure_debian(context: Context) -> tuple[Figure, ...]:
    """The Debian example from its cached tree, as a user builds it, and the time of each of its steps."""
    if staged_if_cached(debian_source(), make=context.full) is None:
        raise Skip(_UNCACHED)
    steps: Steps = {}

    def rebuild() -> Sample:
        return _rebuild("debian", DEBIAN, context, steps)

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
    return (*figures, *_phases(steps))


def _rebuild(name: str, definition: Path, context: Context, steps: Steps) -> Sample:
    """One build, whatever is there already; the seconds of its steps are added to ``steps``."""
    sample = build(name, definition, context, "--rebuild")
    made = manifest.from_json((context.scratch / name / manifest.MANIFEST_NAME).read_text())
    for step in made.steps:
        steps.setdefault(step.step, []).append(step.seconds)
    return sample


def _phases(steps: Steps) -> tuple[Figure, ...]:
    return tuple(Figure(what=f"{PHASE}{name}", unit="s", samples=tuple(seconds)) for name, seconds in steps.items())


def build(name: str, definition: Path, context: Context, *options: str) -> Sample:
    """One run of the command."""
    argv = ["vmharness", "build", definition, "-o", context.scratch / name, "--accel", context.accelerator.value]
    return timed(lambda: proc.run([*map(str, argv), *options], doing=f"building {definition.name}"))


def build_in(context: Context, definition: Path) -> Sample:
    """One run of the command with the benchmark's own cache, so that all of it goes away.

    The kernel is the user's: it need not be fetched again.
    """
    guest = kernel.appliance_kernel()
    argv: list[str | Path] = ["vmharness", "build", definition, "-o", context.scratch / "out", "--rebuild"]
    argv += ["--accel", context.accelerator.value, "--kernel", guest.image, "--modules", guest.modules]
    env = {"XDG_CACHE_HOME": str(context.cache)}
    return timed(lambda: proc.run(argv, doing=f"building {definition.name}", env=env))


def debian_source() -> DebianSource:
    """The root source of the Debian example."""
    source = read_definition(DEBIAN).root.source
    assert isinstance(source, DebianSource)
    return source


def staged_if_cached(source: DebianSource, *, make: bool = False) -> StagedTree | None:
    """The tree of a Debian source, or None if it is not in the cache.

    :param make: make it then.
    """
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
