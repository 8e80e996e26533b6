"""Where the fake QEMU is, and what a test has left behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

from vmharness.vm.machine import Machine

FAKE_QEMU = Path(__file__).resolve().parent.parent / "fakes" / "qemu"

NewMachine = Callable[..., Machine]


def descriptors() -> dict[str, str]:
    """This process' open descriptors and what they lead to."""
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            found[descriptor.name] = str(descriptor.readlink())
    return found


def children() -> set[str]:
    """The processes that this one has and has not reaped."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile
            found.update((task / "children").read_text().split())
    return found


def leftovers(before: tuple[dict[str, str], set[str], set[str]]) -> list[str]:
    """What is there now and was not before: descriptors, threads, processes."""
    open_before, threads_before, children_before = before
    new = [f"descriptor {number} -> {target}" for number, target in descriptors().items() if number not in open_before]
    new += [f"thread {thread.name}" for thread in threading.enumerate() if thread.name not in threads_before]
    return new + [f"process {pid}" for pid in children() - children_before]


def snapshot() -> tuple[dict[str, str], set[str], set[str]]:
    """Descriptors, threads and processes as they are."""
    return descriptors(), {thread.name for thread in threading.enumerate()}, children()
