"""The tree of a declared partition: its source, and over it copies, store paths, contents and directories."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from vmharness.errors import SpecError
from vmharness.host import cache, index, proc
from vmharness.host.index import Index
from vmharness.host.staged import StagedFile, files
from vmharness.model.declared import Copy, DeclaredContent, DeclaredPartition, StorePrefix
from vmharness.model.image import Content
from vmharness.model.results import StagedTree, TreeMeasure
from vmharness.tree import lookup
from vmharness.tree.contents import stage_contents
from vmharness.tree.measure import survey
from vmharness.tree.nixstore import STORE
from vmharness.tree.sources import expand
from vmharness.tree.staging import filled
from vmharness.tree.storepaths import closure_of, closure_stream
from vmharness.tree.stream import Stream
from vmharness.tree.unpack import Unpacker, new_tree, unpack_members

_NOTHING = TreeMeasure(data_blocks=0, inodes=0, directory_blocks=0, extra_blocks=0)
_FORMAT = 1  # of a composed tree: raise it when the same inputs come to mean another one


@frozen(kw_only=True)
class Place:
    """Where a partition stands in its definition, for messages: the file, and the key of its table."""

    origin: str
    key: str

    def error(self, key: str, what: str) -> SpecError:
        """An error about one of its keys."""
        return SpecError(what, origin=self.origin, key=f"{self.key}.{key}")


def compose(
    part: DeclaredPartition, base: StagedTree | None, trees: Mapping[str, StagedTree], place: Place
) -> StagedTree:
    """Everything that a partition is to hold, from the cache or made now.

    :param base: its staged source, if it has one.
    :param trees: the staged sources of all partitions, by role: contents may come from them.
    :raises SpecError: something is missing, cannot be read, or does not fit together.
    :raises HostError: the cache cannot be written.
    """
    if base is not None and not (part.copies or part.contents or part.directories or part.store_paths):
        return base
    contents = [_on_host(content, trees, number, place) for number, content in enumerate(part.contents)]
    copies = [(copy.target, _resolved(copy, place)) for copy in part.copies]
    store = part.nix_store.resolve() if part.nix_store else None
    closure = closure_of(part.store_paths, store, origin=place.origin, key=f"{place.key}.store-paths")
    inputs = {
        "composed": _FORMAT,
        "base": base.identity if base else "",
        "copies": [(target, _identity(path, place), os.getuid()) for target, path in copies],
        "store": [{path.path: path.nar_hash for path in closure}, part.nix_store_prefix.value],
        "contents": [_facts(content, number, place) for number, content in enumerate(contents)],
        "directories": part.directories,
    }

    def fill(data: Path, database: Path) -> None:
        with new_tree(data, database) as entries, _Composer(data, entries) as composer:
            if base is not None:
                composer.lay(base)
            for target, path in copies:
                with _packed(path) as stream:
                    composer.copy(stream, target, is_file=not path.is_dir())
            if closure:
                with closure_stream([path.path for path in closure], store) as stream:
                    composer.unpack(stream, STORE if part.nix_store_prefix is StorePrefix.KEEP else "/")
            _graft(contents, data, composer, place)
            for directory in part.directories:
                composer.make_directory(directory)

    return filled(inputs, fill, what="the files", origin=place.origin, key=place.key)


def _graft(contents: Sequence[Content], data: Path, composer: _Composer, place: Place) -> None:
    """Lay grafted files over what is there already."""
    beneath = StagedTree(directory=data, index=None, owner_root=False, identity="", measure=_NOTHING)
    archive = data.parent / "contents.tar"
    if stage_contents(contents, beneath, archive, origin=place.origin, key=f"{place.key}.contents") is None:
        return
    with archive.open("rb", buffering=0) as file:
        composer.unpack(Stream(file.fileno()), "/")
    archive.unlink()


class _Composer(Unpacker):
    """Puts trees and archives into one tree, each at its place."""

    def __init__(self, data: Path, entries: Index) -> None:
        super().__init__(data, entries, rooted=True)
        self._data = data
        self._target = ""
        self._is_file = False
        self._own: tuple[int, int] | None = None

    def add(self, info: tarfile.TarInfo, stream: Stream) -> None:
        """Unpack one member at the present place."""
        info.name = self._target if self._is_file else f"{self._target}/{info.name}"
        if info.islnk():
            info.linkname = f"{self._target}/{info.linkname}"
        if self._own is not None:
            info.uid = 0 if info.uid == self._own[0] else info.uid
            info.gid = 0 if info.gid == self._own[1] else info.gid
        super().add(info, stream)

    def unpack(self, stream: Stream, target: str) -> None:
        """Unpack an archive at ``target``."""
        self._target = target.strip("/") or "."
        unpack_members(stream, self)

    def copy(self, stream: Stream, target: str, *, is_file: bool) -> None:
        """Unpack an archive of the host's files, of which those of an ordinary user who builds are meant to be root's.

        :param is_file: whether the archive's only member is what is to be at ``target``.
        """
        self._is_file = is_file
        self._own = (os.getuid(), os.getgid()) if os.getuid() else None
        self.unpack(stream, target)
        self._is_file, self._own = False, None

    def make_directory(self, path: str) -> None:
        """Make a directory and what is missing above it; one that is there stays as it is."""
        parts = [part for part in os.fsencode(path).split(b"/") if part]
        for count in range(1, len(parts) + 1):
            if not os.path.lexists(os.fsencode(self._data) + b"/" + b"/".join(parts[:count])):
                member = tarfile.TarInfo(os.fsdecode(b"/".join(parts[:count])))
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                super().add(member, Stream(-1))

    def lay(self, tree: StagedTree) -> None:
        """Copy a staged tree, the first thing that is put here."""
        links: dict[tuple[int, int], bytes] = {}
        for file in files(tree):
            self._lay(file, links)

    def _lay(self, file: StagedFile, links: dict[tuple[int, int], bytes]) -> None:
        parent, _, name = file.path.rpartition(b"/")
        self._entries.put(parent, name, file.metadata)
        target = os.fsencode(self._data) + b"/" + file.path
        mode, status = file.status.st_mode, file.status
        first = links.setdefault((status.st_dev, status.st_ino), target)
        if not file.path:
            self._unstated = file.metadata
        elif stat.S_ISDIR(mode):
            os.mkdir(target, 0o700)  # noqa: PTH102 -- names are bytes here, and below
        elif first != target:
            os.link(first, target, follow_symlinks=False)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(file.place), target)  # noqa: PTH115, PTH211
        elif stat.S_ISREG(mode):
            _copy_file(file.place, target, status.st_size)
        else:
            os.mkfifo(target, 0o600)


def _copy_file(source: bytes, target: bytes, size: int) -> None:
    """Copy a file's data; holes stay holes, and blocks are shared where the filesystem can."""
    place = Path(os.fsdecode(source)), Path(os.fsdecode(target))
    with place[0].open("rb", buffering=0) as reader, place[1].open("xb", buffering=0) as writer:
        os.fchmod(writer.fileno(), 0o600)
        writer.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                return
            end = os.lseek(reader.fileno(), at, os.SEEK_HOLE)
            while at < end:
                copied = os.copy_file_range(reader.fileno(), writer.fileno(), end - at, at, at)
                if not copied:
                    return
                at += copied


