"""Which step of a build a person means, and where a build is to stop on purpose."""

from __future__ import annotations

from attrs import frozen

from vmharness.errors import SpecError
from vmharness.model.checkpoint import When
from vmharness.model.steps import Action
from vmharness.plan.problem import nearest


@frozen(kw_only=True)
class Stop:
    """Where to stop: before or after the step of a number, from 0 on."""

    number: int
    when: When


def stop_of(steps: tuple[Action, ...], before: str | None, after: str | None) -> Stop | None:
    """Where a person wants a run to stop, or None.

    :param before: the step before which to stop, as in :func:`numbered`.
    :param after: the step after which to stop.
    :raises SpecError: there is no such step, or both are given.
    """
    if before is not None and after is not None:
        raise SpecError("a build stops once", origin="<command line>", hint="give --break-before or --break-after")
    if before is not None:
        return Stop(number=numbered(steps, before), when=When.BEFORE)
    return None if after is None else Stop(number=numbered(steps, after), when=When.AFTER)


def numbered(steps: tuple[Action, ...], wanted: str) -> int:
    """The number, from 0 on, of the step that a person means by its name, its script's name, its number or a beginning.

    :raises SpecError: there is no such step, or several.
    """
    if wanted.isdecimal() and 1 <= int(wanted) <= len(steps):
        return int(wanted) - 1
    for matches in (
        [number for number, step in enumerate(steps) if wanted in {step.name, step.script}],
        [number for number, step in enumerate(steps) if step.name.startswith(wanted)],
    ):
        if len(matches) == 1:
            return matches[0]
    names = [step.name for step in steps]
    raise SpecError(
        f"there is no single step {wanted!r}{nearest(wanted, names)}",
        origin="<command line>",
        allowed=", ".join(f"{number} {name}" for number, name in enumerate(names, 1)),
    )
