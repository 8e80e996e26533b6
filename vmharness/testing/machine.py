"""A computer under test: it is switched on and off, any number of times, and keeps its disks, variables and TPM."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import evolve, frozen

from vmharness.disk import efivars
from vmharness.errors import ApiMisuse, BootFailed, QemuError, SpecError, VmharnessError
from vmharness.host import accelerator, rundir
from vmharness.host.rundir import RunDirectory
from vmharness.model import attempts
from vmharness.model.attempts import BootAttempt
from vmharness.model.hardware import AcceleratorVerdict, MachineSpec, UserNetwork
from vmharness.model.outcome import Outcome, PoweredOff, describe
from vmharness.model.variables import VariableStore
from vmharness.testing.demands import Demands
from vmharness.testing.hardware import Hardware
from vmharness.testing.operator import Power
from vmharness.testing.progress import Activity, Progress
from vmharness.testing.state import BootState, fork
from vmharness.vm import checkpoints
from vmharness.vm import machine as qemu
from vmharness.vm.checkpoints import Checkpoint
from vmharness.vm.console import Console
from vmharness.vm.lines import DEATHS, DeathPattern
from vmharness.vm.screen import Screen
from vmharness.vm.sshkeys import KnownHost
from vmharness.vm.states import State

_USUAL = Hardware()


@frozen(kw_only=True)
class Saved:
    """A machine under test at one moment, from which any number of machines go on.

    Its files lie in the run directory of the machine that was saved, and live as long as that.

    :param checkpoint: the QEMU's.
    :param hardware: what the machine had.
    :param transcript: what its console had printed.
    """

    checkpoint: Checkpoint
    hardware: Hardware
    transcript: Path

    @property
    def state(self) -> BootState:
        """The disks, variables and TPM at that moment."""
        spec = self.checkpoint.spec
        return BootState(disks=spec.disks, firmware=spec.firmware, variables=spec.variables, tpm=spec.tpm)


class Machine(Demands):
    """A computer under test; use it as a context manager.

    It begins as a fork of ``state``: nothing that it does changes the files of the state. Each :meth:`start` is one
    power-on, a QEMU process of its own; what the guest wrote to disks, variables and TPM is there at the next one.
    Leaving the context ends it and removes its run directory, unless :attr:`keep` was set.

    :param state: what it boots from; or a saved machine, where its first start goes on, with the same hardware.
    :param hardware: what it has besides.
    :param persist: write to the state's own files instead of a fork.
    :param directory: a run directory that the caller keeps and removes; None makes one of its own.
    :param name: for that run directory.
    :param deaths: texts on the console that end a boot.
    :param on_line: called with each line of the console, from another thread.
    :param on_milestone: called with each milestone that is waited for or passed, and its seconds.
    """

    keep: bool = False
    """Whether the run directory, with transcript, disks and variables, stays when the machine is left."""

    def __init__(  # noqa: PLR0913 -- each is a different thing
        self,
        state: BootState | Saved,
        hardware: Hardware = _USUAL,
        *,
        persist: bool = False,
        directory: RunDirectory | None = None,
        name: str = "machine",
        deaths: Sequence[DeathPattern] = DEATHS,
        on_line: Callable[[str], None] | None = None,
        on_milestone: Callable[[str, float], None] = lambda _name, _seconds: None,
    ) -> None:
        self._saved = state if isinstance(state, Saved) else None
        self.initial = state.state if isinstance(state, Saved) else state
        self.hardware = state.hardware if isinstance(state, Saved) else hardware
        self.name = name
        self.boots = 0
        self._checkpoints = 0
        self.time_scale = 1.0
        self.known_host = KnownHost()
        self.attempts: list[BootAttempt] = []
        self._persist = persist
        self._deaths = deaths
        self._on_line = on_line
        self._on_milestone = on_milestone
        self._owns_run = directory is None
        self._run = directory
        self._state: BootState | None = None
        self._verdict: AcceleratorVerdict | None = None
        self._power: Power | None = None

    def __enter__(self) -> Self:
        self._verdict = accelerator.choose(self.hardware.accelerator)
        self.time_scale *= self._verdict.accelerator.time_scale
        if self._run is None:
            self._run = rundir.create(self.name)
        try:
            self._state = _own(self.initial, self._run.path) if self._persist else fork(self.initial, self._run.path)
        except BaseException:
            if self._owns_run:
                self._run.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            if self._run is not None and self._owns_run and not self.keep:
                self._run.remove()

    # What it is.

    @property
    def folder(self) -> Path:
        """Its run directory: transcript, QEMU's arguments, disks, variables."""
        return self._directory.path

    @property
    def accelerator(self) -> AcceleratorVerdict:
        """How QEMU runs it, and why."""
        if self._verdict is None:
            raise ApiMisuse("the machine has not been entered; use it as a context manager")
        return self._verdict

    @property
    def transcript(self) -> Path:
        """Every byte that the guest has printed, over all its boots."""
        return self._directory.transcript

    @property
    def state(self) -> BootState:
        """What it would boot from now; a value for other machines, once this one is off."""
        if self._state is None:
            raise ApiMisuse("the machine has not been entered; use it as a context manager")
        return self._state

    @property
    def is_on(self) -> bool:
        """Whether it has been switched on and not off again; it may have ended by itself meanwhile."""
        return self._power is not None

    @property
    def console(self) -> Console:
        """The console of the running machine."""
        return self._on.machine.log

    @property
    def milestones(self) -> Mapping[str, float]:
        """The milestones of the present boot, with the seconds at which each was reached."""
        return dict(self._on.progress.reached)

    @property
    def seconds(self) -> float:
        """How long ago the present boot began."""
        return self._on.progress.seconds

    @property
    def entry_started(self) -> str:
        """Description of the boot entry that the firmware started last; empty if it has started none."""
        return next((attempt.description for attempt in reversed(self.attempts) if not attempt.failure), "")

    def variables(self) -> VariableStore:
        """The EFI variables as they are in the store now; it may be read at any time.

        :raises VerificationFailed: the store is damaged.
        """
        if self.state.variables is None:
            raise SpecError("a machine with BIOS has no EFI variables")
        return efivars.read_store(self.state.variables)

    # Power.

    def start(self) -> None:
        """Switch it on: a cold start, with whatever disks, variables and TPM hold now.

        The first start of a machine that was made from a saved one goes on where that stood.

        :raises ApiMisuse: it is on.
        :raises QemuError: QEMU does not start.
        """
        if self._power is not None and self._power.machine.state in {State.RUNNING, State.PAUSED}:
            raise ApiMisuse("the machine is on; legal now: reset(), power_button(), off(), kill()")
        self._end()
        screen = Screen()
        begins_at = self.transcript.stat().st_size if self.transcript.exists() else 0
        with ExitStack() as undo:
            monitor = undo.enter_context(rundir.socket_place(self.folder, "monitor"))
            spec, devices = self._spec(monitor), None
            if self._saved is not None:
                spec, devices = self._resumed_spec(self._saved, monitor), self._saved.checkpoint.devices
                screen.feed(self._saved.transcript.read_bytes())  # what was drawn before is on the screen still
                self._saved = None
            machine = undo.enter_context(
                qemu.Machine(spec, self._directory, deaths=self._deaths, on_line=self._line, on_output=screen.feed)
            )
            screen.follow(machine)
            machine.start(resume=devices)
            progress = Progress(machine.log, self._activity, machine.resets, begins_at, self._on_milestone)
            machine.resets.subscribe(self._note_reset)
            self._power = Power(
                machine=machine,
                progress=progress,
                screen=screen,
                resources=undo.pop_all(),
                resumed=devices is not None,
            )
        self.boots += 1

    def reset(self) -> None:
        """Press the reset button: the firmware starts anew, disks and variables stay as they are."""
        self._on.machine.reset()

    def power_button(self) -> None:
        """Press the power button: a system that hears it ends in good order; :meth:`expect_off` waits for that."""
        self._on.machine.power_button()

    def expect_off(self, *, within: float = 60.0) -> None:
        """Wait until the guest has switched the machine off.

        :param within: seconds, before the time scale.
        :raises BootFailed: it has not.
        """
        outcome = self._on.machine.wait_off(within=within * self.time_scale)
        if not isinstance(outcome, PoweredOff):
            raise self.failed(f"the machine was not switched off by its system: {describe(outcome)}", outcome)
        self._end()

    def off(self) -> None:
        """Switch it off from outside; what the guest has written to its disks stays, what it still held is lost."""
        self._on.machine.off()
        self._end()

    def kill(self) -> None:
        """End QEMU at once (SIGKILL). Not a power cut: what the guest has written is in the host's cache and stays."""
        self._on.machine.kill()
        self._end()

    def pause(self) -> None:
        """Let the guest stand still, until :meth:`unpause`."""
        self._on.machine.pause()

    def unpause(self) -> None:
        """Let the guest go on."""
        self._on.machine.unpause()

    def checkpoint(self) -> Saved:
        """Save it as it is now, at a menu, say, and switch it off; machines made of what this gives go on from here.

        :raises ApiMisuse: it has something that cannot be saved, such as a disk on nvme.
        :raises QemuError: QEMU cannot save it.
        """
        power = self._on
        self._checkpoints += 1
        folder = self.folder / f"checkpoint-{self._checkpoints}"
        checkpoint = checkpoints.take(power.machine, folder)
        self._end()
        transcript = Path(shutil.copyfile(self.transcript, folder / "console.log"))
        return Saved(checkpoint=checkpoint, hardware=self.hardware, transcript=transcript)

    # Underneath.

    def qmp(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run one command of QEMU's monitor and give its return value."""
        return self._on.machine.qmp(command, arguments)

    def hold(self) -> str:
        """Pause the guest; gives what a person needs to look at it, in words."""
        lines = [f"{self.name} is paused; cont in QEMU's monitor lets it go on", f"transcript  {self.transcript}"]
        if self._power is not None:
            with suppress(VmharnessError):  # one that has ended by itself stands still already
                self.pause()
            lines.append(f"monitor     socat - UNIX-CONNECT:{self._power.machine.spec.monitor_socket}")
            if self.hardware.network:
                lines.append(f"SSH         port {self.core.ssh_port()} on localhost")
        return "\n".join(lines)

    @property
    def core(self) -> qemu.Machine:
        """The QEMU of the present power-on."""
        return self._on.machine

    def failed(self, what: str, outcome: Outcome | None) -> BootFailed:
        """The error for a demand that was not met, with the evidence."""
        words = self._power.machine.log.last_words if self._power is not None else ""
        return BootFailed(what, self.transcript, None, outcome, words)

    @property
    def _on(self) -> Power:
        if self._power is None:
            raise ApiMisuse("the machine is off; legal now: start()")
        return self._power

    @property
    def _directory(self) -> RunDirectory:
        if self._run is None:
            raise ApiMisuse("the machine has not been entered; use it as a context manager")
        return self._run

    def _spec(self, monitor: Path) -> MachineSpec:
        hardware, state = self.hardware, self.state
        return MachineSpec(
            accelerator=self.accelerator.accelerator,
            memory=hardware.memory,
            cpus=min(hardware.cpus, len(os.sched_getaffinity(0))),
            cpu="max",
            firmware=state.firmware,
            variables=state.variables,
            kernel=hardware.kernel,
            disks=state.disks,
            display=hardware.display,
            network=UserNetwork() if hardware.network else None,
            tpm=state.tpm if hardware.tpm else None,
            clock=hardware.clock,
            entropy=hardware.entropy,
            resets=True,
            monitor_socket=monitor,
        )

    def _resumed_spec(self, saved: Saved, monitor: Path) -> MachineSpec:
        state = self.state
        return evolve(
            saved.checkpoint.spec,
            disks=state.disks,
            variables=state.variables,
            tpm=state.tpm if self.hardware.tpm else None,
            monitor_socket=monitor,
        )

    def _activity(self) -> Activity:
        moved = 0
        with suppress(QemuError):  # it has ended: the wait learns that by itself
            counted = self._on.machine.block_io()
            moved = counted.read_bytes + counted.written_bytes
        return Activity(printed=self.transcript.stat().st_size, moved=moved)

    def _line(self, line: str) -> None:
        attempt = attempts.parse(line)
        if attempt is not None:
            self.attempts.append(attempt)
        if self._on_line is not None:
            self._on_line(line)

    def _note_reset(self, _by_guest: bool) -> None:
        self.boots += 1
        if self._power is not None:
            self._power.inside = None

    def _end(self) -> None:
        power, self._power = self._power, None
        if power is not None:
            power.resources.close()


def _own(state: BootState, folder: Path) -> BootState:
    """A state whose own files a machine is to write; it must have them, but for a TPM's, which ``folder`` takes."""
    if state.firmware is not None and state.variables is None:
        hint = "BootState.with_store() with a copy of the firmware's template gives it one"
        raise SpecError("the state has no variable store that could be written to", hint=hint)
    return evolve(state, tpm=state.tpm or folder / "tpm")