def _on_host(content: DeclaredContent, trees: Mapping[str, StagedTree], number: int, place: Place) -> Content:
    """The same with a source on the host: that of a file of another tree is where the tree is staged."""
    known = {key: value for key, value in asdict(content, recurse=False).items() if key != "tree"}
    if content.tree is None:
        return Content(**known)
    tree = trees[content.tree]
    found = lookup.find(tree, content.source)
    if found is None or not found.is_file() or found.is_symlink():
        what = f"the source of '{content.tree}' has no file {content.source}"
        raise place.error(f"contents[{number}].source", what)
    mode = content.mode
    if mode is None and tree.index is not None:
        with index.read(tree.index) as entries:
            parent, _, name = lookup.resolve(tree, os.fsencode(content.source)).rpartition(b"/")
            metadata = entries.get(parent, name)
            mode = None if metadata is None else stat.S_IMODE(metadata.mode)
    return Content(**{**known, "source": str(found), "mode": mode})


def _resolved(copy: Copy, place: Place) -> Path:
    """The file or directory that is copied, links followed inside the root that it is relative to."""
    root = StagedTree(directory=copy.root, index=None, owner_root=False, identity="", measure=_NOTHING)
    found = lookup.find(root, copy.source)
    if found is None:
        raise SpecError(
            f"there is no {copy.source} below {copy.root}",
            hint="sources are relative to --root DIR, which is the folder of the definitions unless it is given; "
            "--root / takes them from this machine",
            origin=place.origin,
            key=f"{place.key}.CopyFiles",
        )
    return found


def _facts(content: Content, number: int, place: Place) -> dict[str, Any]:
    """Everything that decides what an entry grafts."""
    try:
        _matched, sources = expand(content.source)
        found = [(os.fsdecode(source.name), _identity(source.path, place)) for source in sources]
    except OSError as error:
        what = f"cannot read {error.filename or content.source}: {error.strerror}"
        raise place.error(f"contents[{number}].source", what) from error
    return {**asdict(evolve(content, source="")), "sources": found}


def _identity(path: Path, place: Place) -> str:
    """What tells a file or a directory from another."""
    try:
        if path.is_dir() and not path.is_symlink():
            return survey(path.resolve()).identity
        status = path.stat() if path.exists() else path.lstat()
        what = cache.remembered_digest(path) if path.is_file() else str(path.readlink())
    except OSError as error:
        raise place.error("contents", f"cannot read {error.filename or path}: {error.strerror}") from error
    return f"{what} {status.st_mode:o} {status.st_uid} {status.st_gid} {status.st_mtime_ns}"


@contextmanager
def _packed(path: Path) -> Iterator[Stream]:
    """A file or directory as a tar archive with exact times and all extended attributes."""
    argv: list[str | Path] = ["tar", "--create", "--format=posix", "--sparse", "--sort=name", "--numeric-owner"]
    argv += ["--xattrs", "--xattrs-include=*"]
    argv += ["--directory", path, "."] if path.is_dir() else ["--directory", path.parent, f"./{path.name}"]
    with proc.pipe_from(argv, doing=f"reading {path}", env={"TAR_OPTIONS": ""}) as pipe:
        stream = Stream(pipe.fileno())
        yield stream
        stream.drain()
