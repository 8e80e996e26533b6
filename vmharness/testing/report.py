"""One boot, or several, as one page of HTML that needs nothing beside it: what a person looks at the next day.

Everything that the guest wrote is escaped; the page holds no script.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from attrs import field, frozen

from vmharness.vm.rendering import STYLESHEET

_WIDTH, _BAR = 860, 26
_COLOURS = {
    "firmware": "#8da0cb",
    "bootloader": "#fc8d62",
    "kernel": "#66c2a5",
    "initramfs": "#e78ac3",
    "init": "#a6d854",
    "login": "#ffd92f",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.reached { color: #1a7f37 } .failed { color: #b42318 }
pre { font-size: 12px }
figure { display: inline-block; margin: 0 1rem 1rem 0 } img { width: 26rem; border: 1px solid #ccc }
table { border-collapse: collapse } td { padding: .1rem .8rem .1rem 0; vertical-align: top }
"""


@frozen(kw_only=True)
class Screenshot:
    """A screenshot: what was on the screen when, and the PNG's bytes."""

    caption: str
    png: bytes


@frozen(kw_only=True)
class BootRecord:
    """What is told of one boot.

    :param title: what was booted.
    :param verdict: what it came to, in a sentence.
    :param reached: whether it came where it should.
    :param milestones: seconds at which each was reached, in order.
    :param seconds: how long the machine ran.
    :param facts: such as the accelerator, by name.
    :param pictures: screenshots at the milestones.
    :param console: the console, as a fragment of HTML that is safe already.
    :param changes: what the boot changed in the variable store, a sentence each.
    """

    title: str
    verdict: str
    reached: bool
    milestones: Mapping[str, float]
    seconds: float
    facts: Mapping[str, str] = field(factory=dict)
    pictures: Sequence[Screenshot] = ()
    console: str = ""
    changes: Sequence[str] = ()


def page(records: Sequence[BootRecord]) -> str:
    """The page."""
    body = "\n".join(line for record in records for line in _boot(record))
    title = escape(records[0].title if len(records) == 1 else f"{len(records)} boots")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{_STYLE}{STYLESHEET}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _boot(record: BootRecord) -> Iterator[str]:
    yield f"<h1>{escape(record.title)}</h1>"
    yield f'<p class="{"reached" if record.reached else "failed"}"><strong>{escape(record.verdict)}</strong></p>'
    yield _table(record.facts)
    yield "<h2>Timeline</h2>"
    yield timeline(record.milestones, record.seconds)
    if record.pictures:
        yield "<h2>Screen</h2>"
        yield from (_figure(picture) for picture in record.pictures)
    yield "<h2>EFI variables</h2>"
    if record.changes:
        yield "<ul>" + "".join(f"<li>{escape(change)}</li>" for change in record.changes) + "</ul>"
    else:
        yield "<p>The boot changed none, besides those that the firmware rewrites at each start.</p>"
    yield "<h2>Console</h2>"
    yield record.console


def timeline(milestones: Mapping[str, float], seconds: float) -> str:
    """The time that each stage took, as a picture (SVG); a stage begins where its milestone was reached."""
    whole = max(seconds, *milestones.values(), 0.1) if milestones else max(seconds, 0.1)
    stages = [("power on", 0.0), *milestones.items()]
    ends = [at for _, at in stages[1:]] + [whole]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_BAR * len(stages) + 24}">']
    for row, ((name, begin), end) in enumerate(zip(stages, ends, strict=True)):
        left, top = 110 + begin / whole * (_WIDTH - 190), row * _BAR
        width = max((end - begin) / whole * (_WIDTH - 190), 1.0)
        colour = _COLOURS.get(name, "#b3b3b3")
        parts.append(f'<text x="0" y="{top + 17}" font-size="13">{escape(name)}</text>')
        parts.append(f'<rect x="{left:.1f}" y="{top + 4}" width="{width:.1f}" height="{_BAR - 8}" fill="{colour}"/>')
        parts.append(f'<text x="{left + width + 4:.1f}" y="{top + 17}" font-size="12">{end - begin:.1f} s</text>')
    parts.append(f'<text x="110" y="{_BAR * len(stages) + 16}" font-size="12">{whole:.1f} s in all</text></svg>')
    return "".join(parts)


def _table(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<table>{rows}</table>"


def _figure(picture: Screenshot) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
