"""A session on an install that stopped: the installer's machine, entered at one entry of its dialogue."""

from __future__ import annotations

import itertools
from pathlib import Path

from attrs import define, evolve, field

from vmharness.disk import image
from vmharness.errors import ApiMisuse, GuestError, HostError, SpecError
from vmharness.flows.installing import collect, machine_of, started
from vmharness.flows.scripted import follow, remembered
from vmharness.flows.session import Session
from vmharness.flows.talking import Installer, talk
from vmharness.flows.trail import restorable
from vmharness.model.checkpoint import CheckpointNote, When
from vmharness.model.dialogue import Entry, Sight
from vmharness.model.steps import Action
from vmharness.plan.dialogue import to_toml
from vmharness.plan.load import load_entry
from vmharness.vm.following import Follower
from vmharness.vm.guest import Agent
from vmharness.vm.lending import ConsoleShell
from vmharness.vm.machine import Machine


@define
class InstallSession(Session):
    """An installer's machine under a person's hands. Its shell is the serial console, whose keyboard they are.

    :param offline: whether its network leads nowhere, since the installer may be a stranger's.
    """

    offline: bool = False
    _installer: Installer | None = None
    _seen: dict[int, str] = field(factory=dict)

    @property
    def installer(self) -> Installer:
        """The running machine, with what the installer has shown.

        :raises ApiMisuse: nothing was restored or replayed yet.
        """
        if self._installer is None:
            raise ApiMisuse("the session has no machine; restore a checkpoint, rewind or replay first")
        return self._installer

    @property
    def machine(self) -> Machine:
        """The machine; it is another one after each :meth:`rewind`."""
        return self.installer.machine

    @property
    def shell_words(self) -> str:
        """What a person is told before they enter the shell."""
        return "this is the installer's serial console, and you are its keyboard; Ctrl-]"

    def shell(self) -> ConsoleShell:
        """The serial console, lent to a person."""
        return ConsoleShell(self.machine.log, self.installer.follower.screen)

    def restore(self, note: CheckpointNote) -> None:
        """Go to a checkpoint.

        :raises QemuError: the machine does not start from it.
        :raises SpecError: it is damaged.
        """
        self._leave()
        ready = restorable(
            note, self.site, machine_of(self.plan, self.run.directory, (), offline=self.offline), self.run.directory
        )
        follower = Follower()
        try:
            follower.load(self.site.checkpoints / note.id)
        except (ValueError, OSError) as error:
            raise SpecError(f"the checkpoint is damaged: {error}", origin=note.id) from error
        machine = Machine(ready.spec, self.run.directory, on_line=self._console_line, on_output=follower.feed)
        self._machine.enter_context(machine)
        machine.start(resume=ready.state)
        follower.follow(machine)
        self._take(Installer(machine=machine, follower=follower))
        self.position = note.step + 1 if note.when is When.AFTER else note.step
        self.trail.last = note

    def replay(self) -> None:
        """Go to the state before the first entry, by starting the installer anew.

        :raises QemuError: the machine does not start.
        """
        self._leave()
        directory = self.run.directory
        if self.plan.firmware is not None:
            directory.variables.unlink(missing_ok=True)
            image.clone(self.plan.firmware.template, directory.variables)
        self._take(self._machine.enter_context(started(self.plan, self.site, self.run, offline=self.offline)))
        self.position, self.trail.last = 0, None

    def retry(self, script: Path | None = None) -> None:
        """Do the next entry, as it is or an edited copy of it; the session is behind it if it succeeds.

        :param script: TOML file with the edited copy, as :meth:`script` gives it.
        :raises GuestError: what it expects does not come; the session is before it still.
        :raises ApiMisuse: there is no entry left.
        :raises SpecError: the copy is no entry.
        """
        entry = self._entry if script is None else self._edited(self._entry, script)
        if not self._has_ended:
            self.trail.before(self.machine, self.position, entry)
        self._seen[self.position] = talk(self.installer, evolve(entry, stop=False), self.run)
        self.position += 1

    def finish(self) -> None:
        """Take the disk out of the machine, which the installer has ended.

        :raises SpecError: the rest of the dialogue would be a stranger's Python file.
        :raises GuestError: an entry of that failed; the session is before it.
        """
        assert self.plan.spec.install is not None
        if self.plan.spec.install.script is not None and not self._has_ended:
            self._follow_script()
        collect(self.installer, self.run)

    def _follow_script(self) -> None:
        """Let the Python file ask for the rest: what it asked for before is answered as it was then."""
        if self.offline or not self.site.dialogue.exists():
            raise SpecError(
                "the rest of the dialogue is a Python file, which is never run from a bundle",
                origin=str(self.plan.spec.origin),
                hint="end the install at the serial console, then continue",
            )
        seen = remembered(self.site) if self.site.seen.exists() else []
        calls = itertools.count()

        def answer(entry: Entry) -> str:
            number = next(calls)
            if number == len(self.plan.dialogue):
                self.plan = evolve(self.plan, dialogue=(*self.plan.dialogue, entry))
            if evolve(self.plan.dialogue[number], deadline=entry.deadline) != entry:
                before = self.plan.dialogue[number].name
                raise SpecError(f"it asks for '{entry.name}', where it asked for '{before}'", origin="dialogue.py")
            if number < self.position:
                return self._seen.get(number) or (seen[number] if number < len(seen) else "")
            self.retry()
            return self._seen[number]

        follow(self.site.dialogue, answer, self.plan.accelerator.accelerator.time_scale)

    def script(self, step: Action) -> str:
        """An entry as the definition would have it."""
        assert isinstance(step, Entry)
        return to_toml(step, self.plan.accelerator.accelerator.time_scale)

    def resize(self, rows: int, columns: int) -> None:
        """A serial line has no way to tell how large the window is."""

    @property
    def agent(self) -> Agent:
        """There is none.

        :raises GuestError: always.
        """
        what = "an installer's machine has no agent of vmharness, so it runs no commands and takes no files"
        raise GuestError(what, None, "use its serial console: the verb shell")

    @property
    def _entry(self) -> Entry:
        if self.step is None:
            raise ApiMisuse("all entries of the dialogue are done")
        return self.plan.dialogue[self.position]

    @property
    def _has_ended(self) -> bool:
        return self.machine.ending is not None

    def _edited(self, entry: Entry, script: Path) -> Entry:
        try:
            text = script.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"cannot read the entry {script}: {error}") from error
        edited = load_entry(text, script)
        edited = evolve(edited, deadline=edited.deadline * self.plan.accelerator.accelerator.time_scale)
        if edited.sight is Sight.DISPLAY and not self.machine.spec.display:
            raise SpecError("the machine has no display to look at", origin=str(script))
        self.note_edited(entry.name, self.script(entry), text)
        return edited

    def _take(self, installer: Installer) -> None:
        self._installer = installer
        self.trail.beside = installer.follower.save
