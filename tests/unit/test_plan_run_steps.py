"""``[[run]]``: from the definition to the steps of the plan, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import pytest

from vmharness.errors import SpecError
from vmharness.model.hardware import Accelerator
from vmharness.model.image import ImageSpec, PartitionTable
from vmharness.model.partitions import Layout
from vmharness.model.results import TreeMeasure
from vmharness.model.run_steps import Inside, RunSpec, When
from vmharness.model.steps import Step, StepFile
from vmharness.plan import identity
from vmharness.plan.layout import make_layout
from vmharness.plan.load import load
from vmharness.plan.rootfs import root_bytes, root_filesystem
from vmharness.plan.run_steps import step_file
from vmharness.plan.step_names import BUILT_IN
from vmharness.plan.steps import guest_steps

ORIGIN = Path("/definitions/image.toml")
BASE = '[image]\nname = "x"\n[root]\nsource = { minimal = true }\n'
LOADER = '[bootloader]\ninstall = "systemd-boot"\n'
MEASURE = TreeMeasure(data_blocks=256, inodes=20, directory_blocks=20, extra_blocks=0)
IDENTIFIERS = identity.derive("x")


def loaded(*runs: str, base: str = BASE) -> ImageSpec:
    return load("\n".join([base, *(f"[[run]]\n{run}" for run in runs)]), ORIGIN)


def layout_of(spec: ImageSpec) -> Layout:
    layout = make_layout(spec, IDENTIFIERS, root_bytes(spec, MEASURE, 0))
    return layout.with_filesystem("root", root_filesystem(spec, layout.by_role("root").size, MEASURE, 0, IDENTIFIERS))


def steps_of(spec: ImageSpec, accelerator: Accelerator = Accelerator.KVM, *, contents: bool = False) -> list[Step]:
    scripts = {run.name: step_file(run.name, b"#!/bin/sh\n") for run in spec.run if run.script is not None}
    return list(guest_steps(spec, layout_of(spec), accelerator, contents=contents, scripts=scripts))


def test_defaults() -> None:
    """A name and what to run are enough: inside the target, after the bootloader, within two minutes."""
    assert loaded('name = "a"\nscript = "fix.sh"', 'name = "b"\ncommand = ["true"]').run == (
        RunSpec(name="a", script=Path("/definitions/fix.sh")),
        RunSpec(name="b", command=("true",), inside=Inside.TARGET, when=When.AFTER_BOOTLOADER, deadline=120.0),
    )


def test_everything_given() -> None:
    """Every key arrives."""
    (run,) = loaded(
        'name = "a"\ncommand = ["df", "-h"]\ninside = "appliance"\nwhen = "before-bootloader"\n'
        'deadline = "1.5m"\nexpect = "/target"\nparameters = { SIZE = "1 G", _x1 = "" }'
    ).run
    assert run == RunSpec(
        name="a",
        command=("df", "-h"),
        inside=Inside.APPLIANCE,
        when=When.BEFORE_BOOTLOADER,
        deadline=90.0,
        expect="/target",
        parameters={"SIZE": "1 G", "_x1": ""},
    )


@pytest.mark.parametrize(
    ("value", "seconds"), [("90", 90), ("0.5", 0.5), ('"90s"', 90), ('"5 m"', 300), ('"2h"', 7200), ('"24h"', 86400)]
)
def test_deadlines(value: str, seconds: float) -> None:
    """Seconds as a number, or a text with a unit."""
    assert loaded(f'name = "a"\ncommand = ["x"]\ndeadline = {value}').run[0].deadline == seconds


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('command = ["x"]', "run[0].name: the key 'name' is missing"),
        ('name = "a"', "run[0]: a step has either a script or a command, and neither is given (allowed: script ="),
        ('name = "a"\nscript = "s"\ncommand = ["x"]', "run[0]: a step has either a script or a command, and both"),
        ('name = "a"\ncommand = []', "run[0].command: the command is empty"),
        ('name = "a"\ncommand = [""]', "run[0].command: the command is empty"),
        ('name = "a"\ncommand = "x"', "run[0].command: 'x' is not a list of texts"),
        ('name = "a"\ncommand = ["x", "a\\u0000"]', "run[0].command: no argument can hold a zero byte"),
        ('name = "a"\nscript = 7', "run[0].script: 7 has the wrong type"),
        ('name = ""\ncommand = ["x"]', "run[0].name: '' cannot be a step's name"),
        ('name = " a"\ncommand = ["x"]', "run[0].name: ' a' cannot be a step's name"),
        ('name = "a/b"\ncommand = ["x"]', "run[0].name: 'a/b' cannot be a step's name"),
        ('name = ".."\ncommand = ["x"]', "run[0].name: '..' cannot be a step's name"),
        ('name = "a\\nb"\ncommand = ["x"]', r"run[0].name: 'a\nb' cannot be a step's name"),
        ('name = "a\\u001bb"\ncommand = ["x"]', r"run[0].name: 'a\x1bb' cannot be a step's name"),
        (f'name = "{"x" * 61}"\ncommand = ["x"]', "run[0].name: the name has 61 characters (allowed: at most 60)"),
        ('name = "mount the target"\ncommand = ["x"]', "run[0].name: 'mount the target' is a step that builds have"),
        ('name = "install GRUB"\ncommand = ["x"]', "run[0].name: 'install GRUB' is a step that builds have"),
        ('name = "a"\ncommand = ["x"]\ninside = "host"', "run[0].inside: 'host' is not known"),
        ('name = "a"\ncommand = ["x"]\nwhen = "later"', "run[0].when: 'later' is not known"),
        ('name = "a"\ncommand = ["x"]\nscripts = "x"', "run[0].scripts: unknown key 'scripts'; did you mean 'script'?"),
        ('name = "a"\ncommand = ["x"]\nexpect = "a\\nb"', r"run[0].expect: 'a\nb' is not text that one line can"),
        (f'name = "a"\ncommand = ["x"]\nexpect = "{"x" * 1001}"', "run[0].expect: the text has 1001 characters"),
        ('name = "a"\ncommand = ["x"]\nparameters = ["A"]', "run[0].parameters: ['A'] is not a table of texts"),
        ('name = "a"\ncommand = ["x"]\nparameters = { A = 1 }', "run[0].parameters: {'A': 1} is not a table of texts"),
        ('name = "a"\ncommand = ["x"]\nparameters = { a-b = "" }', "run[0].parameters.a-b: 'a-b' cannot be a variable"),
        ('name = "a"\ncommand = ["x"]\nparameters = { DISK = "" }', "run[0].parameters.DISK: every step is given this"),
        ('name = "a"\ncommand = ["x"]\nparameters = { A = "\\u0000" }', "run[0].parameters.A: no variable can hold"),
        *(
            (f'name = "a"\ncommand = ["x"]\ndeadline = {value}', f"run[0].deadline: {shown} is not a time (allowed:")
            for value, shown in {
                "0": "0", "-1": "-1", "inf": "inf", "nan": "nan", "true": "True", '"90"': "'90'", '"1d"': "'1d'",
                '"0s"': "0.0", "86401": "86401", "[]": "[]",
            }.items()
        ),
    ],
)  # fmt: skip
def test_what_is_refused(lines: str, words: str) -> None:
    """Each in one sentence that names the key."""
    with pytest.raises(SpecError) as refused:
        loaded(lines)
    assert str(refused.value).startswith(f"/definitions/image.toml: {words}")


def test_names_are_unique() -> None:
    """Two steps of one name could not be told apart."""
    with pytest.raises(SpecError, match=r"run\[2\].name: run\[0\] has the same name"):
        loaded(*(f'name = "{name}"\ncommand = ["x"]' for name in "aba"))


@pytest.mark.parametrize(
    "base",
    [
        '[image]\nname = "x"\n[[partition]]\ntype = "swap"\nsize-min = "1M"\n',
        '[image]\nname = "x"\n[root]\nsource = { nix = "/nix/store/a" }\n[nix]\nstore-only = true\n',
    ],
)
def test_no_machine(base: str) -> None:
    """Declared partitions and the store alone are made without a machine: there is nothing that a step could run in."""
    with pytest.raises(SpecError, match="run: this image is made without a machine in which a step could run"):
        loaded('name = "a"\ncommand = ["x"]', base=base)


def test_built_in_names() -> None:
    """Every name that a build's own steps have is known as such."""
    seen = set()
    for table in (PartitionTable.EFI, PartitionTable.EFIXBOOTLDR):
        for filesystem in ("ext4", "xfs", "erofs"):
            base = BASE.replace("[root]", f'partition-table = "{table.value}"\n[root]\nfilesystem = "{filesystem}"')
            seen |= {step.name for step in steps_of(loaded(base=base + LOADER), contents=True)}
    assert len(seen) == 12
    assert seen <= BUILT_IN


