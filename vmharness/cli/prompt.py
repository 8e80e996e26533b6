"""The prompt of a session: verbs that act on the build that was entered."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from attrs import define, field, frozen

from vmharness.errors import GuestError, SpecError, VmharnessError
from vmharness.flows.reproduce import Opened
from vmharness.flows.session import Session
from vmharness.host import tty
from vmharness.model.steps import Action
from vmharness.model.text import Cleaner, printable
from vmharness.vm.machine import Machine
from vmharness.vm.person import Shell


def script_lines(session: Session, step: Action) -> Iterator[str]:
    """A step's parameters and its script, as lines for a person."""
    for name, value in sorted(step.parameters.items()):
        yield f"  {name}={shlex.quote(printable(value))}"
    for line in session.script(step).splitlines():
        yield f"  | {printable(line)}"


@define
class Prompt:
    """Runs verbs on a session."""

    opened: Opened
    _shell: Shell | None = field(default=None, init=False)
    _shell_of: Machine | None = field(default=None, init=False)

    @property
    def session(self) -> Session:
        """The session that the verbs act on."""
        return self.opened.session

    def talk(self) -> None:
        """Ask a person for verbs until ``quit``, or the end of input."""
        import readline  # noqa: F401, PLC0415 -- gives input() its line editing

        while True:
            try:
                line = input("vmharness> ")
            except EOFError:
                click.echo(err=True)
                return
            except KeyboardInterrupt:
                click.echo(err=True)
                continue
            if not self._do(line):
                return

    def follow(self, lines: Iterable[str]) -> int:
        """Run verbs up to the first that fails; gives the exit code."""
        for line in lines:
            try:
                if not self.obey(line):
                    break
            except VmharnessError as error:
                click.secho(str(error), fg="red", err=True)
                return error.exit_code
        return 0

    def _do(self, line: str) -> bool:
        try:
            return self.obey(line)
        except VmharnessError as error:
            click.secho(str(error), fg="red", err=True)
        except KeyboardInterrupt:
            click.echo("\ninterrupted; the guest may still be at it: rewind gives a sound state", err=True)
        return True

    def obey(self, line: str) -> bool:
        """Run one verb with its arguments.

        :returns: whether the session goes on.
        :raises VmharnessError: it failed.
        """
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise SpecError(f"the line cannot be read: {error}", origin=line) from error
        if not words:
            return True
        if words[0] == "quit":
            return False
        verb = VERBS.get(words[0])
        if verb is None:
            raise SpecError(f"there is no verb {words[0]!r}", allowed=", ".join([*VERBS, "quit"]))
        if not verb.least <= len(words) - 1 <= verb.most:
            raise SpecError(f"the verb is used as: {verb.usage}", origin=words[0])
        verb.act(self, words[1:])
        return True

    def help(self, _words: list[str]) -> None:
        """Name the verbs."""
        for verb in VERBS.values():
            click.echo(f"  {verb.usage:<26} {verb.words}")
        click.echo(f"  {'quit':<26} leave; what was built stays unpublished, the failed build stays as it is")

    def steps(self, _words: list[str]) -> None:
        """List the steps."""
        marks = {"done": "ok", "next": "->", "to come": "  "}
        for passed in self.session.steps:
            saved = f"   {', '.join(passed.checkpoints)}" if passed.checkpoints else ""
            click.echo(f"{marks[passed.state]} {passed.number:2} {passed.step.name} ({passed.step.script}){saved}")

    def show(self, words: list[str]) -> None:
        """Show a step's parameters and script."""
        step = self.session.step if not words else self.session.plan.actions[self.session.number(words[0])]
        if step is None:
            raise SpecError("all steps are done; name one")
        click.echo(f"{step.name} ({step.script}), at most {step.deadline:.0f} s")
        for line in script_lines(self.session, step):
            click.echo(line)

    def retry(self, words: list[str]) -> None:
        """Run the next step again."""
        failure = self.opened.record.failure
        try:
            self.session.retry(Path(words[0]) if words else None)
        except GuestError as error:
            if failure is not None and failure.index == self.session.position:
                same = error.what == failure.sentence
                click.echo(f"-- it failed {'as in the build' if same else 'otherwise than in the build'}", err=True)
            raise

    def skip(self, _words: list[str]) -> None:
        """Take the next step for done."""
        self.session.skip()
        self.steps([])

    def edit(self, _words: list[str]) -> None:
        """Edit the next step's script, and run it."""
        step = self.session.step
        if step is None:
            raise SpecError("all steps are done")
        path = self.session.site.path / f"{step.script}.edited"
        path.write_text(self.session.script(step), encoding="utf-8")
        click.edit(filename=str(path))
        self.session.retry(path)

    def rewind(self, words: list[str]) -> None:
        """Go back."""
        self.session.go_to(words[0])
        self.steps([])

    def checkpoint(self, _words: list[str]) -> None:
        """Save the present state."""
        self.session.checkpoint()

    def proceed(self, words: list[str]) -> None:
        """Run what is left, and publish."""
        from vmharness.flows.repaired import go_on  # noqa: PLC0415 -- it brings all of a build: 0.2 s

        go_on(self.opened, Path(words[0]))
        click.echo("its manifest says that it was repaired by hand, and how", err=True)

    def command(self, words: list[str]) -> None:
        """Run one command in the appliance."""
        self.session.command(shlex.join(words) if len(words) > 1 else words[0])

    def efivars(self, _words: list[str]) -> None:
        """Show the EFI variables as they are now."""
        from vmharness.flows import variable_texts as texts  # noqa: PLC0415 -- it brings what reads certificates
        from vmharness.flows.efivars import show as read_variables  # noqa: PLC0415 -- likewise

        if self.session.plan.firmware is None:
            raise SpecError("this build has no variable store")
        for line in texts.to_lines(read_variables(self.session.variables)):
            click.echo(line)

    def compare(self, words: list[str]) -> None:
        """Say how two states differ."""
        from vmharness.flows import states  # noqa: PLC0415 -- it brings what reads certificates

        found = states.compare(self.session, words[0], words[1])
        for line in (*found.files, *found.variables):
            click.echo(printable(line))
        click.echo(f"-- the session is in the state {words[1]} now", err=True)

    def put(self, words: list[str]) -> None:
        """Copy a file into the guest."""
        self.session.put(Path(words[0]), words[1])

    def get(self, words: list[str]) -> None:
        """Copy a file out of the guest."""
        data = self.session.get(words[0])
        if len(words) == 1:
            sys.stdout.buffer.write(data)
            return
        try:
            Path(words[1]).write_bytes(data)
        except OSError as error:
            raise SpecError(f"cannot write {words[1]}: {error.strerror}") from error

    def shell(self, _words: list[str]) -> None:
        """Give the person the guest's shell until they leave it."""
        shell = self._current_shell()
        seen = Cleaner()
        typed: list[str] = []

        def show(data: bytes) -> None:
            typed.append(seen.feed(data))
            tty.put(data)

        with tty.lent() as lent:
            rows, columns = tty.size()
            self.session.machine.when_ended(lent.end)
            leave = shell.enter(
                show, lent.end, rows=rows, columns=columns, terminal_type=os.environ.get("TERM", "dumb")
            )
            try:
                left = lent.run(shell.type, lambda: self.session.resize(*tty.size()))
            finally:
                leave()
        self.session.note_shell("".join(typed))
        words = "left the shell, which runs on; the verb shell enters it again" if left else "the shell ended"
        click.echo(f"\n-- {words}", err=True)

    def _current_shell(self) -> Shell:
        """The shell of the present machine: after a rewind that is another one."""
        if self._shell is None or self._shell_of is not self.session.machine:
            self._shell, self._shell_of = self.session.shell(), self.session.machine
        return self._shell


