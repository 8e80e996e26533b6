"""A memory budget for machines of several processes: whoever would pass it waits until others are done.

Each machine holds a lock on a file whose name says how much it takes; the kernel drops the lock with the process,
however that ends, so nothing has to be tidied.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vmharness.errors import HostError
from vmharness.model.sizes import format_size

_LOOK_SECONDS = 0.2


def available() -> int:
    """The bytes that machines may take together, by default: three quarters of what the host can give now."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 * 3 // 4
    raise HostError("/proc/meminfo does not say how much memory is available")


@contextmanager
def reserved(folder: Path, wanted: int, budget: int) -> Iterator[None]:
    """Hold ``wanted`` bytes of the budget that all users of ``folder`` share, waiting until they are free.

    :raises HostError: the budget is smaller than that in any case.
    """
    if wanted > budget:
        raise HostError(
            f"a machine wants {format_size(wanted)} of memory, and the budget is {format_size(budget)}",
            hint="give the machine less memory, or raise --vmharness-memory",
        )
    folder.mkdir(parents=True, exist_ok=True)
    mine = _take(folder, wanted, budget)
    try:
        yield
    finally:
        mine.close()


def _take(folder: Path, wanted: int, budget: int) -> _Held:
    while True:
        with (folder / "turn").open("wb") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if _held(folder) + wanted <= budget:
                return _Held(folder, wanted)
        time.sleep(_LOOK_SECONDS)


class _Held:
    """A part of the budget, as a locked file."""

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / f"{size}-{os.getpid()}-{time.monotonic_ns()}"
        self._file = self._path.open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def close(self) -> None:
        """Give it back."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def _held(folder: Path) -> int:
    """The bytes in use; the files of processes that have ended are removed."""
    total = 0
    for path in folder.glob("*-*-*"):
        with suppress(FileNotFoundError), path.open("rb") as file:  # its holder may give it back just now
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                total += int(path.name.partition("-")[0])
                continue
            path.unlink(missing_ok=True)
    return total
