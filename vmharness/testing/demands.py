"""What a test demands of a boot: how far it must come, that it must not, how often it may start anew."""

from __future__ import annotations

from vmharness.errors import Unreachable
from vmharness.model import refusals
from vmharness.model.outcome import Outcome, Panicked, Reached, describe
from vmharness.testing.operator import BOOT_SECONDS, Operator
from vmharness.testing.progress import goal

IDLE_SECONDS = 20.0
"""How long a machine may do nothing that shows before it counts as hung, before the accelerator's time scale."""


class Demands(Operator):
    """The waiting part of a machine under test; legal while it is on."""

    def expect_resets(self, count: int) -> None:
        """Announce so many resets by the guest: the next wait is for what comes after them.

        One that nobody announced is a failure.
        """
        self._on.progress.resets_announced += count

    def reach(self, milestone: str, *, within: float | None = None, idle: float = IDLE_SECONDS) -> Outcome:
        """Wait until the boot has come to a milestone; what it came to is a value, never an exception.

        :param milestone: ``firmware``, ``loader``, ``kernel``, ``initramfs``, ``init``, ``login``, ``ready`` (root logs
            in on the console, and a command comes back), or a regular expression.
        :param within: seconds, before the time scale; None takes :data:`BOOT_SECONDS`.
        :param idle: seconds without output and disk accesses after which it hangs, before the time scale.
        """
        limit = (within or BOOT_SECONDS) * self.time_scale
        wanted = "login" if milestone == "ready" else milestone
        outcome = self._on.progress.reach(goal(wanted), within=limit, idle=idle * self.time_scale)
        if not isinstance(outcome, Reached) or milestone != "ready":
            return outcome
        try:
            self.run(":", within=BOOT_SECONDS)
        except Unreachable as error:
            if error.outcome is None:
                raise
            return error.outcome
        return Reached(milestone=milestone, seconds=self._on.progress.seconds, text="")

    def expect_boot(self, milestone: str = "login", *, within: float | None = None) -> Reached:
        """Wait until the boot has come to a milestone, as :meth:`reach` has them.

        :raises BootFailed: it came to something else.
        """
        outcome = self.reach(milestone, within=within)
        if not isinstance(outcome, Reached):
            raise self.failed(f"the machine did not boot to {milestone}: {describe(outcome)}", outcome)
        return outcome

    def expect_no_boot(self, reason: str | None = None, *, within: float | None = None) -> None:
        """The machine must not boot: there is positive evidence that it does not, and no kernel starts.

        :param reason: which evidence: a name of :data:`~vmharness.model.refusals.REFUSALS` or a regular expression
            that the console must have shown; None takes any that ends a boot.
        :param within: seconds, before the time scale.
        :raises BootFailed: a kernel started, or nothing shows that none will, or it is something else.
        """
        outcome = self.reach("kernel", within=within)
        if isinstance(outcome, Reached):
            raise self.failed("the machine booted, and it must not", outcome)
        if not isinstance(outcome, Panicked):
            raise self.failed(f"nothing shows that the machine refused to boot: {describe(outcome)}", outcome)
        if reason is not None and refusals.find(reason, self.printed()) is None:
            raise self.failed(f"the machine did not boot, but not for '{reason}': {describe(outcome)}", outcome)
