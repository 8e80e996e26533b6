"""Firmware as values: a code image with the template of its variable store."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen(kw_only=True)
class Firmware:
    """A UEFI firmware for a machine.

    :param code: the code image, read-only flash.
    :param template: the variable store that a new machine starts from.
    :param features: the descriptor's features, such as ``requires-smm`` or ``secure-boot``.
    :param descriptor: the descriptor file it came from, or None when given by path.
    :param description: the descriptor's own words.
    """

    code: Path
    template: Path
    features: tuple[str, ...] = ()
    descriptor: Path | None = None
    description: str = ""

    @property
    def needs_smm(self) -> bool:
        """Whether the machine needs ``q35,smm=on`` and secure flash."""
        return "requires-smm" in self.features


@frozen(kw_only=True)
class FirmwareVerdict:
    """Why one descriptor was taken (``refusal`` is empty) or not."""

    descriptor: Path
    description: str
    refusal: str
    firmware: Firmware | None
