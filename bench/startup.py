"""The command line's own start: what every call pays."""

from __future__ import annotations

import sys

from attrs import evolve

from bench.context import Context
from bench.figures import AtMost, Figure, Of, compared
from bench.measure import interleave, timed
from vmharness.host import proc

_ROUNDS_EACH = 5  # a start is short: more of them cost nothing and steady the median
_MARK = AtMost(limit=0.3, of=Of.VALUE)


def measure(context: Context) -> tuple[Figure, ...]:
    """CPU of ``vmharness --help``, beside that of a Python that does nothing."""
    vmharness = proc.require("vmharness")
    contenders = {
        "help": lambda: timed(lambda: proc.run([vmharness, "--help"], doing="showing the help")),
        "python": lambda: timed(lambda: proc.run([sys.executable, "-c", ""], doing="starting Python")),
    }
    taken = interleave(contenders, context.rounds * _ROUNDS_EACH)
    cpu, wall = compared("`vmharness --help`", taken["help"], "`python -c ''`", taken["python"])
    return (evolve(cpu, wanted=_MARK), wall)
