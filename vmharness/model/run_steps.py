"""Steps of the user's own, which a definition declares."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from attrs import field, frozen


class Inside(Enum):
    """Where a declared step runs: inside the target, or in the appliance, which has the target at ``/target``."""

    TARGET = "target"
    APPLIANCE = "appliance"


class When(Enum):
    """When a declared step runs."""

    BEFORE_BOOTLOADER = "before-bootloader"
    AFTER_BOOTLOADER = "after-bootloader"


@frozen(kw_only=True)
class RunSpec:
    """A declared step. It has either a script or a command.

    :param name: what a person sees.
    :param script: file of the host, with the line ``#!`` that names its interpreter, or an ELF program.
    :param command: argument list.
    :param deadline: seconds that it may take on a machine with hardware acceleration.
    :param expect: text that a line of its output must contain; nothing if empty.
    :param parameters: variables of its environment.
    """

    name: str
    script: Path | None = None
    command: tuple[str, ...] | None = None
    inside: Inside = Inside.TARGET
    when: When = When.AFTER_BOOTLOADER
    deadline: float = 120.0
    expect: str = ""
    parameters: Mapping[str, str] = field(factory=dict)
