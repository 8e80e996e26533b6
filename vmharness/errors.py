"""Every error that vmharness raises, in one tree.

::

    VmharnessError            base: what we did, expected, saw; evidence; hint
    |- SpecError              the user's definition is wrong                 exit 2
    |- HostError              the host lacks something                       exit 3
    |- QemuError              QEMU itself                                    exit 4
    |  |- LaunchFailed        it did not start
    |  |- QemuDied            it went away by itself
    |  '- QmpRefused          it answered a command with an error
    |- GuestError             the guest                                      exit 5
    |  |- CommandFailed       a script ended with a non-zero status
    |  |- Unreachable         the guest does not answer (hang, panic, reset)
    |  '- NotProven           a script ended well but did not show its token
    |- VerificationFailed     the finished disk is not what the plan says    exit 1
    |- BuildFailed            a build ended without an image                 exit 1
    |- BuildStopped           a build stopped where it was to              exit 1
    |- BootFailed             a boot was not what a test demands             exit 1
    '- ApiMisuse              the caller's bug                               exit 70

Fields are attributes and the text is made in ``__str__``; the classes pickle because their fields are positional
(process pools and pytest-xdist move exceptions between processes).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from attrs import define

from vmharness.model.outcome import Outcome


@define(eq=False)
class VmharnessError(Exception):
    """Base of the tree: one sentence about what went wrong, with its evidence and what to do about it.

    :param what: the sentence, without a final full stop.
    :param evidence: file that holds the details (a transcript, a log), if there is one.
    :param hint: what a tired person can do next.
    """

    what: str
    evidence: Path | None = None
    hint: str | None = None

    exit_code: ClassVar[int] = 1

    def sentence(self) -> str:
        """The one sentence; subclasses add their own fields to it."""
        return self.what

    def __str__(self) -> str:
        lines = [self.sentence()]
        if self.evidence is not None:
            lines.append(f"  evidence: {self.evidence}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


@define(eq=False)
class SpecError(VmharnessError):
    """The user's image definition (or an argument) cannot be built.

    :param origin: the file, or ``<command line>``.
    :param key: dotted key path in the file, such as ``root.source.tar``.
    :param allowed: what would be accepted, as text.
    """

    origin: str = ""
    key: str = ""
    allowed: str = ""

    exit_code: ClassVar[int] = 2

    def sentence(self) -> str:
        """The one sentence, with this class's own fields."""
        place = ": ".join(part for part in (self.origin, self.key) if part)
        text = f"{place}: {self.what}" if place else self.what
        return f"{text} (allowed: {self.allowed})" if self.allowed else text


@define(eq=False)
class HostError(VmharnessError):
    """The host cannot do it: a missing tool, no firmware, no space, a failing program."""

    exit_code: ClassVar[int] = 3


@define(eq=False)
class QemuError(VmharnessError):
    """QEMU itself is at fault.

    :param stderr: the last lines that QEMU wrote to its standard error.
    """

    stderr: str = ""

    exit_code: ClassVar[int] = 4

    def sentence(self) -> str:
        """The one sentence, with this class's own fields."""
        tail = "\n    ".join(self.stderr.strip().splitlines()[-8:])
        return f"{self.what}\n  QEMU said:\n    {tail}" if tail else self.what


@define(eq=False)
class LaunchFailed(QemuError):
    """QEMU ended before its monitor was up."""


@define(eq=False)
class QemuDied(QemuError):
    """QEMU ended by itself or was killed while it was needed."""


@define(eq=False)
class QmpRefused(QemuError):
    """QEMU answered a monitor command with an error."""


@define(eq=False)
class GuestError(VmharnessError):
    """The guest is at fault.

    :param last_words: the last lines that the guest printed.
    """

    last_words: str = ""

    exit_code: ClassVar[int] = 5

    def sentence(self) -> str:
        """The one sentence, with this class's own fields."""
        tail = "\n    ".join(self.last_words.strip().splitlines()[-12:])
        return f"{self.what}\n  the guest's last lines:\n    {tail}" if tail else self.what


@define(eq=False)
class CommandFailed(GuestError):
    """A script in the guest ended with a non-zero exit status.

    :param status: its exit status.
    """

    status: int = 1


@define(eq=False)
class Unreachable(GuestError):
    """The guest does not answer: it hangs, panicked, or its machine is gone.

    :param outcome: what the machine came to.
    """

    outcome: Outcome | None = None


@define(eq=False)
class NotProven(GuestError):
    """A script ended with status 0 without showing the token that only its last line shows."""


@define(eq=False)
class VerificationFailed(VmharnessError):
    """The finished disk or variable store is not what the plan says; nothing is published.

    :param findings: each difference, one sentence each.
    """

    findings: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The one sentence, with this class's own fields."""
        return "\n    ".join([self.what, *self.findings])


@define(eq=False)
class BuildFailed(VmharnessError):
    """A build ended without an image.

    :param step: name of the step that failed.
    :param cause: text of the error that ended it.
    :param run_directory: everything known about the run.
    :param status: exit status of the step's script, where that is what went wrong.
    :param kernel_line: the first line of the guest's console that looks like trouble, or None.
    :param enter: the command that enters the failed build, or nothing where it cannot be entered.
    """

    step: str = ""
    cause: str = ""
    run_directory: Path | None = None
    status: int | None = None
    kernel_line: str | None = None
    enter: str = ""

    def sentence(self) -> str:
        """The one sentence, with this class's own fields."""
        lines = [f"{self.what}: step '{self.step}'" if self.step else self.what]
        lines += [f"  {line}" for line in self.cause.splitlines()]
        if self.status is not None:
            lines.append(f"  exit status: {self.status}")
        if self.kernel_line:
            lines.append(f"  the guest's kernel said: {self.kernel_line}")
        if self.run_directory is not None:
            lines.append(f"  run directory: {self.run_directory}")
        if self.enter:
            lines.append(f"  to enter it: {self.enter}")
        return "\n".join(lines)


@define(eq=False)
class BuildStopped(VmharnessError):
    """A build stopped where it was to stop, so that somebody can look at it.

    :param run_directory: holds the machine's state.
    :param enter: the command that enters it.
    """

    run_directory: Path | None = None
    enter: str = ""

    def sentence(self) -> str:
        """The one sentence, with this class's own fields."""
        return f"{self.what}\n  to enter it: {self.enter}" if self.enter else self.what


@define(eq=False)
class BootFailed(VmharnessError, AssertionError):
    """A boot, or what it left, is not what a test demands; to test runners it is a failed assertion.

    :param outcome: what the machine came to, where that is what is wrong.
    :param last_words: the last lines that the guest printed.
    """

    outcome: Outcome | None = None
    last_words: str = ""

    def sentence(self) -> str:
        """The one sentence, with this class's own fields."""
        tail = "\n    ".join(self.last_words.strip().splitlines()[-12:])
        return f"{self.what}\n  the guest's last lines:\n    {tail}" if tail else self.what


@define(eq=False)
class ApiMisuse(VmharnessError):
    """The caller's bug: a call in the wrong state. The text names the state and the legal next calls."""

    exit_code: ClassVar[int] = 70
