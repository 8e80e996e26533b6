"""Unpacked trees in the cache: made once, found again, never modified."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from attrs import asdict

from vmharness.errors import HostError, SpecError
from vmharness.host import cache, index
from vmharness.model.results import StagedTree, TreeMeasure
from vmharness.tree.measure import measure_unpacked
from vmharness.tree.stream import Stream
from vmharness.tree.unpack import Damaged, Refused, unpack

_FORMAT = 2  # of an entry: raise it when its meaning changes
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
SPACE_HINT = "free some space, or point TMPDIR and XDG_CACHE_HOME to a larger disk"


def staged(  # noqa: PLR0913 -- what is staged, and how messages name it
    inputs: dict[str, Any],
    open_stream: Callable[[], AbstractContextManager[Stream]],
    *,
    leave_out: frozenset[bytes] = frozenset(),
    what: str,
    origin: str,
    key: str,
) -> StagedTree:
    """The tree of an archive, from the cache or unpacked into it.

    :param inputs: everything that decides what the archive holds, as JSON values; the tree's identity.
    :param open_stream: opens the archive's plain bytes.
    :param leave_out: paths of regular files that are not wanted.
    :param what: the archive's name for messages.
    :param origin: the definition file, and ``key`` the place in it, for messages.
    :raises SpecError: the archive is damaged, or has a member that cannot be unpacked; nothing is left behind.
    :raises HostError: the cache cannot be written.
    """

    def fill(data: Path, database: Path) -> None:
        damaged: Damaged | None = None
        with open_stream() as stream:
            try:
                unpack(stream, data, database, leave_out=leave_out)
            except Damaged as error:
                # leave the stream's block first: its program may know better what is wrong
                damaged = error
        if damaged is not None:
            raise damaged

    return filled(inputs, fill, what=what, origin=origin, key=key)


def filled(
    inputs: dict[str, Any], fill: Callable[[Path, Path], None], *, what: str, origin: str, key: str
) -> StagedTree:
    """The tree that ``fill(data, database)`` unpacks, from the cache or made now; see :func:`staged`.

    :param fill: makes the new directory ``data`` and the new index ``database``; may raise ``Damaged`` and ``Refused``.
    :raises SpecError: it raised one of these; nothing is left behind.
    :raises HostError: the cache cannot be written.
    """

    def make(folder: Path) -> None:
        data, database = folder / "data", folder / "index"
        fill(data, database)
        measure = measure_unpacked(data, database)
        (folder / "measure").write_text(json.dumps(asdict(measure)))

    identity = cache.key_of({"format": _FORMAT, **inputs})
    try:
        place = cache.entry("tree", identity, make)
    except (Damaged, Refused) as error:
        raise SpecError(f"{what}: {error}", origin=origin, key=key) from error
    except OSError as error:
        hint = SPACE_HINT if error.errno in NO_SPACE else None
        raise HostError(f"unpacking {what} into the cache {cache.root()}: {error.strerror}", hint=hint) from error
    with index.read(place / "index") as entries:
        huge = len(entries.spreads())
    return StagedTree(
        directory=place / "data",
        index=place / "index",
        owner_root=False,
        identity=identity,
        measure=TreeMeasure(**json.loads((place / "measure").read_text())),
        huge_directories=huge,
    )
