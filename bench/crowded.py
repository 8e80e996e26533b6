"""One directory with very many entries against the same entries in many directories."""

from __future__ import annotations

import itertools
from pathlib import Path

from bench.context import Context
from bench.figures import Figure, compared
from bench.measure import interleave, timed
from bench.population import ext4_for
from bench.trees import make_archive
from vmharness.disk import image
from vmharness.disk.filesystems import make_ext4
from vmharness.host import index
from vmharness.model.results import StagedTree
from vmharness.tree.measure import measure_unpacked
from vmharness.tree.stream import open_archive
from vmharness.tree.unpack import unpack

_ENTRIES, _FOLDERS = 100_000, 500
_MOST = 1.5
_numbers = itertools.count()


def measure(context: Context) -> tuple[Figure, ...]:
    """From an archive to a root filesystem, both ways."""
    context.say(f"making two archives of {_ENTRIES:,} entries")
    one, many = (context.scratch / name for name in ("one.tar", "many.tar"))
    make_archive(one, entries=_ENTRIES, per_folder=_ENTRIES)
    make_archive(many, entries=_ENTRIES, per_folder=_ENTRIES // _FOLDERS)
    context.say(f"making root filesystems of them, {context.rounds} times")
    taken = interleave(
        {
            "one": lambda: timed(lambda: _lay(one, context.scratch / f"one-{next(_numbers)}")),
            "many": lambda: timed(lambda: _lay(many, context.scratch / f"many-{next(_numbers)}")),
        },
        context.rounds,
    )
    what = f"root filesystem from an archive, {_ENTRIES:,} entries in one directory"
    return compared(what, taken["one"], f"over {_FOLDERS} directories", taken["many"], at_most=_MOST)


def _lay(archive: Path, folder: Path) -> None:
    """Unpack the archive and make the root filesystem, as a build does."""
    folder.mkdir()
    data, database, disk = folder / "data", folder / "index", folder / "disk"
    with open_archive(archive) as stream:
        unpack(stream, data, database)
    with index.read(database) as entries:
        huge = len(entries.spreads())
    tree = StagedTree(
        directory=data,
        index=database,
        owner_root=False,
        identity=archive.name,
        measure=measure_unpacked(data, database),
        huge_directories=huge,
    )
    ext4 = ext4_for(tree)
    image.create(disk, ext4.size)
    make_ext4(disk, 0, ext4, tree)
    disk.unlink()
