"""What a boot, or any wait for a guest, came to: a closed union of values, never an exception by itself."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Reached:
    """The guest came to what was waited for.

    :param milestone: its name.
    :param seconds: time since the machine's start.
    :param text: the console text that proved it.
    """

    milestone: str
    seconds: float
    text: str


@frozen(kw_only=True)
class Panicked:
    """The guest stopped with a message that means its death (kernel panic, no root, firmware assertion).

    :param pattern: name of the death pattern.
    :param line: the line that showed it.
    :param last_words: the last lines of the console.
    """

    pattern: str
    line: str
    last_words: str


@frozen(kw_only=True)
class Stalled:
    """A deadline passed while the guest still ran, or it did nothing for so long that it counts as hung.

    :param waiting_for: what was waited for.
    :param seconds: how long.
    :param last_words: the last lines of the console.
    :param after: the last milestone before, where milestones were waited for.
    :param hung: whether it did nothing; otherwise it was only slow.
    :param activity: what it did last, in words, where that was looked at.
    """

    waiting_for: str
    seconds: float
    last_words: str
    after: str = ""
    hung: bool = False
    activity: str = ""


@frozen(kw_only=True)
class Died:
    """The machine ended: QEMU exited or was killed, or the guest reset itself when that ends the machine.

    :param reason: what was seen, such as ``QEMU was killed by SIGKILL``.
    :param stderr: the end of QEMU's standard error.
    :param last_words: the last lines of the console.
    :param by_reset: whether it was the guest that reset itself.
    """

    reason: str
    stderr: str
    last_words: str
    by_reset: bool = False


@frozen(kw_only=True)
class PoweredOff:
    """The guest switched the machine off, in good order.

    :param last_words: the last lines of the console.
    """

    last_words: str


Ended = Panicked | Died | PoweredOff
"""How a machine ended by itself."""

Outcome = Reached | Stalled | Ended


def describe(outcome: Outcome) -> str:
    """One sentence about an outcome, for error messages and logs."""
    match outcome:
        case Reached(milestone=milestone, seconds=seconds):
            return f"reached {milestone} after {seconds:.1f} s"
        case Panicked(pattern=pattern, line=line):
            return f"the guest stopped: {pattern}: {line.strip()}"
        case Stalled(waiting_for=waiting_for, seconds=seconds, after=after, hung=hung, activity=activity):
            what = f"no {waiting_for} within {seconds:.0f} s" if not hung else f"the machine hangs before {waiting_for}"
            return what + (f", after {after}" if after else "") + (f": {activity}" if activity else "")
        case Died(reason=reason):
            return f"the machine is gone: {reason}"
        case PoweredOff():
            return "the guest switched the machine off"
