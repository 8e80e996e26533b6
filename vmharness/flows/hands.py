"""What a person does by hand in a session: commands, files, edited scripts; and the note of what was done."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from vmharness.errors import CommandFailed, GuestError, HostError
from vmharness.flows.bringup import Up
from vmharness.flows.run import Run
from vmharness.host.rundir import RunDirectory
from vmharness.model.steps import Action, Step
from vmharness.plan.make import Plan
from vmharness.vm.guest import Agent

ANSWER_SECONDS = 2.0
"""How long a guest that can answer takes to do so, before the accelerator's time scale."""

_FILE_SECONDS = 60.0
_COMMAND_SECONDS = 600.0
_SCRIPTS = "/lib/vmharness/steps"


class Hands(ABC):
    """A person's hands in the guest of a session. All of it needs a guest whose agent answers.

    Every method raises :class:`~vmharness.errors.GuestError` where the guest was saved while a step hung.
    """

    plan: Plan
    run: Run
    repairs: list[str]
    answers: bool

    @property
    @abstractmethod
    def up(self) -> Up:
        """The running machine with its agent."""

    @property
    @abstractmethod
    def site(self) -> RunDirectory:
        """The folder with what the build left."""

    def command(self, line: str) -> None:
        """Run a line of shell in the appliance; the run gets what it writes.

        :raises CommandFailed: it ended with another status than 0.
        """
        self.agent.run(
            "run-by-hand", {"COMMAND": line}, within=self.scaled(_COMMAND_SECONDS), on_output=self._step_line
        )
        self.repairs.append(f"ran: {line}")

    def passes(self, check: bytes, path: str, *, cannot_tell: int) -> bool | None:
        """Whether a check ends with exit status 0 in the appliance; None if it ends with ``cannot_tell``.

        :param check: the program.
        :param path: where it is put in the appliance.
        """
        self.agent.put(check, path, mode=0o755, within=self.scaled(_FILE_SECONDS))
        within = self.scaled(_COMMAND_SECONDS)
        try:
            self.agent.run("run-by-hand", {"COMMAND": path}, within=within, on_output=self._step_line)
        except CommandFailed as error:
            return None if error.status == cannot_tell else False
        return True

    def listed(self) -> tuple[str, ...]:
        """A line for each file of the target, as the guest script ``list-target`` makes it.

        :raises CommandFailed: the target is not mounted.
        """
        lines: list[str] = []

        def take(stream: str, line: str) -> None:
            if stream == "stdout":
                lines.append(line)

        self.agent.run("list-target", {}, within=self.scaled(_COMMAND_SECONDS), on_output=take)
        return tuple(lines)

    def script(self, step: Action) -> str:
        """The text of a step's script, as the guest has it."""
        assert isinstance(step, Step)
        if step.file is not None:
            return self.site.script(step.file.name).read_text(encoding="utf-8", errors="replace")
        kept = self.site.guest_scripts / step.script
        if kept.exists():
            return kept.read_text(encoding="utf-8", errors="replace")
        return self.get(f"{_SCRIPTS}/{step.script}").decode("utf-8", "replace")

    def put(self, source: Path, path: str) -> None:
        """Copy a file of the host into the appliance; the target is under ``/target``.

        :raises HostError: the file cannot be read.
        :raises CommandFailed: the guest cannot write it.
        """
        try:
            data, mode = source.read_bytes(), source.stat().st_mode & 0o777
        except OSError as error:
            raise HostError(f"cannot read {source}: {error.strerror}") from error
        self.agent.put(data, path, mode=mode, within=self.scaled(_FILE_SECONDS))
        self.repairs.append(f"put {source.name} as {path}, {len(data)} bytes")

    def get(self, path: str) -> bytes:
        """What a file of the appliance holds.

        :raises CommandFailed: the guest cannot read it.
        """
        return self.agent.get(path, within=self.scaled(_FILE_SECONDS))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the programs on the terminal how large its window is now; a guest that hangs is not told."""
        if self.answers:
            with suppress(GuestError):
                sizes = {"ROWS": str(rows), "COLUMNS": str(columns)}
                self.agent.run("resize-terminal", sizes, within=self.scaled(ANSWER_SECONDS))

    def note_shell(self, typed: str) -> None:
        """Note what a person has done in a shell, as the terminal showed it."""
        self.repairs.extend(["in a shell:", *(f"    {line}" for line in typed.splitlines())])

    def note_edited(self, name: str, before: str, after: str) -> None:
        """Note that an edited copy of a step's script was run."""
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "as it was", "by hand", lineterm="")
        self.repairs.extend([f"ran '{name}' with an edited script:", *(f"    {line}" for line in lines)])

    def _replace(self, step: Step, script: Path) -> None:
        before = self.script(step)
        try:
            text = script.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"cannot read the script {script}: {error}") from error
        if step.file is not None:
            path = self.site.script(step.file.name)
            path.unlink()  # a link to the build's own, perhaps
            path.write_text(text, encoding="utf-8")
        else:
            # From now on only the guest knows which one it has: a rewind gives it the old one again.
            (self.site.guest_scripts / step.script).unlink(missing_ok=True)
            self.agent.put(text.encode(), f"{_SCRIPTS}/{step.script}", mode=0o755, within=self.scaled(_FILE_SECONDS))
        self.note_edited(step.name, before, text)

    def scaled(self, seconds: float) -> float:
        """Seconds with the accelerator's time scale."""
        return seconds * self.plan.accelerator.accelerator.time_scale

    @property
    def agent(self) -> Agent:
        """The agent of the guest.

        :raises GuestError: it does not answer.
        """
        if not self.answers:
            what = "the guest was saved while a step hung, so it runs no steps and takes no files"
            raise GuestError(what, None, "look around in its shell, or rewind to a step")
        return self.up.agent

    def _step_line(self, stream: str, line: str) -> None:
        self.run.say(line, stream)
