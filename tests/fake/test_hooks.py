"""The hook after the build: what it is given, what it may do, and what its failure means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vmharness.errors import BuildFailed, SpecError
from vmharness.events import Event, StepOutput
from vmharness.flows import hooks
from vmharness.flows.run import Run
from vmharness.host.rundir import RunDirectory
from vmharness.model.image import HooksSpec, ImageSpec, RootSpec
from vmharness.model.sources import MinimalSource
from vmharness.plan.load import load

IMAGE, VARIABLES = "an image.qcow2", "efi-vars.fd"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Outputs that are not published yet."""
    folder = tmp_path / ".out.x y"
    folder.mkdir()
    (folder / IMAGE).write_bytes(b"disk")
    (folder / VARIABLES).write_bytes(b"store")
    return folder


@pytest.fixture
def said() -> list[Event]:
    """What the run says."""
    return []


@pytest.fixture
def under_way(run: RunDirectory, said: list[Event]) -> Run:
    """A run under way."""
    return Run(directory=run, emit=said.append)


def spec_of(folder: Path, hook: str) -> ImageSpec:
    """A definition in ``folder`` with that hook."""
    text = f'[image]\nname = "x"\n[root]\nsource = {{ minimal = true }}\n[hooks]\nafter-build = {hook}\n'
    return load(text, folder / "image.toml")


def script(folder: Path, text: str) -> None:
    """A program beside the definition."""
    path = folder / "finish"
    path.write_text(f"#!/bin/sh\nset -eu\n{text}\n")
    path.chmod(0o755)


def test_it_gets_the_outputs(tmp_path: Path, outputs: Path, under_way: Run, said: list[Event]) -> None:
    """Image and store come as arguments and in the environment, and it runs where the definition is."""
    script(tmp_path, 'echo "$1|$2|$3"; echo "$IMAGE|$EFI_VARS|$FORMAT|$PWD" >&2; echo more >>"$IMAGE"; touch "$3.sum"')
    hooks.after_build(spec_of(tmp_path, '["./finish", "two words"]'), outputs, IMAGE, VARIABLES, under_way)
    image, store = outputs / IMAGE, outputs / VARIABLES
    lines = [event.line for event in said if isinstance(event, StepOutput)]
    assert lines == [f"two words|{image}|{store}", f"{image}|{store}|qcow2|{tmp_path}"]
    assert image.read_bytes() == b"diskmore\n"
    assert sorted(path.name for path in outputs.iterdir()) == [IMAGE, VARIABLES, f"{VARIABLES}.sum"]


def test_a_text_is_for_the_shell(tmp_path: Path, outputs: Path, under_way: Run, said: list[Event]) -> None:
    """A text is a shell's command, which has the image as its first argument; without a store there is none."""
    hooks.after_build(spec_of(tmp_path, "'echo \"$# $1\" | tr a-z A-Z'"), outputs, IMAGE, None, under_way)
    assert [event.line for event in said if isinstance(event, StepOutput)] == [f"1 {outputs / IMAGE}".upper()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo first; echo 'no key to sign with' >&2; exit 3", r"ended with status 3\n +no key to sign with"),
        ('rm "$1"', "took an image.qcow2 away"),
        ('rm "$2"; ln -s /etc/passwd "$2"', r"left efi-vars.fd, which is not a plain file"),
        ('mkdir "$1.d"', r"left an image.qcow2.d, which is not a plain file"),
        ('touch "${1%/*}/manifest.json"', "left manifest.json, which is the name of ours"),
    ],
)
def test_a_failure_fails_the_build(tmp_path: Path, outputs: Path, under_way: Run, text: str, words: str) -> None:
    """Its last lines are in the error, and the outputs are kept in the run directory."""
    script(tmp_path, text)
    with pytest.raises(BuildFailed, match=words) as caught:
        hooks.after_build(spec_of(tmp_path, '["./finish"]'), outputs, IMAGE, VARIABLES, under_way)
    assert caught.value.step == "run the hook after the build"
    assert caught.value.run_directory == under_way.directory.path
    assert not outputs.exists()
    assert (under_way.directory.path / "outputs").is_dir()


def _nothing(_folder: Path) -> None:
    """No program."""


def _not_executable(folder: Path) -> None:
    (folder / "finish").write_text("#!/bin/sh\n")


def _directory(folder: Path) -> None:
    (folder / "finish").mkdir()


@pytest.mark.parametrize("make", [_nothing, _not_executable, _directory])
@pytest.mark.parametrize("program", ["./finish", "no-such-program-anywhere"])
def test_a_program_that_is_not_there_is_refused(tmp_path: Path, make: Callable[[Path], None], program: str) -> None:
    """Before anything is touched, by its name."""
    make(tmp_path)
    with pytest.raises(SpecError, match=f"hooks.after-build: there is no program '{program}'"):
        hooks.require(spec_of(tmp_path, f'["{program}"]'))


def test_what_can_be_run_is_accepted(tmp_path: Path) -> None:
    """A script beside the definition, a program on PATH, the shell, or nothing at all."""
    script(tmp_path, "true")
    for hook in ('["./finish"]', '["true"]', '["/bin/true"]', '"anything"'):
        hooks.require(spec_of(tmp_path, hook))
    hooks.require(ImageSpec(origin=tmp_path / "x", name="x", root=RootSpec(source=MinimalSource())))


def test_another_script_makes_another_image(tmp_path: Path) -> None:
    """The files that the hook's words name count as inputs of the build; words that name none do not."""
    script(tmp_path, "true")
    spec = spec_of(tmp_path, f'["./finish", "--fast", "key.pem", "{"x" * 5000}"]')
    before = hooks.inputs(spec)
    (tmp_path / "key.pem").write_text("secret")
    with_key = hooks.inputs(spec)
    script(tmp_path, "false")
    assert len(before) == 1
    assert with_key[:1] == before
    assert hooks.inputs(spec)[0] != before[0]
    assert hooks.inputs(spec)[1:] == with_key[1:]
    assert hooks.inputs(ImageSpec(origin=spec.origin, name="x", root=spec.root, hooks=HooksSpec())) == []
