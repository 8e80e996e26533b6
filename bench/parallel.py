"""Several builds at once against the same builds one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from bench.builds import MINIMAL
from bench.context import Context
from bench.figures import Figure, compared
from bench.measure import Sample, interleave, timed
from vmharness.host import proc

_BUILDS, _JOBS = 8, 2
_MOST = 1 / 1.8  # of the time that they take one after the other


def measure(context: Context) -> tuple[Figure, ...]:
    """Eight minimal images, each with a definition of its own; the clock counts here."""
    definitions = []
    for number in range(_BUILDS):
        definition = context.scratch / f"minimal-{number}.toml"
        definition.write_text(MINIMAL.read_text().replace('name = "minimal"', f'name = "minimal-{number}"'))
        definitions.append(definition)
    _build(definitions[:1], 1, context)  # not counted: afterwards everything is in the cache
    context.say(f"building {_BUILDS} images, {context.rounds} times in both ways")
    contenders = {
        "at once": lambda: _build(definitions, _JOBS, context),
        "in turn": lambda: _build(definitions, 1, context),
    }
    taken = interleave(contenders, context.rounds)
    what = f"{_BUILDS} builds of {MINIMAL.name}, -j {_JOBS}"
    cpu, wall = compared(what, taken["at once"], "one after the other", taken["in turn"], at_most=_MOST)
    return (wall, evolve(cpu, wanted=None))


def _build(definitions: Sequence[Path], jobs: int, context: Context) -> Sample:
    argv: list[str | Path] = ["vmharness", "build", *definitions, "-o", context.scratch / "out", "--rebuild"]
    argv += ["-j", str(jobs), "--accel", context.accelerator.value]
    return timed(lambda: proc.run(argv, doing=f"building {len(definitions)} images"))