@frozen(kw_only=True)
class Verb:
    """A verb: how it is used, what it does in words, what it does, and how many arguments it takes."""

    usage: str
    words: str
    act: Callable[[Prompt, list[str]], object]
    least: int = 0
    most: int = 0


VERBS = {
    "help": Verb(usage="help", words="name the verbs", act=Prompt.help),
    "shell": Verb(usage="shell", words="a shell in the guest; Ctrl-] comes back here", act=Prompt.shell),
    "steps": Verb(usage="steps", words="the build's steps, with their checkpoints", act=Prompt.steps),
    "show": Verb(usage="show [STEP]", words="a step's parameters and script", act=Prompt.show, most=1),
    "retry": Verb(
        usage="retry [FILE]", words="run the next step again, or an edited copy of its script", act=Prompt.retry, most=1
    ),
    "edit": Verb(usage="edit", words="edit the next step's script with $EDITOR, and run it", act=Prompt.edit),
    "skip": Verb(usage="skip", words="take the next step for done: you have done it by hand", act=Prompt.skip),
    "run": Verb(usage="run COMMAND...", words="run a command in the appliance", act=Prompt.command, least=1, most=999),
    "rewind": Verb(
        usage="rewind STEP|CHECKPOINT",
        words="go to the state before a step, or to a checkpoint",
        act=Prompt.rewind,
        least=1,
        most=1,
    ),
    "checkpoint": Verb(usage="checkpoint", words="save the present state", act=Prompt.checkpoint),
    "compare": Verb(
        usage="compare STATE STATE",
        words="how two states (checkpoints, or before steps) differ: files of the target, EFI variables",
        act=Prompt.compare,
        least=2,
        most=2,
    ),
    "put": Verb(usage="put FILE PATH", words="copy a file into the guest", act=Prompt.put, least=2, most=2),
    "get": Verb(usage="get PATH [FILE]", words="copy a file out of the guest", act=Prompt.get, least=1, most=2),
    "efivars": Verb(usage="efivars", words="the EFI variables as they are now", act=Prompt.efivars),
    "continue": Verb(
        usage="continue FOLDER",
        words="run the steps that are left and publish the image there",
        act=Prompt.proceed,
        least=1,
        most=1,
    ),
}
