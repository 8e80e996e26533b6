"""Which step a person means, and where a build stops on purpose."""

from __future__ import annotations

import pytest

from vmharness.errors import SpecError
from vmharness.model.checkpoint import When
from vmharness.model.steps import Step
from vmharness.plan.stopping import Stop, numbered, stop_of

STEPS = tuple(
    Step(name=name, script=script, deadline=1)
    for name, script in (
        ("mount the target", "mount-target"),
        ("install GRUB", "install-grub"),
        ("install the tools", "declared-step"),
        ("make it smaller", "declared-step"),
    )
)


@pytest.mark.parametrize(
    ("wanted", "number"),
    [("install GRUB", 1), ("install-grub", 1), ("2", 1), ("install G", 1), ("make", 3), ("4", 3)],
)
def test_meant(wanted: str, number: int) -> None:
    """A step is meant by its name, its script, its number from 1 on, or the beginning of its name."""
    assert numbered(STEPS, wanted) == number


@pytest.mark.parametrize("wanted", ["install", "declared-step", "0", "5", "", "unmount"])
def test_not_meant(wanted: str) -> None:
    """What means several steps, or none, is refused with the names that there are."""
    with pytest.raises(SpecError, match="there is no single step") as caught:
        numbered(STEPS, wanted)
    assert "2 install GRUB" in str(caught.value)


def test_what_was_probably_meant() -> None:
    """A mistyped name is answered with the nearest."""
    with pytest.raises(SpecError, match="did you mean 'install GRUB'"):
        numbered(STEPS, "instal GRUB")


def test_where_to_stop() -> None:
    """Before or after a step, but not both."""
    assert stop_of(STEPS, None, None) is None
    assert stop_of(STEPS, "make", None) == Stop(number=3, when=When.BEFORE)
    assert stop_of(STEPS, None, "1") == Stop(number=0, when=When.AFTER)
    with pytest.raises(SpecError, match="stops once"):
        stop_of(STEPS, "1", "2")
