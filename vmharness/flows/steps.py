"""One step of a build, run in the appliance: in a build, and again by hand."""

from __future__ import annotations

from collections import deque

from vmharness.errors import NotProven
from vmharness.flows.run import Run
from vmharness.model.steps import Step
from vmharness.vm.guest import Agent

_TAIL = 30
_LONGEST = 2000


def run_step(agent: Agent, step: Step, run: Run) -> None:
    """Run a step, as a part of the run; it can be run any number of times.

    A file that it needs is taken from the run directory and put into the guest each time.

    :raises GuestError: it failed, its output lacks the text that it must have, or the guest is gone.
    """
    tail: deque[str] = deque(maxlen=_TAIL)
    seen = not step.expect

    def take(stream: str, line: str) -> None:
        nonlocal seen
        seen = seen or step.expect in line
        tail.append(line[:_LONGEST])
        run.say(line, stream)

    with run.part(step.name):
        if step.file is not None:
            data = run.directory.script(step.file.name).read_bytes()
            agent.put(data, step.file.path, mode=0o755, within=step.deadline)
        agent.run(step.script, step.parameters, within=step.deadline, on_output=take)
        if not seen:
            raise NotProven(
                f"it ended with status 0, but no line of its output contains '{step.expect}'",
                None,
                None,
                "\n".join(tail),
            )
