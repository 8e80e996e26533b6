"""Steps: the named actions inside the guest."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen(kw_only=True)
class Step:
    """One action inside the guest.

    :param name: what a person sees.
    :param script: file in ``guest-scripts/steps``.
    :param parameters: what its environment file holds.
    :param deadline: seconds after which the guest counts as hanging; the accelerator's scale is in it already.
    """

    name: str
    script: str
    parameters: Mapping[str, str] = field(factory=dict)
    deadline: float
