"""The root source ``tar``: an archive, plain or compressed."""

from __future__ import annotations

from vmharness.errors import HostError, SpecError
from vmharness.host import cache, proc
from vmharness.model.results import StagedTree
from vmharness.model.sources import TarSource
from vmharness.tree.staging import staged
from vmharness.tree.stream import compression_of, open_archive

KEY = "root.source.tar"


def stage_tar(source: TarSource, *, origin: str) -> StagedTree:
    """Unpack an archive into the cache, where it is found again by its digest.

    :param origin: the definition file, for messages.
    :raises SpecError: the archive is missing, unreadable, damaged, or has members that would escape from the tree.
    :raises HostError: its decompressor is missing, or the cache cannot be written.
    """
    path = source.path
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise SpecError(f"{path} {what}", origin=origin, key=KEY)
        program = compression_of(path)
        digest = cache.remembered_digest(path)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}", origin=origin, key=KEY) from error
    if program is not None:
        proc.require(program)
    try:
        return staged({"tar": digest}, lambda: open_archive(path), what=str(path), origin=origin, key=KEY)
    except HostError as error:
        if program is not None and f": {program} " in error.what:
            raise SpecError(error.what, origin=origin, key=KEY) from error
        raise
