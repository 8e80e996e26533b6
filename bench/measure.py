"""Taking time: wall clock and CPU, side by side in the same run."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import define, field, frozen


@frozen(kw_only=True)
class Sample:
    """What one run took.

    :param wall: seconds on the clock.
    :param cpu: CPU seconds of this process and of every program that it ran and waited for, QEMU included.
    """

    wall: float
    cpu: float


def busy_seconds() -> float:
    """CPU seconds that all processors have worked since the machine was started (proc(5), ``/proc/stat``)."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """CPU seconds of this process and of all its ended children, so far."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@define
class Stopwatch:
    """Runs from the moment it is made."""

    _cpu: float = field(factory=cpu_seconds, init=False)
    _start: float = field(factory=time.perf_counter, init=False)
    _wall: float | None = field(default=None, init=False)

    def stop(self) -> None:
        """Stop the clock. CPU goes on: a program's is known only when it has ended."""
        self._wall = self._elapsed()

    def sample(self) -> Sample:
        """What was measured."""
        return Sample(wall=self._elapsed() if self._wall is None else self._wall, cpu=cpu_seconds() - self._cpu)

    def _elapsed(self) -> float:
        return time.perf_counter() - self._start


def timed(action: Callable[[], object]) -> Sample:
    """What ``action`` takes."""
    watch = Stopwatch()
    action()
    return watch.sample()


def interleave(contenders: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, tuple[Sample, ...]]:
    """The samples of each contender, by name.

    All run once a round, forwards in one and backwards in the next: what else the machine does, and what the page cache
    holds, hits each of them.

    :param contenders: what to run, by name.
    :param rounds: how often.
    """
    order = list(contenders)
    samples: dict[str, list[Sample]] = {name: [] for name in order}
    for number in range(rounds):
        for name in order if number % 2 == 0 else reversed(order):
            samples[name].append(contenders[name]())
    return {name: tuple(taken) for name, taken in samples.items()}


@define
class Neighbours:
    """Measures how much the machine did besides us, from the moment it is made."""

    _busy: float = field(factory=busy_seconds, init=False)
    _watch: Stopwatch = field(factory=Stopwatch, init=False)

    def seconds_and_processors(self) -> tuple[float, float]:
        """Seconds so far, and how many processors' worth of work others did meanwhile, on average."""
        sample = self._watch.sample()
        return sample.wall, max(0.0, busy_seconds() - self._busy - sample.cpu) / sample.wall
