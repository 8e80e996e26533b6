"""The face of ``vmharness reproduce``: a shell in the guest, then the prompt; or its verbs as options."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from attrs import frozen

from vmharness.cli.progress import Plain, run_directory_named
from vmharness.cli.prompt import Prompt, script_lines
from vmharness.events import Event, StepOutput, fan_out
from vmharness.flows import bisect as bisecting
from vmharness.flows import reproduce as flow
from vmharness.flows.reproduce import Opened
from vmharness.model.text import harmless
from vmharness.vm.qmp import person_shell


@frozen(kw_only=True)
class Order:
    """What the command line asks for, besides the build.

    :param source: run directory or bundle.
    :param at: step or checkpoint to enter at, or None.
    :param replay: whether to run the build again from its beginning.
    :param check: script for which the first step is searched after which it fails, or None.
    :param lines: verbs to run, as at the prompt; without any a person is there.
    """

    source: Path
    at: str | None
    replay: bool
    check: Path | None
    lines: tuple[str, ...]


def run(order: Order) -> int:
    """Enter a build, and let the orders or the person act on it; gives the exit code."""
    with (
        run_directory_named() as remember,
        flow.entered(order.source, order.at, replay=order.replay, emit=fan_out(remember, _show)) as opened,
    ):
        prompt = Prompt(opened=opened)
        if order.check is not None:
            return _bisect(opened, order.check)
        if order.lines:
            return prompt.follow(order.lines)
        _greet(opened)
        if not sys.stdin.isatty():
            return prompt.follow(line.strip() for line in sys.stdin)
        prompt.shell([])
        prompt.talk()
        return 0


def lines_of(  # noqa: PLR0913 -- one parameter an option
    *,
    steps: bool,
    show: str | None,
    put: Sequence[tuple[str, str]],
    commands: Sequence[str],
    retry: bool,
    script: str | None,
    efivars: bool,
    get: Sequence[tuple[str, str]],
    output: str | None,
) -> tuple[str, ...]:
    """The verbs that options stand for, in the order in which they make sense."""
    words = [["steps"]] if steps else []
    words += [["show", show]] if show is not None else []
    words += [["put", *pair] for pair in put]
    words += [["run", command] for command in commands]
    words += [["retry", script]] if script is not None else [["retry"]] if retry else []
    words += [["efivars"]] if efivars else []
    words += [["get", *pair] for pair in get]
    words += [["continue", output]] if output is not None else []
    return tuple(shlex.join(line) for line in words)


def _show(event: Event) -> None:
    """Steps, and what they write; the guest's console stays in its log."""
    if isinstance(event, StepOutput) and event.stream != "console":
        click.echo(f"   | {harmless(event.line)}", err=True)
    else:
        Plain(verbose=False)(event)


def talk_qmp(source: Path) -> None:
    """Let a person in a second terminal talk QMP with a session's machine."""
    person_shell(flow.monitor_of(source))


def _bisect(opened: Opened, check: Path) -> int:
    found = bisecting.bisect(opened, check)
    click.echo(f"{check.name} fails first after '{found.step.name}' ({found.step.script})")
    click.echo(f"it passed {found.good}; {found.tried} states were looked at", err=True)
    return 0


def _greet(opened: Opened) -> None:
    session, failure = opened.session, opened.record.failure
    if failure is not None:
        click.secho(f"the build of '{opened.record.name}' failed: {failure.step}", fg="red", err=True)
        for line in [failure.sentence, *failure.last_lines[-12:]]:
            click.echo(f"  {harmless(line)}", err=True)
    step = session.step
    if step is None:
        click.echo("all its steps are done", err=True)
        return
    number = f"step {session.position + 1} of {len(session.plan.actions)}"
    click.secho(f"this is the state before {number}, '{step.name}':", bold=True, err=True)
    if session.answers:
        for line in script_lines(session, step):
            click.echo(line, err=True)
    click.echo(f"{session.shell_words}: the prompt with the verbs; help there names them", err=True)
