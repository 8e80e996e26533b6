"""What a person in front of a machine does: look at its screen, press keys, choose in menus, log in, run commands."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path

from attrs import define

from vmharness.errors import BootFailed, GuestError
from vmharness.model.outcome import Outcome, describe
from vmharness.model.results import CommandResult
from vmharness.testing.progress import Progress
from vmharness.vm import machine as qemu
from vmharness.vm.inside import Inside
from vmharness.vm.keyboard import PATIENCE_SECONDS, Keyboard, emulated_keyboard, serial_keyboard
from vmharness.vm.login import login as log_in
from vmharness.vm.menu import Menu
from vmharness.vm.ocr import wait_for_picture
from vmharness.vm.screen import Screen
from vmharness.vm.shell import Shell
from vmharness.vm.ssh import Ssh
from vmharness.vm.sshkeys import KnownHost, SshKey

BOOT_SECONDS = 90.0
"""How long a boot may take to a milestone, before the accelerator's time scale."""
_PROMPT = re.compile(r"login: ?\s*\Z")


@define
class Power:
    """What lives from one switching on to the next switching off.

    :param inside: the way into the booted system that commands take, once there is one.
    :param resumed: whether it goes on from a saved machine, and nobody has logged in since.
    :param pictures: how many screenshots were taken.
    """

    machine: qemu.Machine
    progress: Progress
    screen: Screen
    resources: ExitStack
    inside: Inside | None = None
    resumed: bool = False
    pictures: int = 0


class Operator(ABC):
    """The operator's part of a machine under test; legal while it is on.

    :param time_scale: factor on every limit in seconds.
    :param known_host: the system's SSH key, from the first connection on.
    """

    time_scale: float
    known_host: KnownHost

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The machine's run directory."""

    @property
    @abstractmethod
    def _on(self) -> Power:
        """The present power-on."""

    @abstractmethod
    def failed(self, what: str, outcome: Outcome | None) -> BootFailed:
        """The error for a demand that was not met, with the evidence."""

    def printed(self, during: str | None = None) -> str:
        """The console's text of the present boot as harmless text; of one stage of it, where a milestone is named.

        :param during: a milestone's name; its stage goes on until the next milestone is reached.
        """
        return self._on.progress.text(during)

    # Screen and keys.

    @property
    def screen(self) -> Screen:
        """The text screen of the console, as its model."""
        return self._on.screen

    @property
    def keyboard(self) -> Keyboard:
        """The keyboard of the console: what is typed goes over the serial line."""
        return serial_keyboard(self._on.machine.log.send, self._on.screen, patience=self._patience)

    @property
    def emulated_keyboard(self) -> Keyboard:
        """The machine's own keyboard."""
        return emulated_keyboard(self._on.machine.send_keys, self._on.screen, patience=self._patience)

    @property
    def _patience(self) -> float:
        """How long a key's effect may take, in seconds."""
        return PATIENCE_SECONDS * self.time_scale

    @property
    def menu(self) -> Menu:
        """The boot menu on the console."""
        return Menu(self.screen, self.keyboard)

    def screenshot(self, path: Path | None = None) -> Path:
        """Write a picture of the display as PNG; gives its path, in the run directory by default."""
        power = self._on
        power.pictures += 1
        target = path or self.folder / f"screen-{power.pictures}.png"
        power.machine.screenshot(target)
        return target

    def wait_for_screen(self, pattern: str, *, within: float = 60.0) -> re.Match[str]:
        """Wait until the display shows a text, read by tesseract.

        :param pattern: a regular expression without regard to upper and lower case.
        :param within: seconds, before the time scale.
        :raises HostError: tesseract is not installed.
        :raises BootFailed: it does not show it.
        """
        power = self._on
        came = wait_for_picture(
            lambda: self.screenshot(self.folder / "screen.png"),
            pattern,
            within=within * self.time_scale,
            ending=lambda: power.machine.ending,
        )
        if not isinstance(came, re.Match):
            raise self.failed(f"the display does not show {pattern!r}: {describe(came)}", came)
        return came

    # Inside.

    def login(self, user: str = "root", password: str | None = None, *, within: float = BOOT_SECONDS) -> Inside:
        """Log in on the console; :meth:`run`, :meth:`put` and :meth:`get` go this way from then on.

        :param within: seconds, before the time scale; the rest of the boot included.
        :raises Unreachable: the guest refuses it, or does not answer.
        """
        power = self._on
        if power.resumed and _PROMPT.search(power.screen.text()):
            power.machine.log.send(b"\r")  # the prompt was printed before it was saved; now it is printed again
        power.resumed = False
        power.inside = log_in(power.machine.log, user, password, within=within * self.time_scale)
        return power.inside

    def log_out(self) -> None:
        """End the session on the console, where there is one: who types there next finds a login prompt."""
        power = self._on
        if isinstance(power.inside, Shell):
            with suppress(GuestError):
                power.inside.logout()
            power.inside = None

    def ssh(self, key: SshKey, user: str = "root", *, within: float = BOOT_SECONDS) -> Inside:
        """Connect through SSH; :meth:`run`, :meth:`put` and :meth:`get` go this way from then on.

        :param key: whose public part the guest knows.
        :param within: seconds, before the time scale; the rest of the boot included.
        :raises Unreachable: the guest refuses it, or does not answer.
        """
        power = self._on
        connected = Ssh.connect(
            power.machine.ssh_port(),
            key,
            user=user,
            within=within * self.time_scale,
            machine=power.machine,
            host=self.known_host,
        )
        power.inside = power.resources.enter_context(connected)
        return power.inside

    def run(self, command: str, *, within: float = 30.0, check: bool = True) -> CommandResult:
        """Run a command inside, as root on the console unless another way was opened.

        :param within: seconds, before the time scale.
        :raises CommandFailed: it ended with another status than 0.
        """
        return self._inside.run(command, within=within * self.time_scale, check=check)

    def put(self, source: bytes | Path, target: str, *, mode: int | None = None) -> None:
        """Write a file inside."""
        self._inside.put(source, target, mode=mode)

    def get(self, path: str) -> bytes:
        """Read a file inside."""
        return self._inside.get(path)

    @property
    def _inside(self) -> Inside:
        return self._on.inside or self.login()
