"""What is learned of a QEMU while it runs: from its monitor's events, and from the end of its process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from vmharness.model.outcome import Died, Panicked, PoweredOff
from vmharness.vm.console import Console
from vmharness.vm.ending import Ending
from vmharness.vm.process import QemuProcess, pidfd
from vmharness.vm.qmp import Monitor
from vmharness.vm.resets import Resets
from vmharness.vm.snapshots import Migration

SETTLE_SECONDS = 0.5
_DRAIN_SECONDS = 0.25


@frozen(kw_only=True)
class Records:
    """Where it is noted, for those who wait: how the machine ended, how its state's transfer goes, its resets."""

    ending: Ending = field(factory=Ending)
    migration: Migration = field(factory=Migration)
    resets: Resets = field(factory=Resets)

    def __attrs_post_init__(self) -> None:
        self.ending.subscribe(self.migration.end)
        self.ending.subscribe(self.resets.end)


class Watcher:
    """Turns what happens to one QEMU into records; all of it runs in the monitor's thread.

    :param process: the QEMU.
    :param log: its log console, which may know better why it ended.
    :param records: where to note.
    :param qmp_log: file that gets what is said over the monitor.
    """

    def __init__(self, process: QemuProcess, log: Console, records: Records, qmp_log: Path) -> None:
        self.monitor = Monitor(on_event=self._on_event, on_lost=self._on_lost, log=qmp_log)
        self._process = process
        self._log = log
        self._records = records
        self._shutdown: Mapping[str, Any] | None = None

    def watch_process(self) -> None:
        """Watch the process from here on."""
        self.monitor.watch(pidfd(self._process), self._on_exit)

    def _on_event(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "MIGRATION":
            self._records.migration.pass_on(str(data["status"]))
        elif name == "RESET":
            self._records.resets.record(by_guest=bool(data.get("guest")))
        elif name == "SHUTDOWN":
            self._shutdown = data
            # QEMU ends right after this, and with it the console, which may still hold a better reason.
            self.monitor.later(SETTLE_SECONDS, self._report_end)
        elif name == "GUEST_PANICKED":
            # The panic's text is still on its way over the serial line; where its pattern is seen, that report wins.
            self.monitor.later(SETTLE_SECONDS, self._report_panic)
        elif name == "BLOCK_IO_ERROR" and data.get("action") == "stop":
            # QEMU has paused the guest until somebody makes room: nobody would.
            self._report_stuck(f"the host cannot {data['operation']} its disk '{data['node-name']}': {data['reason']}")

    def _on_lost(self) -> None:
        # As a rule it closes its monitor because it ends, which the watched process tells better.
        self.monitor.later(SETTLE_SECONDS, self._report_end)

    def _on_exit(self) -> None:
        self._log.drained.wait(_DRAIN_SECONDS)  # the guest's last lines say more than the bare end
        self._report_end()

    def _report_panic(self) -> None:
        line = "the guest's kernel reported a panic"
        self._records.ending.report(Panicked(pattern="kernel panic", line=line, last_words=self._log.last_words))

    def _report_stuck(self, reason: str) -> None:
        self._records.ending.report(Died(reason=reason, stderr="", last_words=self._log.last_words))

    def _report_end(self) -> None:
        words = self._log.last_words
        why = None if self._shutdown is None else self._shutdown.get("reason")
        if why == "guest-shutdown":
            self._records.ending.report(PoweredOff(last_words=words))
            return
        reason = self._shutdown_reason() or self._process.exit_reason(0) or "QEMU closed its monitor but still runs"
        self._records.ending.report(
            Died(reason=reason, stderr=self._process.stderr, last_words=words, by_reset=why == "guest-reset")
        )

    def _shutdown_reason(self) -> str | None:
        if self._shutdown is None:
            return None
        who = "the guest ended the machine" if self._shutdown.get("guest") else "QEMU was ended from outside"
        return f"{who} ({self._shutdown.get('reason', 'no reason given')})"
