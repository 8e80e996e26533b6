"""A whole Debian UEFI image from a tar archive: against its floor and its peers, in CPU seconds of all programs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from attrs import evolve, frozen

from bench import archive, floor, libguestfs, mkosi
from bench.archive import Archive
from bench.builds import build_in
from bench.context import Context
from bench.figures import Figure, compared
from bench.measure import Sample, interleave
from vmharness.host.versions import numbers

_FLOOR, _MKOSI, _GUESTFISH, _CACHED = 1.3, 0.75, 0.2, 0.5  # at most, of theirs; the last of ours from the archive
_UNCACHED = ("tree", "image", "digest")  # what of the cache a first build of an archive does not find
_FROM_ARCHIVE, _FROM_CACHE = "from the archive", "from the cached tree"
_aside = itertools.count()
_DEFINITION = """
[image]
name = "debian"
format = "raw"
partition-table = "efi"
boot-size = "256M"

[root]
source = {{ tar = "{archive}" }}

[bootloader]
install = "systemd-boot"
"""


@frozen(kw_only=True)
class Peer:
    """Another way to the image.

    :param name: what the table calls it.
    :param at_most: mark on the ratio of ours to it.
    :param build: makes the image; None where it cannot be had here, which the name then says.
    """

    name: str
    at_most: float
    build: Callable[[], Sample] | None = None


def measure(context: Context) -> tuple[Figure, ...]:
    """Ours from the archive and from the cached tree, the floor, and the peers that are installed, in turns."""
    context.say("packing the Debian tree")
    source = archive.make(context)
    definition = context.scratch / "debian.toml"
    definition.write_text(_DEFINITION.format(archive=source.path))
    others = peers(context, source)
    contenders = {
        _FROM_ARCHIVE: lambda: _from_archive(definition, context),
        _FROM_CACHE: lambda: build_in(context, definition),
        **{peer.name: peer.build for peer in others if peer.build is not None},
    }
    context.say("saving the appliance's state, and building once in each way")
    for build in contenders.values():
        build()  # not counted: afterwards the appliances are there, and the archive is in the page cache
    context.say(f"building a Debian image in {len(contenders)} ways, {context.rounds} times")
    taken = interleave(contenders, context.rounds)
    what = f"Debian UEFI image, {source.megabytes} MB archive"
    figures = list(
        against(f"{what}, cached tree", taken[_FROM_CACHE], "from the archive", taken[_FROM_ARCHIVE], _CACHED)
    )
    for peer in others:
        figures += against(what, taken[_FROM_ARCHIVE], peer.name, taken.get(peer.name, ()), peer.at_most)
    return tuple(figures)


def against(
    what: str, ours: tuple[Sample, ...], name: str, theirs: tuple[Sample, ...], at_most: float
) -> tuple[Figure, ...]:
    """Both lines of one comparison; the mark is on CPU seconds, where there is something to compare with."""
    cpu, wall = compared(what, ours, name, theirs, at_most=at_most if theirs else None)
    return cpu, evolve(wall, wanted=None)


def peers(context: Context, source: Archive) -> tuple[Peer, ...]:
    """Whoever else can make the image; those that are installed are made ready."""
    return (
        Peer(name="the floor without a guest", at_most=_FLOOR, build=lambda: floor.build(context, source)),
        _mkosi(context, source),
        _guestfish(context, source),
    )


def _mkosi(context: Context, source: Archive) -> Peer:
    version = mkosi.version()
    if version is None or numbers(version) < (mkosi.OLDEST,):
        there = "not installed" if version is None else f"{version} is installed"
        return Peer(name=f"mkosi {mkosi.OLDEST}: {there}", at_most=_MKOSI)
    mkosi.prepare(context, source)
    return Peer(name=f"mkosi {version}", at_most=_MKOSI, build=lambda: mkosi.build(context))


def _guestfish(context: Context, source: Archive) -> Peer:
    version = libguestfs.version()
    if version is None:
        return Peer(name="guestfish with bootctl: not installed", at_most=_GUESTFISH)
    name = f"guestfish {version} with bootctl"
    return Peer(name=name, at_most=_GUESTFISH, build=lambda: libguestfs.build(context, source))


def _from_archive(definition: Path, context: Context) -> Sample:
    """A first build of the archive: appliance and saved state are there, and nothing else."""
    for name in _UNCACHED:
        _put_aside(context.cache / "vmharness" / name, context)
    return build_in(context, definition)


def _put_aside(folder: Path, context: Context) -> None:
    """Take a part out of the cache. It is not deleted: that would slow down who comes next (see ``run.py``)."""
    if folder.exists():
        folder.rename(context.scratch / f"{folder.name}-{next(_aside)}")
