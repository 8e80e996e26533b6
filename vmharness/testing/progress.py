"""One boot's way through its milestones, and what it came to when it did not arrive.

A wait ends with the first of: the text that shows the milestone, a text that only a guest prints whose boot is over,
the machine's end, silence (nothing printed and no disk touched: *hung*), or the deadline (*slow*).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from attrs import frozen

from vmharness.errors import SpecError
from vmharness.model.milestones import MILESTONES, Milestone, by_name
from vmharness.model.outcome import Died, Outcome, Reached, Stalled
from vmharness.model.text import Cleaner
from vmharness.vm.console import Console, Seen
from vmharness.vm.resets import Resets

POWER_ON = "power on"
"""The stage before the first milestone."""

_LOOK_SECONDS = 1.0
# What is printed before a reset that was announced is of no interest: nothing matches this.
_RESET = Milestone(name="the announced reset", pattern=re.compile(r"(?!)"))


@frozen(kw_only=True)
class Activity:
    """What a machine has done since its start: bytes printed, and bytes moved to and from its disks."""

    printed: int
    moved: int


class Progress:
    """The milestones of one boot, from the machine's start or reset.

    :param console: the log console.
    :param activity: asks the machine; it may take some milliseconds.
    :param resets: those of the machine; each begins the milestones anew.
    :param begins_at: the transcript's size before the machine was started.
    :param on_milestone: called with each milestone's name and its seconds.
    """

    def __init__(
        self,
        console: Console,
        activity: Callable[[], Activity],
        resets: Resets,
        begins_at: int,
        on_milestone: Callable[[str, float], None] = lambda _name, _seconds: None,
    ) -> None:
        self.reached: dict[str, float] = {}
        self.resets_announced = 0
        self._console = console
        self._resets = resets
        self._activity = activity
        self._on_milestone = on_milestone
        self._passed: list[Milestone] = []
        self._begins_at = begins_at
        self._started = time.monotonic()
        resets.subscribe(lambda _by_guest: self._begin())

    @property
    def seconds(self) -> float:
        """How long ago the boot began."""
        return time.monotonic() - self._started

    @property
    def stage(self) -> str:
        """The last milestone that was reached, or ``power on``."""
        return next(reversed(self.reached), POWER_ON)

    def text(self, during: str | None = None) -> str:
        """What was printed in this boot, as harmless text; in one stage of it, where a milestone is named.

        :raises SpecError: the boot has not come to that milestone.
        """
        with self._console.transcript.open("rb") as file:
            file.seek(self._begins_at)
            text = Cleaner().feed(file.read(), final=True)
        if during is None:
            return text
        places = self._places(text)
        if during not in places:
            raise SpecError(f"the boot has not come to {during!r}", allowed=", ".join(places))
        begin = places[during]
        return text[begin : min((place for place in places.values() if place > begin), default=None)]

    def _places(self, text: str) -> dict[str, int]:
        """Where each stage begins in the boot's text; milestones that were passed silently begin with the next one."""
        places, at = {POWER_ON: 0}, 0
        silent: list[str] = []
        for milestone in self._passed:
            found = milestone.pattern.search(text, at)
            if found is None:
                silent.append(milestone.name)
                continue
            at = found.start()
            places |= dict.fromkeys([*silent, milestone.name], at)
            silent = []
        return places

    def reach(self, target: Milestone, *, within: float, idle: float) -> Outcome:
        """Wait for ``target``, noting each milestone on the way; one that shows implies those before it.

        :param within: seconds from now.
        :param idle: seconds of silence after which the machine counts as hung.
        """
        silence = _Silence(self._activity, idle)
        deadline = time.monotonic() + within
        text = ""
        while True:
            if self._resets.by_guest > self.resets_announced:
                return self._unannounced()
            awaited = self._resets.by_guest < self.resets_announced
            if target.name in self.reached and not awaited:
                return Reached(milestone=target.name, seconds=self.reached[target.name], text=text)
            # The target comes first: of two that match at the same place it is the one that counts.
            ahead = [item for item in MILESTONES if item.name not in self.reached and item is not target]
            names = [_RESET] if awaited else [target, *ahead]
            left = max(deadline - time.monotonic(), 0.0)
            seen = self._console.expect(
                [item.pattern for item in names], within=min(left, _LOOK_SECONDS), waiting_for=names[0].name
            )
            if isinstance(seen, Seen):
                text = seen.text
                self._pass(names[seen.index])
            elif not isinstance(seen, Stalled):
                return seen
            else:
                hung = silence.too_long()
                if hung or time.monotonic() >= deadline:
                    waited = within - max(deadline - time.monotonic(), 0.0)
                    return self._stalled(names[0], waited, silence, hung=hung)

    def _begin(self) -> None:
        """The machine starts, or starts anew: what it printed before is of an earlier boot."""
        self._console.forget()
        self.reached.clear()
        self._passed.clear()
        self._begins_at = self._console.transcript.stat().st_size
        self._started = time.monotonic()

    def _unannounced(self) -> Died:
        count = self._resets.by_guest - self.resets_announced
        times = "reset itself" if count == 1 else f"reset itself {count} times"
        reason = f"the guest {times}, which nobody announced (expect_resets)"
        return Died(reason=reason, stderr="", last_words=self._console.last_words)

    def _pass(self, passed: Milestone) -> None:
        seconds = self.seconds
        for milestone in MILESTONES[: MILESTONES.index(passed) + 1] if passed in MILESTONES else (passed,):
            if milestone.name not in self.reached:
                self.reached[milestone.name] = round(seconds, 2)
                self._passed.append(milestone)
                self._on_milestone(milestone.name, seconds)

    def _stalled(self, target: Milestone, waited: float, silence: _Silence, *, hung: bool) -> Stalled:
        return Stalled(
            waiting_for=target.name,
            seconds=waited,
            last_words=self._console.last_words,
            after=self.stage,
            hung=hung,
            activity=silence.describe(),
        )


class _Silence:
    """How long a machine has done nothing that shows."""

    def __init__(self, activity: Callable[[], Activity], limit: float) -> None:
        self._ask = activity
        self._limit = limit
        self._known = activity()
        self._since = time.monotonic()

    def too_long(self) -> bool:
        """Whether nothing has happened for the limit's time."""
        now = self._ask()
        if now != self._known:
            self._known, self._since = now, time.monotonic()
        return time.monotonic() - self._since >= self._limit

    def describe(self) -> str:
        """The silence in words."""
        seconds = time.monotonic() - self._since
        if seconds < 2 * _LOOK_SECONDS:
            return "it still printed or used its disks"
        return f"it printed nothing and used no disk for {seconds:.0f} s"


def goal(until: str) -> Milestone:
    """The milestone of that name, or one made of a regular expression.

    :raises SpecError: it is neither.
    """
    known = by_name(until)
    if known is not None:
        return known
    try:
        return Milestone(name=until, pattern=re.compile(until))
    except re.error as error:
        names = ", ".join(milestone.name for milestone in MILESTONES)
        raise SpecError(
            f"{until!r} is no regular expression: {error}",
            origin="<command line>",
            key="--until",
            allowed=f"{names}, or a regular expression",
        ) from error
