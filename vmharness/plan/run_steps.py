"""Steps that a definition declares: what they must hold to, and what runs for them in the guest."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping

from vmharness.errors import SpecError
from vmharness.model.image import ImageSpec
from vmharness.model.run_steps import Inside, RunSpec, When
from vmharness.model.steps import Step, StepFile
from vmharness.plan.step_names import BUILT_IN

LONGEST_NAME = 60
"""Characters of a step's name: as UTF-8 it is a file name, too."""

LONGEST_EXPECT = 1000

_FOLDER = "/run/vmharness-steps"
_TARGET = "/target"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# What the guest script declared-step sets itself.
_OURS = ("DISK", "ESP", "KERNEL_PARAMETERS", "ROOT_ARGUMENT", "TARGET")


def check_run_steps(spec: ImageSpec) -> None:
    """Check the steps that a definition declares.

    :raises SpecError: naming the key, and what is allowed.
    """
    origin = str(spec.origin)
    if spec.run and not spec.needs_machine:
        raise SpecError(
            "this image is made without a machine in which a step could run: remove [[run]]", origin=origin, key="run"
        )
    names: dict[str, int] = {}
    for number, declared in enumerate(spec.run):
        for key, what, allowed in _problems(declared):
            raise SpecError(what, origin=origin, key=f"run[{number}].{key}".rstrip("."), allowed=allowed)
        first = names.setdefault(declared.name, number)
        if first != number:
            raise SpecError(f"run[{first}] has the same name", origin=origin, key=f"run[{number}].name")


def step_file(name: str, data: bytes) -> StepFile:
    """What the plan says of a step's script.

    :param name: the step's.
    :param data: its content.
    """
    path = f"{_TARGET}{_FOLDER}/{name}"
    return StepFile(name=name, path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def declared_steps(
    spec: ImageSpec, when: When, scripts: Mapping[str, StepFile], place: Mapping[str, str], time_scale: float
) -> list[Step]:
    """The steps of one moment, in their order.

    :param scripts: by the steps' names.
    :param place: what an installer's script is told of the target.
    :param time_scale: what their deadlines are multiplied by.
    """
    return [
        Step(
            name=declared.name,
            script="declared-step",
            parameters=_parameters(declared, scripts.get(declared.name), place),
            foreign=True,
            deadline=declared.deadline * time_scale,
            file=scripts.get(declared.name),
            expect=declared.expect,
        )
        for declared in spec.run
        if declared.when is when
    ]


def _parameters(declared: RunSpec, file: StepFile | None, place: Mapping[str, str]) -> dict[str, str]:
    root = _TARGET if declared.inside is Inside.APPLIANCE else ""
    settings = {
        "ESP": f"{root}{place['ESP_PATH']}" if place["ESP_PATH"] else "",
        "KERNEL_PARAMETERS": place["KERNEL_PARAMETERS"],
        "ROOT_ARGUMENT": place["ROOT_ARGUMENT"],
        **({"TARGET": root} if root else {}),
        **declared.parameters,
    }
    if file is None:
        words: tuple[str, ...] = declared.command or ()
        what = f"the command '{words[0]}'"
    else:
        assert declared.script is not None
        words = (f"{root}{_FOLDER}/{file.name}",)
        what = f"the script '{declared.script.name}'"
    return {
        "SERIAL": place["SERIAL"],
        "ALIAS": place["ALIAS"],
        "INSIDE": declared.inside.value,
        "COMMAND": shlex.join(words),
        "SCRIPT": file.path if file is not None else "",
        "SETTINGS": shlex.join(f"{name}={value}" for name, value in settings.items()),
        "WHAT": what,
    }


def _problems(declared: RunSpec) -> Iterator[tuple[str, str, str]]:
    """Key, sentence and what is allowed, of everything that is wrong with one declared step."""
    yield from _name_problems(declared.name)
    yield from _action_problems(declared)
    if len(declared.expect) > LONGEST_EXPECT:
        yield "expect", f"the text has {len(declared.expect)} characters", f"at most {LONGEST_EXPECT}"
    if not declared.expect.isprintable():
        yield "expect", f"{declared.expect!r} is not text that one line can contain", ""
    for name, value in declared.parameters.items():
        key = f"parameters.{name}"
        if not _VARIABLE.fullmatch(name):
            yield key, f"{name!r} cannot be a variable's name", "letters, digits and _, not beginning with a digit"
        if name in _OURS:
            yield key, "every step is given this variable already", "another name"
        if "\0" in value:
            yield key, "no variable can hold a zero byte", ""


def _name_problems(name: str) -> Iterator[tuple[str, str, str]]:
    if not name.strip() or name != name.strip() or not name.isprintable() or "/" in name or name.startswith("."):
        yield "name", f"{name!r} cannot be a step's name", "a line of text without '/', not beginning with a dot"
    if len(name) > LONGEST_NAME:
        yield "name", f"the name has {len(name)} characters", f"at most {LONGEST_NAME}"
    if name in BUILT_IN:
        yield "name", f"'{name}' is a step that builds have by themselves", "another name"


def _action_problems(declared: RunSpec) -> Iterator[tuple[str, str, str]]:
    command = declared.command
    if (declared.script is None) == (command is None):
        given = "neither is given" if command is None else "both are given"
        yield "", f"a step has either a script or a command, and {given}", 'script = "FILE", or command = ["WORD", ...]'
    if command is not None and (not command or not command[0]):
        yield "command", "the command is empty", '["WORD", ...]'
    if any("\0" in word for word in command or ()):
        yield "command", "no argument can hold a zero byte", ""
