"""Memory of vmharness itself, without the programs that it runs, while it builds from small and from large trees."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from bench.context import CHECKOUT, Context
from bench.figures import AtMost, Figure, Of
from bench.trees import make_archive
from vmharness.host import kernel, proc

_MARK = AtMost(limit=150, of=Of.VALUE)  # MB, however large the tree
_ENTRIES = (10_000, 100_000)
_DEFINITION = """
[image]
name = "memory"
format = "raw"

[root]
source = {{ {source} = "{path}" }}

[bootloader]
install = "none"
"""


def measure(context: Context) -> tuple[Figure, ...]:
    """Builds from archives, which are unpacked first, and from the directory that the large one was unpacked to."""
    figures: list[Figure] = []
    for entries in _ENTRIES:
        archive = context.scratch / f"{entries}.tar"
        make_archive(archive, entries=entries)
        figures.append(_build(context, "tar", archive, f"an archive of {entries:,} entries"))
    (unpacked,) = (context.scratch / "cache" / archive.name / "vmharness/tree").glob("*/data")
    figures.append(_build(context, "directory", unpacked, f"a directory of {entries:,} entries"))
    return tuple(figures)


def _build(context: Context, source: str, path: Path, what: str) -> Figure:
    """The figure of one build. Its cache is one of its own, so that nothing is there yet and all of it goes away."""
    context.say(f"building from {what}")
    definition, output, report = (context.scratch / name for name in ("memory.toml", "out", "report"))
    definition.write_text(_DEFINITION.format(source=source, path=path))
    shutil.rmtree(output, ignore_errors=True)
    cache = context.scratch / "cache" / path.name
    guest = kernel.appliance_kernel()
    arguments = (definition, output, context.accelerator.value, guest.image, guest.modules, report)
    argv = [sys.executable, "-m", "bench.peak", *map(str, arguments)]
    proc.run(argv, doing=f"building from {what}", env={"XDG_CACHE_HOME": str(cache)}, cwd=CHECKOUT)
    peaks: dict[str, int] = json.loads(report.read_text())
    highest = max(peaks, key=lambda part: peaks[part])
    return Figure(
        what=f"memory of vmharness, building from {what} (highest: {highest})",
        unit="MB",
        samples=(peaks[highest] / 1e6,),
        wanted=_MARK,
    )
