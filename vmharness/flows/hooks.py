"""The user's own commands on the host: what they are given, and what their failure means."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from vmharness.disk import image
from vmharness.errors import BuildFailed, HostError, SpecError
from vmharness.flows.run import Run
from vmharness.host import cache, proc
from vmharness.model.image import ImageSpec
from vmharness.model.manifest import MANIFEST_NAME


def require(spec: ImageSpec) -> None:
    """Refuse early a hook that cannot be run.

    :raises SpecError: its program is not there.
    """
    if not spec.hooks.after_build:
        return
    program = _program(spec)
    there = os.access(program, os.X_OK) and Path(program).is_file() if "/" in program else proc.find(program)
    if not there:
        raise SpecError(
            f"there is no program {spec.hooks.after_build[0]!r}",
            origin=str(spec.origin),
            key="hooks.after-build",
            hint="a path is relative to the definition, and the file must be executable",
        )


def inputs(spec: ImageSpec) -> list[str]:
    """Digests of the files that the hook's words name: another script may make another image."""
    words = [_program(spec), *spec.hooks.after_build[1:]] if spec.hooks.after_build else []
    files = (spec.origin.parent / word for word in words if "\0" not in word and "\n" not in word)
    return [cache.digest_of(path) for path in files if _is_file(path)]


def after_build(spec: ImageSpec, folder: Path, image_name: str, variables_name: str | None, run: Run) -> None:
    """Run the hook on the finished outputs, and see to it that what it changed is on the disk.

    :param folder: where the outputs are, not yet published.
    :param variables_name: the variable store's file in it, if one is published.
    :raises BuildFailed: it failed, or took the image or the variable store away; what is there is kept in the run
        directory.
    """
    if not spec.hooks.after_build:
        return
    files = [folder / name for name in (image_name, variables_name) if name is not None]
    environment = {"IMAGE": str(files[0]), "FORMAT": spec.format.value, "EFI_VARS": str(files[1]) if files[1:] else ""}
    argv = [_program(spec), *spec.hooks.after_build[1:], *map(str, files)]
    with run.part("run the hook after the build"):
        try:
            done = proc.run(argv, doing="the hook after the build", cwd=spec.origin.parent, env=environment)
        except HostError as error:
            raise _failed(error.sentence(), folder, run) from error
        for stream, text in (("stdout", done.stdout), ("stderr", done.stderr)):
            for line in text.decode("utf-8", "replace").splitlines():
                run.say(line, stream)
        wrong = _wrong(files, folder)
        if wrong is not None:
            raise _failed(f"the hook after the build {wrong}", folder, run)
        for path in folder.iterdir():
            image.sync(path)


def _wrong(files: list[Path], folder: Path) -> str | None:
    """What the hook has done that cannot be published."""
    for file in files:
        if not os.path.lexists(file):
            return f"took {file.name} away"
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            return f"left {path.name}, which is not a plain file"
        if path.name == MANIFEST_NAME:
            return f"left {path.name}, which is the name of ours"
    return None


def _program(spec: ImageSpec) -> str:
    """The hook's program; a path is relative to the definition."""
    program = spec.hooks.after_build[0]
    return str(spec.origin.parent / program) if "/" in program else program


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a word that is too long for a name
        return False


def _failed(cause: str, folder: Path, run: Run) -> BuildFailed:
    """The error; the outputs are kept as evidence, where a rename does it."""
    with suppress(OSError):  # another filesystem: the disk as it was built may still be in the run directory
        folder.rename(run.directory.path / "outputs")
    return BuildFailed("the build failed", None, None, run.current, cause, run.directory.path)
