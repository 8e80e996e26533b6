"""A session: the machine of a build that stopped, entered at one of its steps, where a person chooses the next action.

It works in a run directory of its own, into which what the build left is linked; nothing of the original is ever
written. Its own checkpoints continue the build's tree.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from attrs import define, evolve, field, frozen

from vmharness.disk import image
from vmharness.errors import ApiMisuse, GuestError
from vmharness.flows import appliance
from vmharness.flows.bringup import Up, wake_parameters
from vmharness.flows.hands import ANSWER_SECONDS, Hands
from vmharness.flows.run import Run
from vmharness.flows.steps import run_step
from vmharness.flows.trail import Trail, notes, overlay, restorable
from vmharness.host.rundir import RunDirectory
from vmharness.model.checkpoint import CheckpointNote, When
from vmharness.model.hardware import Disk
from vmharness.model.steps import Action
from vmharness.plan.make import Plan
from vmharness.plan.stopping import numbered
from vmharness.vm.guest import Agent
from vmharness.vm.machine import Machine
from vmharness.vm.person import PersonShell, Shell


@frozen(kw_only=True)
class Passed:
    """A step, as a person sees it in a session.

    :param number: from 1 on.
    :param state: ``done``, ``next`` or ``to come``.
    :param checkpoints: the names of those taken before and after it.
    """

    number: int
    step: Action
    state: str
    checkpoints: tuple[str, ...]


@define
class Session(Hands):
    """A build's machine under a person's hands; use it as a context manager.

    :param plan: the build's.
    :param run: the session's own run; its directory gets the machine's evidence.
    :param trail: takes the session's checkpoints; its directory holds what the build left.
    :param position: number, from 0 on, of the step that runs next.
    :param repairs: what was done by hand, one thing a line.
    :param answers: whether the guest runs steps; one that was saved while a step hung does not.
    """

    plan: Plan
    run: Run
    trail: Trail
    position: int = 0
    repairs: list[str] = field(factory=list)
    _up: Up | None = None
    answers: bool = True
    _machine: ExitStack = field(factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._machine.close()

    @property
    def site(self) -> RunDirectory:
        """The folder with what the build left."""
        return self.trail.directory

    @property
    def machine(self) -> Machine:
        """The machine; it is another one after each :meth:`rewind`."""
        return self.up.machine

    @property
    def shell_words(self) -> str:
        """What a person is told before they enter the shell."""
        return "the target is in /target; Ctrl-] or exit"

    def shell(self) -> Shell:
        """A shell for a person, in the present machine."""
        return PersonShell(self.machine.terminal)

    @property
    def step(self) -> Action | None:
        """The step that runs next; None when all are done."""
        return self.plan.actions[self.position] if self.position < len(self.plan.actions) else None

    @property
    def steps(self) -> tuple[Passed, ...]:
        """All steps of the build, in order."""
        found = notes(self.site)
        return tuple(
            Passed(
                number=number + 1,
                step=step,
                state="done" if number < self.position else "next" if number == self.position else "to come",
                checkpoints=tuple(note.id for note in found if note.step == number),
            )
            for number, step in enumerate(self.plan.actions)
        )

    def rewind(self, number: int) -> None:
        """Go to the state before a step: from its checkpoint, or by running the steps since the nearest earlier one.

        What was done by hand since then is gone.

        :param number: the step's, from 0 on; the number of steps means the state after the last one.
        :raises GuestError: a step on the way failed; the session is before that one.
        :raises QemuError: the machine does not start.
        """
        earlier = [note for note in notes(self.site) if note.when is When.BEFORE and note.step <= number]
        nearest = max(earlier, key=lambda note: (note.step, note.id), default=None)
        if nearest is None:
            self.replay()
        else:
            self.restore(nearest)
        self.advance(number)

    def restore(self, note: CheckpointNote) -> None:
        """Go to a checkpoint.

        :raises QemuError: the machine does not start from it.
        """
        assert self.plan.machine is not None
        self._leave()
        ready = restorable(note, self.site, self.plan.machine, self.run.directory)
        machine = self._machine.enter_context(Machine(ready.spec, self.run.directory, on_line=self._console_line))
        machine.start(resume=ready.state)
        agent = Agent(machine.command, self.run.directory.nonce)
        scale = ready.spec.accelerator.time_scale
        self._up = Up(machine=machine, agent=agent, way="restored")
        self.answers = True
        try:
            agent.open_session(within=ANSWER_SECONDS * scale)
            agent.run("wake", wake_parameters(secrets.token_hex(32)), within=ANSWER_SECONDS * scale)
        except GuestError:
            # It was saved while a step hung: a shell is all that there is.
            self.answers = False
        self.position = note.step + 1 if note.when is When.AFTER else note.step
        self.trail.last = note

    def replay(self) -> None:
        """Go to the state before the first step, by booting the appliance anew.

        :raises GuestError: it does not come up.
        :raises QemuError: the machine does not start.
        """
        self._leave()
        directory = self.run.directory
        if self.plan.firmware is not None:
            directory.variables.unlink(missing_ok=True)
            image.clone(self.plan.firmware.template, directory.variables)
        self._up = self._machine.enter_context(appliance.started(self.plan, "", self.run, resume=False))
        for disk in appliance.disks(self.plan, self.site):
            self.machine.plug(self._covered(disk))
        self.answers, self.position, self.trail.last = True, 0, None

    def advance(self, number: int) -> None:
        """Run the steps before the one of a number.

        :raises GuestError: one failed; the session is before it, with what it has left.
        """
        while self.position < number:
            self.retry()

    def retry(self, script: Path | None = None) -> None:
        """Run the next step, as it is or as an edited copy of its script; the session is behind it if it succeeds.

        :param script: file with the edited copy.
        :raises GuestError: it failed; the session is before it still, with what it has left.
        :raises ApiMisuse: there is no step left.
        :raises HostError: the copy cannot be read.
        """
        if self.step is None:
            raise ApiMisuse("all steps are done")
        step = self.plan.steps[self.position]
        if script is not None:
            self._replace(step, script)
        self.trail.before(self.machine, self.position, step)
        run_step(self.agent, step, evolve(self.run, directory=self.site))
        self.position += 1

    def skip(self) -> None:
        """Take the next step for done, since a person has done by hand what it does.

        :raises ApiMisuse: there is no step left.
        """
        if self.step is None:
            raise ApiMisuse("all steps are done")
        self.repairs.append(f"took '{self.step.name}' for done")
        self.position += 1

    def finish(self) -> None:
        """Switch off the machine, in which all steps are done, and make its disk one file."""
        appliance.switch_off(self.up, self.run, in_place=False)

    def number(self, wanted: str) -> int:
        """The number, from 0 on, of the step that a person means.

        :raises SpecError: there is no such step.
        """
        return numbered(self.plan.actions, wanted)

    def go_to(self, place: str) -> None:
        """Go to the state before a step, or to a checkpoint.

        :param place: as a person names it.
        :raises SpecError: there is no such step or checkpoint.
        :raises: as :meth:`rewind`.
        """
        note = next((note for note in notes(self.site) if note.id == place), None)
        if note is not None:
            self.restore(note)
        else:
            self.rewind(self.number(place))

    def checkpoint(self) -> CheckpointNote | None:
        """Save the present state; the session's run directory is kept then.

        :returns: None where it cannot be saved, which the run says.
        """
        number = min(self.position, len(self.plan.actions) - 1)
        when = When.BEFORE if self.step is not None else When.AFTER
        note = self.trail.take(self.machine, number, self.plan.actions[number], when)
        self.run.keep = self.run.keep or note is not None
        return note

    @property
    def variables(self) -> Path:
        """The variable store of the machine, as it is now."""
        return self.run.directory.variables

    def _covered(self, disk: Disk) -> Disk:
        """A disk of the build's, under an overlay that takes what is written."""
        if not disk.writable:
            return disk
        path = overlay(disk.name, (disk.path,), self.site)
        return evolve(disk, path=path, format="qcow2", backing=(disk.path,))

    def _console_line(self, line: str) -> None:
        self.run.say(line, "console")

    @property
    def up(self) -> Up:
        """The running machine with its agent.

        :raises ApiMisuse: nothing was restored or replayed yet.
        """
        if self._up is None:
            raise ApiMisuse("the session has no machine; restore a checkpoint, rewind or replay first")
        return self._up

    def _leave(self) -> None:
        self._machine.close()
        self._machine, self._up = ExitStack(), None