def test_order() -> None:
    """Before or after the bootloader, in the order of the definition; before the seal, also of a packed root."""
    runs = [
        f'name = "{name}"\nscript = "s"\nwhen = "{when}"'
        for name, when in [("1", "after-bootloader"), ("2", "before-bootloader"), ("3", "after-bootloader")]
    ]
    runs.append('name = "4"\nscript = "s"\nwhen = "before-bootloader"')
    for filesystem in ("ext4", "squashfs"):
        base = BASE.replace("[root]", f'[root]\nfilesystem = "{filesystem}"')
        names = [step.name for step in steps_of(loaded(*runs, base=base + LOADER))]
        first = names.index("mount the target") + 1
        loader = "install systemd-boot"
        assert names[first : first + 6] == ["2", "4", loader, "1", "3", "remove what machines must not share"]
        assert ("pack the root filesystem" in names[first + 6 :]) == (filesystem == "squashfs")


def test_step_of_a_script() -> None:
    """The script's place, digest and size are in the plan; deadlines grow where the guest is emulated."""
    (declared,) = [step for step in steps_of(loaded('name = "a b"\nscript = "x/fix.sh"'), Accelerator.TCG) if step.file]
    data = b"#!/bin/sh\n"
    path = "/target/run/vmharness-steps/a b"
    assert declared.file == StepFile(name="a b", path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    assert declared.deadline == 120.0 * Accelerator.TCG.time_scale > 120.0
    assert declared.script == "declared-step"
    assert shlex.split(declared.parameters["COMMAND"]) == ["/run/vmharness-steps/a b"]
    assert declared.parameters["SCRIPT"] == path
    assert declared.parameters["WHAT"] == "the script 'fix.sh'"
    json.dumps(dict(declared.parameters))


def test_what_a_step_is_told() -> None:
    """The same as an installer, as it looks from where the step runs, and the user's own variables."""
    text = 'command = ["a b", "$x"]\nparameters = { A = "it\'s $x\\n" }'
    spec = loaded(f'name = "1"\n{text}', f'name = "2"\ninside = "appliance"\n{text}', base=BASE + LOADER)
    inside, outside = (step for step in steps_of(spec) if step.script == "declared-step")
    assert shlex.split(inside.parameters["COMMAND"]) == shlex.split(outside.parameters["COMMAND"]) == ["a b", "$x"]
    told, told_outside = (
        dict(word.split("=", 1) for word in shlex.split(step.parameters["SETTINGS"])) for step in (inside, outside)
    )
    assert told == {
        "ESP": "/efi",
        "KERNEL_PARAMETERS": "rw",
        "ROOT_ARGUMENT": f"root=PARTUUID={IDENTIFIERS.root_guid}",
        "A": "it's $x\n",
    }
    assert told_outside == {**told, "ESP": "/target/efi", "TARGET": "/target"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b"])
def test_a_step_file_is_in_its_folder(name: str) -> None:
    """No name, wherever it comes from, leads out of the folder of scripts."""
    with pytest.raises(ValueError, match="cannot be a file name"):
        step_file(name, b"")
