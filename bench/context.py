"""What every benchmark is given, and how it declines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from vmharness.model.hardware import Accelerator

CHECKOUT = Path(__file__).resolve().parents[1]


@frozen(kw_only=True)
class Context:
    """One run of the benchmarks.

    :param rounds: how often each side of a comparison runs.
    :param full: also make what is not in the cache.
    :param large: also measure what takes long and needs much space on the disk.
    :param scratch: folder for this benchmark alone, removed when all are done.
    :param accelerator: what guests run with, on both sides.
    :param say: takes a line about what is being done.
    """

    rounds: int
    full: bool
    large: bool
    scratch: Path
    accelerator: Accelerator
    say: Callable[[str], None]

    @property
    def cache(self) -> Path:
        """A cache for this benchmark alone, to be given to programs as ``XDG_CACHE_HOME``."""
        return self.scratch / "cache"


class Skip(Exception):
    """This benchmark cannot be run here; the text is a sentence."""
