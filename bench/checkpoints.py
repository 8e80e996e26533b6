"""What checkpoints cost a build, and how soon a person is inside a build that failed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pexpect
from attrs import evolve

from bench import builds
from bench.context import Context, Skip
from bench.figures import AtMost, Figure, Of, compared
from bench.measure import Sample, interleave, timed
from vmharness.flows.trail import notes
from vmharness.host import proc
from vmharness.host.rundir import RunDirectory
from vmharness.model.sizes import MIB

_OVERHEAD = AtMost(limit=1.15, of=Of.RATIO)
_PROMPT = AtMost(limit=1.0, of=Of.VALUE)  # seconds
_SECONDS = 300
_FAILING = """
[image]
name = "failing"
additional-space = "8M"
boot-size = "48M"

[root]
source = { minimal = true }

[bootloader]
install = { command = ["/bin/false"] }
"""


def measure(context: Context) -> tuple[Figure, ...]:
    """The Debian example with and without checkpoints, and the way into a minimal build that failed."""
    return (*_overhead(context), *_entering(context))


def _overhead(context: Context) -> tuple[Figure, ...]:
    if builds.staged_if_cached(builds.debian_source(), make=context.full) is None:
        raise Skip(f"the tree of {builds.DEBIAN.name} is not in the cache; `--full` makes it")
    costs: dict[str, tuple[list[float], list[float]]] = {}

    def build(policy: str) -> Sample:
        runs = context.scratch / "runs"
        argv = ["vmharness", "build", str(builds.DEBIAN), "-o", str(context.scratch / "out"), "--rebuild"]
        argv += ["--accel", context.accelerator.value, "--checkpoints", policy]
        env = {"VMHARNESS_RUNS": str(runs)}
        sample = timed(lambda: proc.run(argv, doing=f"building {builds.DEBIAN.name}", env=env))
        for folder in runs.glob("*"):
            for note in notes(RunDirectory(path=folder)):
                seconds, sizes = costs.setdefault(note.name, ([], []))
                seconds.append(note.seconds)
                sizes.append(note.size / MIB)
            RunDirectory(path=folder).remove()
        return sample

    context.say(f"building the Debian example with and without checkpoints, {context.rounds} times")
    build("none")  # not counted: afterwards everything is in the cache
    taken = interleave({policy: partial(build, policy) for policy in ("none", "failure", "all")}, context.rounds)
    figures: list[Figure] = []
    for policy in ("failure", "all"):
        cpu, wall = compared(
            f"build of {builds.DEBIAN.name}, --checkpoints {policy}", taken[policy], "--checkpoints none", taken["none"]
        )
        figures += (cpu, evolve(wall, wanted=_OVERHEAD))
    for name, (seconds, sizes) in costs.items():
        figures += (
            Figure(what=f"{builds.PHASE}checkpoint before '{name}'", unit="s", samples=tuple(seconds)),
            Figure(what=f"{builds.PHASE}checkpoint before '{name}'", unit="MB", samples=tuple(sizes)),
        )
    return tuple(figures)


def _entering(context: Context) -> tuple[Figure, ...]:
    definition = context.scratch / "failing.toml"
    definition.write_text(_FAILING)
    runs = context.scratch / "failed"
    argv = ["vmharness", "build", str(definition), "-o", str(context.scratch / "never")]
    argv += ["--accel", context.accelerator.value]
    proc.run(argv, doing="building what fails", env={"VMHARNESS_RUNS": str(runs)}, ok=(1,))
    (failed,) = runs.iterdir()
    context.say(f"entering a build that failed, {context.rounds} times")
    contenders = {
        "restored": lambda: _to_the_prompt(failed),
        "replayed": lambda: _to_the_prompt(failed, "--replay"),
    }
    taken = interleave(contenders, context.rounds)
    what = "`reproduce` to the guest's prompt, 512 MB of memory"
    cpu, wall = compared(what, taken["restored"], "the cold way: --replay", taken["replayed"])
    return (cpu, evolve(wall, wanted=_PROMPT))


def _to_the_prompt(failed: Path, *options: str) -> Sample:
    argv = ["-m", "vmharness", "reproduce", str(failed), *options]
    terminal = pexpect.spawn(sys.executable, argv, timeout=_SECONDS, encoding="utf-8", dimensions=(50, 200))
    with terminal:
        sample = timed(lambda: terminal.expect(r"appliance.*:/ # "))
        terminal.send("\x1d")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("quit")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    return sample
