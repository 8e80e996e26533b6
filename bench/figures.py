"""Figures: a value, what it is compared with, what is wanted, and whether it is met. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from statistics import median
from typing import Any

from attrs import asdict, field, frozen
from rich import box
from rich.table import Table

from bench.measure import Sample


class Of(Enum):
    """What a mark is set on."""

    VALUE = "value"
    RATIO = "ratio"


class Verdict(Enum):
    """Whether a figure is as wanted; ``OPEN`` where nothing is wanted of it."""

    MET = "met"
    MISSED = "missed"
    OPEN = "-"


@frozen(kw_only=True)
class AtMost:
    """A mark."""

    limit: float
    of: Of


@frozen(kw_only=True)
class Figure:
    """One line of the table.

    :param what: what was measured.
    :param unit: of the samples: ``s``, ``s CPU``, ``MB``.
    :param samples: one a round.
    :param reference: what it is compared with, or "".
    :param reference_samples: taken in the same rounds.
    :param wanted: the mark, or None.
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    reference: str = ""
    reference_samples: tuple[float, ...] = field(default=())
    wanted: AtMost | None = None

    @property
    def value(self) -> float:
        """Median of the samples."""
        return median(self.samples)

    @property
    def reference_value(self) -> float | None:
        """Median of the reference's samples."""
        return median(self.reference_samples) if self.reference_samples else None

    @property
    def ratio(self) -> float | None:
        """Value to reference."""
        return self.value / self.reference_value if self.reference_value else None

    @property
    def verdict(self) -> Verdict:
        """Whether the mark is met. A mark on a ratio that could not be taken is missed."""
        if self.wanted is None:
            return Verdict.OPEN
        judged = self.value if self.wanted.of is Of.VALUE else self.ratio
        return Verdict.MET if judged is not None and judged <= self.wanted.limit else Verdict.MISSED


@frozen(kw_only=True)
class Result:
    """What one benchmark came to.

    :param name: the benchmark.
    :param figures: its lines.
    :param skipped: why it was not run, or "".
    :param failed: what went wrong, or "".
    :param seconds: how long it took.
    :param others: how many processors' worth of work the machine did besides it.
    """

    name: str
    figures: tuple[Figure, ...] = field(default=())
    skipped: str = ""
    failed: str = ""
    seconds: float = 0.0
    others: float = 0.0


def compared(
    what: str,
    samples: Iterable[Sample],
    reference: str = "",
    reference_samples: Iterable[Sample] = (),
    *,
    at_most: float | None = None,
) -> tuple[Figure, ...]:
    """Two lines for one comparison: CPU and wall clock.

    :param at_most: mark on the ratio of both, or None.
    """
    takes: dict[str, Callable[[Sample], float]] = {"s CPU": lambda sample: sample.cpu, "s": lambda sample: sample.wall}
    mine, theirs = tuple(samples), tuple(reference_samples)
    return tuple(
        Figure(
            what=what,
            unit=unit,
            samples=tuple(map(take, mine)),
            reference=reference,
            reference_samples=tuple(map(take, theirs)),
            wanted=None if at_most is None else AtMost(limit=at_most, of=Of.RATIO),
        )
        for unit, take in takes.items()
    )


def table(results: Iterable[Result]) -> Table:
    """The figures of all benchmarks, as a table that is Markdown, too."""
    shown = Table(box=box.MARKDOWN)
    for heading in ("what", "compared with"):
        shown.add_column(heading, overflow="fold")
    for heading in ("value", "reference", "ratio", "wanted"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for result in results:
        for figure in result.figures:
            shown.add_row(*cells(figure), style="red" if figure.verdict is Verdict.MISSED else "")
    return shown


def cells(figure: Figure) -> tuple[str, ...]:
    """A figure's line, as text."""
    reference, ratio, wanted = figure.reference_value, figure.ratio, figure.wanted
    limit = "" if wanted is None else f"≤ {wanted.limit:g}" + (f" {figure.unit}" if wanted.of is Of.VALUE else "")
    return (
        figure.what,
        figure.reference,
        _amount(figure.value, figure.unit),
        "" if reference is None else _amount(reference, figure.unit),
        "" if ratio is None else f"{ratio:.2f}",
        limit,
        figure.verdict.value,
    )


def to_data(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Everything as JSON values, the medians, ratios and verdicts included."""

    def plain(_instance: object, _attribute: object, value: Any) -> Any:
        return value.value if isinstance(value, Enum) else value

    data = []
    for result in results:
        figures = [
            {
                **asdict(figure, value_serializer=plain),
                "value": figure.value,
                "reference_value": figure.reference_value,
                "ratio": figure.ratio,
                "verdict": figure.verdict.value,
            }
            for figure in result.figures
        ]
        data.append({**asdict(result, recurse=False), "figures": figures})
    return data


def _amount(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if unit == "MB" else f"{value:.2f} {unit}"
