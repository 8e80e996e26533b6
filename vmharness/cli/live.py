"""What a terminal shows while a run lives. Apart from the other sinks, since only a terminal needs rich."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from vmharness.cli.progress import NAME_WIDTH, near
from vmharness.events import (
    CheckpointTaken,
    Emit,
    Event,
    MilestoneReached,
    Note,
    Published,
    StepFailed,
    StepFinished,
    StepOutput,
    StepStarted,
)
from vmharness.model.sizes import format_size
from vmharness.model.text import harmless


@define
class LiveList:
    """The list that a terminal shows: finished steps, the running one with its time, the guest's last line."""

    current: str = ""
    since: float = 0.0
    last_line: str = ""
    _lock: threading.Lock = field(factory=threading.Lock)

    def take(self, event: Event) -> Text | None:  # noqa: PLR0911 -- one return for each kind
        """Note an event; gives the line that stays, where it has one."""
        with self._lock:
            match event:
                case StepStarted(step=step):
                    self.current, self.since, self.last_line = step, time.monotonic(), ""
                case StepOutput(line=line):
                    self.last_line = harmless(line).strip() or self.last_line
                case StepFinished(step=step, seconds=seconds):
                    self.current = ""
                    return _line("✓", "green", step, seconds)
                case StepFailed(step=step, seconds=seconds):
                    self.current = ""
                    return _line("✗", "red", step, seconds)
                case MilestoneReached(milestone=milestone, seconds=seconds):
                    return _line("✓", "green", f"reached {milestone}", seconds)
                case CheckpointTaken(name=name, seconds=seconds, size=size, wanted=True):
                    return Text(f"  checkpoint {name}: {seconds:.2f} s, {format_size(size)}", style="dim")
                case Note(text=text):
                    return Text(f"  {text}", style="dim")
                case Published(directory=directory, files=files):
                    return Text.assemble(("→ ", "green"), f"{near(directory)}: ", (", ".join(files), "bold"))
                case _:
                    pass
        return None

    def __rich__(self) -> Group:
        """The running step and the guest's last line; drawn anew several times a second."""
        with self._lock:
            if not self.current:
                return Group()
            running = _line(">", "cyan", self.current, time.monotonic() - self.since)
            return Group(running, Text(f"  {self.last_line}", style="dim", no_wrap=True, overflow="ellipsis"))


def _line(mark: str, colour: str, name: str, seconds: float) -> Text:
    return Text.assemble((mark, colour), f" {name:<{NAME_WIDTH}}", (f"{seconds:6.1f} s", "dim"))


@contextmanager
def live_list() -> Iterator[Emit]:
    """A sink that keeps the list on standard error."""
    console = Console(stderr=True, highlight=False)
    shown = LiveList()
    with Live(shown, console=console, refresh_per_second=8, transient=True) as live:

        def emit(event: Event) -> None:
            line = shown.take(event)
            if line is not None:
                live.console.print(line)

        yield emit
