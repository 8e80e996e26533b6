"""Driven installs: a machine with an empty disk and an installer, and the dialogue that walks through it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from attrs import frozen

WITHIN_SECONDS = 120.0
"""How long an entry may take on a machine with hardware acceleration, unless it says otherwise."""


class Sight(Enum):
    """Where an entry of a dialogue looks for what it expects.

    ``CONSOLE``: in the text that the serial console prints. ``SCREEN``: on the serial console's screen, as a terminal
    shows it. ``DISPLAY``: on the graphical screen. ``END``: it waits for the machine's end. ``NOTHING``: it does not
    wait at all.
    """

    CONSOLE = "expect"
    SCREEN = "screen"
    DISPLAY = "display"
    END = "end"
    NOTHING = ""


class End(Enum):
    """How an installer ends its machine."""

    POWER_OFF = "power-off"
    RESET = "reset"
    EITHER = "power-off or reset"


class Network(Enum):
    """What an installer can reach: nothing, or what this process reaches."""

    NONE = "none"
    USER = "user"


@frozen(kw_only=True)
class Entry:
    """One entry of a dialogue: what is expected, and what is done when it is there. It is a step of the run.

    :param name: what a person sees; no other entry has it.
    :param sight: where is looked.
    :param expected: regular expression, or the value of an :class:`End`; nothing where nothing is expected.
    :param send: what is typed on the serial console.
    :param keys: names of the keys that are pressed, one after the other: on the emulated keyboard where the entry looks
        at the graphical screen, otherwise on the serial console.
    :param deadline: seconds that it may take; in a plan the accelerator's scale is in it already.
    :param stop: whether the run stops on purpose when what is expected is there, before anything is done.
    """

    name: str
    sight: Sight = Sight.NOTHING
    expected: str = ""
    send: str = ""
    keys: tuple[str, ...] = ()
    deadline: float = WITHIN_SECONDS
    stop: bool = False

    @property
    def script(self) -> str:
        """What kind of step it is, in the place where other steps have a script."""
        return self.sight.value or ("keys" if self.keys else "send")

    @property
    def foreign(self) -> bool:
        """Whether it depends on programs that are not ours: an installer's."""
        return True

    @property
    def parameters(self) -> Mapping[str, str]:
        """It has no variables."""
        return {}


ENDED = Entry(
    name="the installer ends the machine", sight=Sight.END, expected=End.EITHER.value, deadline=5 * WITHIN_SECONDS
)
"""What a dialogue ends with that does not say how it ends."""


@frozen(kw_only=True)
class InstallSpec:
    """A driven install.

    :param iso: what the machine boots from, as a CD-ROM; otherwise ``kernel``.
    :param kernel: a Linux kernel that QEMU loads itself, with ``initrd`` and ``kernel_parameters``.
    :param display: whether the machine has a graphics card, of which pictures are taken and read.
    :param bios: whether the machine has a BIOS instead of UEFI.
    :param script: Python file with the dialogue, or None where the definition has it itself.
    :param dialogue: the definition's entries.
    """

    iso: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    kernel_parameters: tuple[str, ...] = ()
    display: bool = False
    network: Network = Network.NONE
    bios: bool = False
    script: Path | None = None
    dialogue: tuple[Entry, ...] = ()

    @property
    def files(self) -> tuple[tuple[str, Path], ...]:
        """The files of the host that it is made from, each behind its key."""
        named = (("iso", self.iso), ("kernel", self.kernel), ("initrd", self.initrd), ("dialogue", self.script))
        return tuple((key, path) for key, path in named if path is not None)
