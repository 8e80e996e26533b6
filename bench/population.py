"""From a tree to a populated root filesystem, against ``mke2fs -d`` and ``cp -a`` of the same tree."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

from attrs import define, evolve, field, frozen

from bench.builds import debian_source, staged_if_cached
from bench.context import Context, Skip
from bench.figures import AtMost, Figure, Of, compared
from bench.measure import Sample, Stopwatch, interleave
from bench.peak import forget_peak, peak
from bench.trees import make_tree
from vmharness.disk import image
from vmharness.disk.filesystems import make_ext4
from vmharness.host import proc
from vmharness.model.partitions import Ext4
from vmharness.model.results import StagedTree
from vmharness.model.sources import DirectorySource, SourceOwner
from vmharness.plan.sizing import root_size
from vmharness.tree.directory import stage_directory

_MOST = 1.2  # times mke2fs -d; also of what a byte or an entry costs in a larger tree
_MEMORY = AtMost(limit=200, of=Of.VALUE)  # MB
_UUID = UUID("5a1f0c5e-7d1e-4a55-9c55-1c6a2f5d7b11")


@frozen(kw_only=True)
class Size:
    """How large a generated tree is.

    :param entries: files, folders and links.
    :param data: bytes.
    """

    entries: int
    data: int

    def __str__(self) -> str:
        return f"{self.data / 1e6:,.0f} MB in {self.entries:,} entries"


@frozen(kw_only=True)
class Series:
    """Trees that differ in one thing, from small to large.

    :param of: what they show the costs of, and ``per`` how many of it a tree has.
    :param large: only measured when that is asked for.
    """

    of: str
    per: Callable[[Size], float]
    sizes: tuple[Size, ...]
    large: Size


_BYTES = Series(
    of="GB",
    per=lambda size: size.data / 1e9,
    sizes=(Size(entries=10, data=170_000_000), Size(entries=10, data=2_000_000_000)),
    large=Size(entries=10, data=10_000_000_000),
)
_ENTRIES = Series(
    of="1,000 entries",
    per=lambda size: size.entries / 1e3,
    sizes=(Size(entries=9_000, data=170_000_000), Size(entries=100_000, data=2_000_000_000)),
    large=Size(entries=1_000_000, data=10_000_000_000),
)
_SPACE = 2.5  # times the data of a large tree: itself, and one disk


def measure(context: Context) -> tuple[Figure, ...]:
    """Generated trees, and the Debian example's where the cache has it."""
    figures: list[Figure] = []
    for series in (_BYTES, _ENTRIES):
        figures += _series(series, series.sizes, context)
    debian = staged_if_cached(debian_source())
    if debian is not None:
        what = f"the unpacked Debian tree ({debian.measure.inodes:,} inodes)"
        figures += _Contest(what=what, directory=debian.directory, context=context, staged=debian).figures(copy=True)
    return tuple(figures)


def measure_many_bytes(context: Context) -> tuple[Figure, ...]:
    """10 GB in few files."""
    return _large(_BYTES, context)


def measure_many_entries(context: Context) -> tuple[Figure, ...]:
    """A million entries."""
    return _large(_ENTRIES, context)


def _large(series: Series, context: Context) -> tuple[Figure, ...]:
    """The largest tree of a series beside the smallest; one round."""
    needed = int(series.large.data * _SPACE)
    if not context.large:
        raise Skip(f"it takes long and {needed / 1e9:.0f} GB on the disk; `--large` measures it")
    free = shutil.disk_usage(context.scratch).free
    if free < needed:
        raise Skip(f"the disk has {free / 1e9:.0f} GB free; {needed / 1e9:.0f} GB are needed")
    return tuple(_series(series, (series.sizes[0], series.large), evolve(context, rounds=1)))


def ext4_for(tree: StagedTree) -> Ext4:
    """A root filesystem for a tree, of the size that a build would choose."""
    size = root_size(tree.measure, 64 << 20)
    return Ext4(label="root", uuid=_UUID, hash_seed=_UUID, size=size.size, inodes=size.inodes)


def _series(series: Series, sizes: tuple[Size, ...], context: Context) -> Iterator[Figure]:
    """The figures of each tree, and what its bytes or entries cost beside those of the smallest."""
    smallest: tuple[float, ...] = ()
    for size in sizes:
        folder = context.scratch / f"tree-{size.entries}-{size.data}"
        context.say(f"making a tree of {size}")
        make_tree(folder, entries=size.entries, data=size.data)
        contest = _Contest(what=f"a directory, {size}", directory=folder, context=context)
        cpu, *others = contest.figures(copy=False)
        yield from (cpu, *others)
        each = tuple(sample / series.per(size) for sample in cpu.samples)
        if smallest:
            yield Figure(
                what=f"the same, for {series.of}",
                unit="s CPU",
                samples=each,
                reference=f"{sizes[0]}",
                reference_samples=smallest,
                wanted=AtMost(limit=_MOST, of=Of.RATIO),
            )
        smallest = smallest or each


@define(kw_only=True)
class _Contest:
    """Both ways from one tree to a filesystem.

    :param staged: the tree, where it comes from an archive: it was looked through when it was unpacked into the cache.
        A directory is looked through in every build, so this is counted.
    """

    what: str
    directory: Path
    context: Context
    staged: StagedTree | None = None
    _peaks: list[float] = field(factory=list, init=False)
    _numbers: Iterator[int] = field(factory=itertools.count, init=False)

    def figures(self, *, copy: bool) -> list[Figure]:
        """The comparisons, that of CPU seconds first; then memory.

        :param copy: compare with ``cp -a``, too.
        """
        self.context.say(f"populating filesystems from {self.what}")
        ext4 = ext4_for(self._stage())
        contenders = {"ours": lambda: self._ours(ext4), "mke2fs": lambda: self._mke2fs(ext4)}
        if copy:
            contenders["copy"] = self._copy
        taken = interleave(contenders, self.context.rounds)
        name = f"root filesystem from {self.what}"
        found = list(compared(name, taken["ours"], "`mke2fs -d`", taken["mke2fs"], at_most=_MOST))
        if copy:
            found += compared(name, taken["ours"], "`cp -a`", taken["copy"])
        return [*found, Figure(what=f"memory, {name}", unit="MB", samples=tuple(self._peaks), wanted=_MEMORY)]

    def _stage(self) -> StagedTree:
        source = DirectorySource(path=self.directory, owner=SourceOwner.ROOT)
        return self.staged or stage_directory(source, origin="benchmark")

    def _ours(self, ext4: Ext4) -> Sample:
        disk = self._next("disk")
        forget_peak()
        watch = Stopwatch()
        image.create(disk, ext4.size)
        make_ext4(disk, 0, ext4, self._stage())
        self._peaks.append(peak() / 1e6)
        return _ended(watch, disk)

    def _mke2fs(self, ext4: Ext4) -> Sample:
        disk = self._next("disk")
        argv: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-N", str(ext4.inodes), "-d", self.directory]
        watch = Stopwatch()
        proc.run([*argv, disk, f"{ext4.size // 1024}k"], doing="populating a filesystem")
        return _ended(watch, disk)

    def _copy(self) -> Sample:
        target = self._next("copy")
        watch = Stopwatch()
        proc.run(["cp", "-a", "--", self.directory, target], doing="copying a tree")
        return watch.sample()

    def _next(self, kind: str) -> Path:
        return self.context.scratch / f"{kind}-{self.directory.name}-{next(self._numbers)}"


def _ended(watch: Stopwatch, disk: Path) -> Sample:
    """What it took; the disk goes away."""
    sample = watch.sample()
    disk.unlink()
    return sample
