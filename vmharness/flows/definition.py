"""Image definitions as they lie on the host: a TOML file, or a folder of systemd-repart's definition files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vmharness.errors import SpecError
from vmharness.model.image import ImageSpec
from vmharness.plan.load import load
from vmharness.plan.repart import DefinitionFile, load_repart


def read_definition(definition: Path, root: Path | None = None) -> ImageSpec:
    """The definition in a file or folder.

    :param root: the directory that the paths in a folder's files are relative to; None for the folder itself.
    :raises SpecError: it cannot be read, or is wrong.
    """
    if definition.is_dir():
        files = _definition_files(definition)
        if not files:
            raise SpecError(
                "the folder holds no definition files",
                origin=str(definition),
                hint="name a TOML file, or a folder with files such as 10-esp.conf (repart.d(5))",
            )
        return load_repart(files, definition, (root or definition).absolute())
    if root is not None:
        raise SpecError(
            "paths in a TOML definition are relative to the file",
            origin="<command line>",
            key="--root",
            allowed="with a folder of systemd-repart's definition files",
        )
    return load(_text(definition), definition)


def digest(definition: Path) -> str:
    """The SHA-256 of a definition file; of a folder, that over its files' names and texts."""
    if not definition.is_dir():
        return hashlib.sha256(definition.read_bytes()).hexdigest()
    found = hashlib.sha256()
    for _name, files in sorted(_definition_files(definition).items()):
        for file in files:
            found.update(f"{file.path.relative_to(definition)}\0{file.text}\0".encode())
    return found.hexdigest()


def _definition_files(folder: Path) -> dict[str, list[DefinitionFile]]:
    """Each ``*.conf`` by its name, with the drop-ins of its ``*.conf.d`` behind it."""
    found = {}
    for path in sorted(folder.glob("*.conf")):
        if path.is_file():
            paths = [path, *sorted((folder / f"{path.name}.d").glob("*.conf"))]
            found[path.name] = [DefinitionFile(path=part, text=_text(part)) for part in paths]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"cannot read the image definition: {error.strerror}", origin=str(path)) from error
    except UnicodeDecodeError as error:
        raise SpecError("the image definition is not UTF-8 text", origin=str(path)) from error
