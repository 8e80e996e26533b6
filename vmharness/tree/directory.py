"""The root source ``directory``: a tree of the host, used where it lies."""

from __future__ import annotations

from vmharness.errors import SpecError
from vmharness.model.image import DirectorySource, SourceOwner
from vmharness.model.results import StagedTree
from vmharness.tree.measure import survey

KEY = "root.source.directory"


def stage_directory(source: DirectorySource, *, origin: str) -> StagedTree:
    """Look through a directory; nothing is copied.

    :param origin: the definition file, for messages.
    :raises SpecError: it is missing, or something in it cannot be read.
    """
    path = source.path
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise SpecError(f"{path} {what}", origin=origin, key=KEY)
    try:
        measure, identity = survey(path.resolve())
    except OSError as error:
        place = path / error.filename if error.filename else path
        raise SpecError(
            f"cannot read {place}: {error.strerror}",
            hint="pack the tree into a tar archive as a user who may read it, and use that as the source",
            origin=origin,
            key=KEY,
        ) from error
    owner_root = source.owner is SourceOwner.ROOT
    return StagedTree(
        directory=path.resolve(),
        index=None,
        owner_root=owner_root,
        identity=f"{identity}-root" if owner_root else identity,
        measure=measure,
    )
