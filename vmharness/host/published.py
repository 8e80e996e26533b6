"""The folders that builds publish, as they are read again."""

from __future__ import annotations

from pathlib import Path

from vmharness.errors import SpecError
from vmharness.model import manifest
from vmharness.model.manifest import MANIFEST_NAME, Manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an output folder.

    :raises SpecError: the folder holds none that this program can read.
    """
    path = directory / MANIFEST_NAME
    try:
        return manifest.from_json(path.read_text("utf-8"))
    except OSError as error:
        raise SpecError(
            f"cannot read {path}: {error.strerror}", hint="name the folder that `vmharness build ... -o` wrote"
        ) from error
    except ValueError as error:
        raise SpecError(f"{path} cannot be used: {error}", hint="build the image again") from error
