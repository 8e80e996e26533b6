"""Steps: the named actions inside the guest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import Attribute, field, frozen

from vmharness.model.sizes import MIB

LARGEST_FILE = 64 * MIB
"""Bytes of the largest file that goes into the guest, or out of it, through the agent."""


class Action(Protocol):
    """What a run does as one of its numbered parts: a step of a build, or an entry of a dialogue."""

    @property
    def name(self) -> str:
        """What a person sees; no other action of the run has it."""

    @property
    def script(self) -> str:
        """What is run, or the kind of action."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """What it is told."""

    @property
    def foreign(self) -> bool:
        """Whether it depends on programs that are not ours, which are what fails most."""

    @property
    def deadline(self) -> float:
        """Seconds that it may take."""


def _check_name(_file: StepFile, _attribute: Attribute[Any], name: str) -> None:
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        raise ValueError(f"{name!r} cannot be a file name")


@frozen(kw_only=True)
class StepFile:
    """A file of the user's that is put into the guest before a step.

    :param name: its name in the run directory's folder of scripts.
    :param path: where it goes, an absolute path in the appliance.
    :param sha256: and ``size`` in bytes: of its content.
    """

    name: str = field(validator=_check_name)
    path: str
    sha256: str
    size: int


@frozen(kw_only=True)
class Step:
    """One action inside the guest.

    :param name: what a person sees.
    :param script: file in ``guest-scripts/steps``.
    :param parameters: what its environment file holds.
    :param foreign: whether it runs programs of the target or of the user, which are what fails most.
    :param deadline: seconds after which the guest counts as hanging; the accelerator's scale is in it already.
    :param file: what it needs in the guest besides.
    :param expect: text that a line of its output must contain; nothing if empty.
    """

    name: str
    script: str
    parameters: Mapping[str, str] = field(factory=dict)
    foreign: bool = False
    deadline: float
    file: StepFile | None = None
    expect: str = ""
