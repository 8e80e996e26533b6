"""From a tree to a populated root filesystem, against ``mke2fs -d`` and ``cp -a`` of the same tree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from bench.builds import staged_if_cached
from bench.context import Context
from bench.figures import Figure, compared
from bench.measure import Sample, Stopwatch, interleave
from bench.trees import make_tree
from vmharness.disk import image
from vmharness.disk.filesystems import make_ext4
from vmharness.host import proc
from vmharness.model.image import DirectorySource, SourceOwner
from vmharness.model.partitions import Ext4
from vmharness.model.results import StagedTree
from vmharness.plan.sizing import root_size
from vmharness.tree.directory import stage_directory

_MOST = 1.5  # times mke2fs -d
_ENTRIES, _DATA = 9_000, 170_000_000
_UUID = UUID("5a1f0c5e-7d1e-4a55-9c55-1c6a2f5d7b11")


def measure(context: Context) -> tuple[Figure, ...]:
    """A generated tree, and the Debian example's where the cache has it."""
    context.say(f"making a tree of {_ENTRIES} entries")
    make_tree(context.scratch / "tree", entries=_ENTRIES, data=_DATA)
    figures = list(_compare(f"a directory ({_ENTRIES:,} entries, {_DATA / 1e6:.0f} MB)", context, None))
    debian = staged_if_cached()
    if debian is not None:
        figures += _compare(f"the unpacked Debian tree ({debian.measure.inodes:,} inodes)", context, debian)
    return tuple(figures)


def _compare(what: str, context: Context, staged: StagedTree | None) -> Iterator[Figure]:
    """Figures for one tree. A directory is looked through before it is laid on the disk, in every build; an archive's
    tree was, when it was unpacked into the cache.
    """
    context.say(f"populating filesystems from {what}")
    directory = staged.directory if staged is not None else context.scratch / "tree"
    source = DirectorySource(path=directory, owner=SourceOwner.ROOT)
    tree = staged or stage_directory(source, origin="benchmark")
    size = root_size(tree.measure, 64 << 20)
    ext4 = Ext4(label="root", uuid=_UUID, hash_seed=_UUID, size=size.size, inodes=size.inodes)
    numbers = itertools.count()

    def ours() -> Sample:
        disk = context.scratch / f"disk-{next(numbers)}"
        watch = Stopwatch()
        image.create(disk, ext4.size)
        make_ext4(disk, 0, ext4, tree if staged is not None else stage_directory(source, origin="benchmark"))
        return _ended(watch, disk)

    def mke2fs() -> Sample:
        disk = context.scratch / f"disk-{next(numbers)}"
        argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-N", ext4.inodes, "-d", directory, disk, f"{ext4.size // 1024}k"]
        watch = Stopwatch()
        proc.run([str(word) for word in argv], doing="populating a filesystem")
        return _ended(watch, disk)

    def copy() -> Sample:
        target = context.scratch / f"copy-{next(numbers)}"
        watch = Stopwatch()
        proc.run(["cp", "-a", "--", directory, target], doing="copying a tree")
        return watch.sample()

    mke2fs()  # not counted: afterwards the tree is in the page cache, or as much of it as will ever be
    taken = interleave({"ours": ours, "mke2fs": mke2fs, "copy": copy}, context.rounds)
    yield from compared(f"root filesystem from {what}", taken["ours"], "`mke2fs -d`", taken["mke2fs"], at_most=_MOST)
    yield from compared(f"root filesystem from {what}", taken["ours"], "`cp -a`", taken["copy"])


def _ended(watch: Stopwatch, disk: Path) -> Sample:
    """What it took; the disk goes away."""
    sample = watch.sample()
    disk.unlink()
    return sample
