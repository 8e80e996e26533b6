"""The phases of the builds as a picture: bars in SVG, drawn from what is written as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from string import Template
from typing import Any

from bench.builds import PHASE

_TITLES = {"minimal": "The minimal image", "debian": "The Debian example, from its cached tree"}
_WIDTH, _LINE, _MARGIN = 900, 22, 12
_LABELS, _BARS = 330, 480  # pixels across
_PAGE = Template("""\
<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="$height" viewBox="0 0 $width $height" role="img">
<title>Seconds of each phase of a build</title>
<style>
text { font: 14px sans-serif; fill: #222; }
.title { font-weight: bold; }
.label { text-anchor: end; }
rect { fill: #4477aa; }
.page { fill: #ffffff; }
</style>
<rect class="page" width="$width" height="$height"/>
$lines</svg>
""")
_TITLE = Template('<text class="title" x="$left" y="$base">$text</text>\n')
_BAR = Template("""\
<text class="label" x="$label_end" y="$base">$name</text>
<rect x="$bar" y="$top" width="$length" height="$thickness"/>
<text x="$value_start" y="$base">$value</text>
""")


def draw(benchmarks: Iterable[dict[str, Any]], machine: str) -> str:
    """The picture: a bar for each phase of each build that was measured, all on one scale.

    :param benchmarks: as :func:`bench.figures.to_data` gives them.
    :param machine: a line about the machine.
    """
    builds = {_TITLES[one["name"]]: dict(_phases(one)) for one in benchmarks if one["name"] in _TITLES}
    longest = max((seconds for phases in builds.values() for seconds in phases.values()), default=1.0)
    lines: list[str] = []
    row = 0
    for title, phases in builds.items():
        lines.append(_title(row, f"{title}: {sum(phases.values()):.1f} s"))
        lines += [_bar(row + 1 + number, *phase, longest) for number, phase in enumerate(phases.items())]
        row += len(phases) + 2
    lines.append(_title(row, f"Seconds (medians, appliance resumed). {machine}"))
    return _PAGE.substitute(width=_WIDTH, height=(row + 1) * _LINE + 2 * _MARGIN, lines="".join(lines))


def _phases(benchmark: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for figure in benchmark["figures"]:
        if figure["what"].startswith(PHASE):
            yield figure["what"].removeprefix(PHASE), figure["value"]


def _title(row: int, text: str) -> str:
    return _TITLE.substitute(left=_MARGIN, base=_base(row), text=escape(text))


def _bar(row: int, name: str, seconds: float, longest: float) -> str:
    length = seconds / longest * _BARS
    return _BAR.substitute(
        label_end=_LABELS,
        base=_base(row),
        name=escape(name),
        bar=_LABELS + 8,
        top=_MARGIN + row * _LINE + 3,
        length=f"{length:.1f}",
        thickness=_LINE - 6,
        value_start=f"{_LABELS + 14 + length:.1f}",
        value=f"{seconds:.2f}",
    )


def _base(row: int) -> int:
    """Where a row's text stands, in pixels from the top."""
    return _MARGIN + row * _LINE + 16
