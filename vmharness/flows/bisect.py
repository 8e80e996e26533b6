"""Bisecting a build: the first of its steps after which a check of the user's fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen

from vmharness.errors import HostError, SpecError
from vmharness.flows.reproduce import Opened
from vmharness.flows.session import Session
from vmharness.flows.trail import notes
from vmharness.model.checkpoint import When
from vmharness.model.steps import Action

_CANNOT_TELL = 125
"""Exit status of a check that cannot tell, as with ``git bisect run``."""

_IN_GUEST = "/run/vmharness/check"


@frozen(kw_only=True)
class Found:
    """What a search came to.

    :param step: the first step after which the check fails.
    :param good: the state, in words, in which it still passed.
    :param tried: how many states were looked at.
    """

    step: Action
    good: str
    tried: int


@frozen(kw_only=True)
class _Place:
    """A state of the build: how to get there, and the step that led to it (none to the very first)."""

    words: str
    step: Action | None
    go: Callable[[], None]


@frozen(kw_only=True)
class _Looker:
    """Knows what the check says in each place that it has been to."""

    session: Session
    places: list[_Place]
    check: bytes
    seen: dict[int, bool | None] = field(factory=dict)

    def passes(self, number: int) -> bool | None:
        """Whether the check passes there; None where it cannot tell."""
        if number not in self.seen:
            place = self.places[number]
            place.go()
            self.seen[number] = self.session.passes(self.check, _IN_GUEST, cannot_tell=_CANNOT_TELL)
            words = {True: "passes", False: "fails", None: "cannot tell"}[self.seen[number]]
            self.session.run.note(f"{place.words}: the check {words}")
        return self.seen[number]


def bisect(opened: Opened, check: Path) -> Found:
    """Find the first step after which a check fails. The session is in one of the states looked at afterwards.

    States are restored from checkpoints; where there is none, the steps since the nearest earlier one are run.

    :param check: an executable of the appliance's: exit status 0 passes, 125 cannot tell (such as before the target is
        mounted), all else fails.
    :raises HostError: it cannot be read.
    :raises SpecError: it fails nowhere, or passes nowhere before that.
    :raises GuestError: a step on the way failed that the build had passed.
    """
    try:
        data = check.read_bytes()
    except OSError as error:
        raise HostError(f"cannot read the check {check}: {error.strerror}") from error
    looker = _Looker(session=opened.session, places=_places(opened), check=data)
    bad = next((number for number in reversed(range(len(looker.places))) if looker.passes(number) is not None), None)
    if bad is None or looker.passes(bad):
        raise SpecError("it does not fail at the build's end, so there is no step to find", origin=str(check))
    good = next((number for number in range(bad) if looker.passes(number)), None)
    if good is None:
        raise SpecError("it passes in no state of the build, so there is no step to find", origin=str(check))
    while bad - good > 1:
        middle = _nearest_telling(looker, good, bad)
        if middle is None:
            break
        if looker.passes(middle):
            good = middle
        else:
            bad = middle
    step = looker.places[bad].step
    assert step is not None
    return Found(step=step, good=looker.places[good].words, tried=len(looker.seen))


def _nearest_telling(looker: _Looker, good: int, bad: int) -> int | None:
    """The place nearest to the middle between two in which the check can tell; None if there is none."""
    middle = (good + bad) // 2
    between = sorted(range(good + 1, bad), key=lambda number: abs(number - middle))
    return next((number for number in between if looker.passes(number) is not None), None)


def _places(opened: Opened) -> list[_Place]:
    session, failure = opened.session, opened.record.failure
    steps = session.plan.actions
    done = len(steps) if failure is None or failure.index is None else min(failure.index, len(steps))

    def before(number: int) -> _Place:
        words = f"before '{steps[number].name}'" if number < len(steps) else "after the last step"
        return _Place(words=words, step=steps[number - 1] if number else None, go=lambda: session.rewind(number))

    places = [before(number) for number in range(done + 1)]
    failed = [note for note in notes(session.site) if note.when is When.FAILED and note.step == done]
    if failed and done < len(steps):
        words = f"after '{steps[done].name}' failed"
        places.append(_Place(words=words, step=steps[done], go=lambda: session.restore(failed[-1])))
    return places
