"""The grafted files: found, given owners of the target, and packed into one archive for the guest."""

from __future__ import annotations

import difflib
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from vmharness.errors import HostError, SpecError
from vmharness.model.image import Content
from vmharness.model.results import StagedContents, StagedTree, TreeMeasure
from vmharness.tree import lookup
from vmharness.tree.sources import Source, expand

_BLOCK = 4096
_LAST_ID = (1 << 32) - 2


@frozen(kw_only=True)
class _Grafted:
    """One member of the archive: where it comes from, and for which entry (None for a directory on the way to one)."""

    member: tarfile.TarInfo
    data: Path | None
    entry: int | None


def stage_contents(
    contents: Sequence[Content], tree: StagedTree, archive: Path, *, origin: str, key: str = "contents"
) -> StagedContents | None:
    """Pack all grafted files into a GNU tar archive with numeric owners, to be unpacked over the tree.

    Only members with extended attributes have a header of the POSIX format: GNU tar reads both, and names of any bytes
    are plain in its own.

    A target's symbolic links are followed inside the tree. Directories that the tree has keep their metadata, except a
    target itself whose entry states an owner or a directory mode; directories that are missing on the way are root's.

    :param archive: where to write.
    :param origin: the definition file, and ``key`` the list's place in it, for messages.
    :returns: None where there is nothing to graft.
    :raises SpecError: a missing source, an unknown user, a target given twice or outside of the tree, and the like.
    :raises HostError: the archive cannot be written.
    """
    if not contents:
        return None
    graft = _Graft(tree, origin, key)
    for number, content in enumerate(contents):
        graft.add(number, content)
    try:
        with tarfile.open(
            archive, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as output:
            for grafted in graft.members.values():
                _write(output, grafted)
    except OSError as error:
        raise HostError(f"packing the contents into {archive}: {error.strerror}") from error
    return StagedContents(archive=archive, measure=graft.measure())


def _write(output: tarfile.TarFile, grafted: _Grafted) -> None:
    output.format = tarfile.PAX_FORMAT if grafted.member.pax_headers else tarfile.GNU_FORMAT
    if grafted.data is None:
        output.addfile(grafted.member)
        return
    with grafted.data.open("rb") as data:
        # the header is made from the file that is read now
        grafted.member.size = os.fstat(data.fileno()).st_size
        output.addfile(grafted.member, data)


class _Graft:
    """Collects members under their final paths, parents first."""

    def __init__(self, tree: StagedTree, origin: str, key: str) -> None:
        self._tree = tree
        self._origin = origin
        self._key = key
        self._users = lookup.users(tree)
        self._groups = lookup.groups(tree)
        self._targets: dict[bytes, int] = {}
        self._links: dict[tuple[int, int, int], str] = {}
        self.members: dict[bytes, _Grafted] = {}

    def add(self, number: int, content: Content) -> None:
        """Graft one entry."""
        owner = self._owner(number, content)
        target = os.fsencode(content.target)
        if b".." in target.split(b"/") or not target.startswith(b"/"):
            raise self._error(number, "target", f"{content.target!r} is not an absolute path without '..'")
        matched, sources = self._expand(number, content)
        for source in sources:
            path = target + b"/" + source.name if matched else target
            self._add_tree(number, content, owner, source, path)

    def measure(self) -> TreeMeasure:
        """The cost of everything collected."""
        data = sum(-(-grafted.member.size // _BLOCK) for grafted in self.members.values())
        return TreeMeasure(
            data_blocks=data,
            inodes=len(self.members),
            # each name may make a directory of the tree grow by a block
            directory_blocks=2 * len(self.members),
            extra_blocks=sum(
                grafted.member.issym() or bool(grafted.member.pax_headers) for grafted in self.members.values()
            ),
        )

    def _expand(self, number: int, content: Content) -> tuple[bool, list[Source]]:
        try:
            matched, sources = expand(content.source)
        except OSError as error:
            what = f"cannot read {error.filename or content.source}: {error.strerror}"
            raise self._error(number, "source", what) from error
        if not sources:
            what = "nothing matches" if matched else "there is no file or directory"
            raise self._error(number, "source", f"{what} {content.source}")
        return matched, sources

    def _add_tree(self, number: int, content: Content, owner: tuple[int, int], source: Source, path: bytes) -> None:
        """Graft a source and what is below it, at ``path`` of the tree."""
        place = self._place(number, path, is_directory=source.is_directory)
        if place in self._targets:
            raise self._twice(self._targets[place], number, place)
        self._targets[place] = number
        todo = [(source, place, True)]
        while todo:
            item, place, named = todo.pop()
            self._add_one(number, content, owner, item, place, named=named)
            if item.is_directory:
                below = [
                    (child, place + b"/" + child.name if place else child.name)
                    for child in self._children(number, item)
                ]
                todo += [
                    (child, self._place(number, path, is_directory=child.is_directory), False)
                    for child, path in reversed(below)
                ]

    def _children(self, number: int, source: Source) -> Iterator[Source]:
        try:
            yield from source.children()
        except OSError as error:
            what = f"cannot read {error.filename or source.path}: {error.strerror}"
            raise self._error(number, "source", what) from error

    def _place(self, number: int, path: bytes, *, is_directory: bool) -> bytes:
        """The final path of a target: links of the tree followed, those of the last component for directories only."""
        try:
            if is_directory:
                place = lookup.resolve(self._tree, path)
            else:
                parent, _, name = path.rstrip(b"/").rpartition(b"/")
                place = b"/".join(part for part in (lookup.resolve(self._tree, parent), name) if part)
        except ValueError as error:
            raise self._error(number, "target", str(error)) from error
        kind = lookup.file_type(self._tree, place)
        if is_directory and kind not in {None, stat.S_IFDIR}:
            raise self._error(number, "target", f"/{_text(place)} is not a directory in the tree")
        if not is_directory and kind == stat.S_IFDIR:
            raise self._error(number, "target", f"/{_text(place)} is a directory in the tree; name the file in it")
        return place

    def _add_one(  # noqa: PLR0913 -- one call, all of it needed
        self, number: int, content: Content, owner: tuple[int, int], source: Source, place: bytes, *, named: bool
    ) -> None:
        exists = source.is_directory and lookup.file_type(self._tree, place) is not None
        stated = named and (content.user is not None or content.directory_mode is not None)
        if exists and not stated:
            return
        self._add_parents(number, place)
        earlier = self.members.get(place)
        if earlier is not None:
            both_directories = source.is_directory and earlier.member.isdir()
            if not both_directories:
                raise self._twice(earlier.entry, number, place)
            if earlier.entry is not None and not stated:
                return
        member = self._member(number, content, source)
        member.name = _text(place) or "."
        member.uid, member.gid = owner
        self._link(number, member, source)
        self.members[place] = _Grafted(member=member, data=source.path if member.isreg() else None, entry=number)

    def _member(self, number: int, content: Content, source: Source) -> tarfile.TarInfo:
        try:
            return source.member(mode=content.mode, directory_mode=content.directory_mode)
        except OSError as error:
            what = f"cannot read {error.filename or source.path}: {error.strerror}"
            raise self._error(number, "source", what) from error

    def _link(self, number: int, member: tarfile.TarInfo, source: Source) -> None:
        """Make the member a hard link if its entry has had another name of the same file."""
        if not member.isreg() or source.status.st_nlink < 2:
            return
        first = self._links.setdefault((number, source.status.st_dev, source.status.st_ino), member.name)
        if first != member.name:
            member.type, member.linkname, member.size, member.pax_headers = tarfile.LNKTYPE, first, 0, {}

    def _add_parents(self, number: int, place: bytes) -> None:
        """Make the directories on the way that the tree lacks."""
        parts = place.split(b"/")[:-1]
        for count in range(1, len(parts) + 1):
            parent = b"/".join(parts[:count])
            earlier = self.members.get(parent)
            if earlier is not None and not earlier.member.isdir():
                raise self._twice(earlier.entry, number, parent)
            if earlier is not None:
                continue
            kind = lookup.file_type(self._tree, parent)
            if kind == stat.S_IFDIR:
                continue
            if kind is not None:
                raise self._error(number, "target", f"/{_text(parent)} is not a directory in the tree")
            member = tarfile.TarInfo(_text(parent))
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            self.members[parent] = _Grafted(member=member, data=None, entry=None)

    def _owner(self, number: int, content: Content) -> tuple[int, int]:
        if content.user is None and content.group is None:
            return 0, 0
        for missing, given in (("user", content.group), ("group", content.user)):
            if getattr(content, missing) is None:
                raise self._error(
                    number, missing, f"is missing: user and group go together, and the other is {given!r}"
                )
        assert content.user is not None
        assert content.group is not None
        return (
            self._number(number, "user", content.user, self._users, "/etc/passwd"),
            self._number(number, "group", content.group, self._groups, "/etc/group"),
        )

    def _number(self, number: int, key: str, name: str, known: dict[str, int], file: str) -> int:
        if name.isdecimal() and int(name) <= _LAST_ID:
            return int(name)
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"give a number, or a {key} of the tree's {file}"
        raise SpecError(
            f"the tree's {file} has no {key} {name!r}",
            hint=hint,
            origin=self._origin,
            key=f"{self._key}[{number}].{key}",
        )

    def _twice(self, first: int | None, second: int, place: bytes) -> SpecError:
        other = "a directory that another entry needs" if first is None else f"{self._key}[{first}]"
        return self._error(second, "target", f"/{_text(place)} is already made by {other}")

    def _error(self, number: int, key: str, what: str) -> SpecError:
        return SpecError(what, origin=self._origin, key=f"{self._key}[{number}].{key}")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
