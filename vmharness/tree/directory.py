"""The root source ``directory``: a tree of the host, used where it lies.

One with a huge directory is copied into the cache as if it had come as an archive: its entries can be spread there,
which mke2fs needs (``tree/spread.py``), and not where the tree lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmharness.errors import SpecError
from vmharness.host import proc
from vmharness.model.results import StagedTree
from vmharness.model.sources import DirectorySource, SourceOwner
from vmharness.tree.measure import survey
from vmharness.tree.staging import staged
from vmharness.tree.stream import Stream

KEY = "root.source.directory"
WORTH_A_COPY = 10_000  # entries in one directory: mke2fs takes three seconds for them


def stage_directory(source: DirectorySource, *, origin: str) -> StagedTree:
    """Look through a directory; nothing is copied unless one of its directories is huge.

    :param origin: the definition file, for messages.
    :raises SpecError: it is missing, or something in it cannot be read.
    :raises HostError: a copy is needed and cannot be made.
    """
    path = source.path
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise SpecError(f"{path} {what}", origin=origin, key=KEY)
    try:
        seen = survey(path.resolve())
    except OSError as error:
        place = path / error.filename if error.filename else path
        raise SpecError(
            f"cannot read {place}: {error.strerror}",
            hint="pack the tree into a tar archive as a user who may read it, and use that as the source",
            origin=origin,
            key=KEY,
        ) from error
    owner_root = source.owner is SourceOwner.ROOT
    if seen.most_entries > WORTH_A_COPY:
        inputs = {"directory": seen.identity, "owner_root": owner_root}
        return staged(inputs, lambda: _packed(path, owner_root=owner_root), what=str(path), origin=origin, key=KEY)
    return StagedTree(
        directory=path.resolve(),
        index=None,
        owner_root=owner_root,
        identity=f"{seen.identity}-root" if owner_root else seen.identity,
        measure=seen.measure,
    )


@contextmanager
def _packed(path: Path, *, owner_root: bool) -> Iterator[Stream]:
    """The directory as a tar archive with exact times and all extended attributes."""
    argv: list[str | Path] = ["tar", "--create", "--format=posix", "--sparse", "--sort=name", "--numeric-owner"]
    argv += ["--xattrs", "--xattrs-include=*", *(("--owner=0", "--group=0") if owner_root else ())]
    argv += ["--directory", path.resolve(), "."]
    with proc.pipe_from(argv, doing=f"reading {path}", env={"TAR_OPTIONS": ""}) as pipe:
        stream = Stream(pipe.fileno())
        yield stream
        stream.drain()
