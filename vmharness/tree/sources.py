"""The sources of ``contents``: files, directories and globs of the host."""

from __future__ import annotations

import glob
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

_ACCESS_LISTS = {"system.posix_acl_access", "system.posix_acl_default"}


@frozen(kw_only=True)
class Source:
    """One file of the host that is grafted. ``status`` is that of the file itself, or of what a named link leads to."""

    path: Path
    status: os.stat_result

    @property
    def name(self) -> bytes:
        """Its last component."""
        return os.fsencode(self.path.name)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    def children(self) -> Iterator[Source]:
        """What a directory holds, sorted by name; symbolic links stay links.

        :raises OSError: it cannot be read, or holds something that cannot be grafted.
        """
        for path in sorted(self.path.iterdir(), key=os.fsencode):
            yield _source(path, path.lstat())

    def member(self, *, mode: int | None, directory_mode: int | None) -> tarfile.TarInfo:
        """Its archive member, without name, owner and size.

        :raises OSError: it is a link that cannot be read.
        """
        member = tarfile.TarInfo()
        member.mtime = int(self.status.st_mtime)
        if self.is_directory:
            member.type, member.mode = tarfile.DIRTYPE, 0o755 if directory_mode is None else directory_mode
        elif stat.S_ISFIFO(self.status.st_mode):
            member.type, member.mode = tarfile.FIFOTYPE, stat.S_IMODE(self.status.st_mode) if mode is None else mode
        elif stat.S_ISLNK(self.status.st_mode):
            member.type, member.mode = tarfile.SYMTYPE, 0o777
            member.linkname = str(self.path.readlink())
        else:
            member.mode = stat.S_IMODE(self.status.st_mode) if mode is None else mode
            member.size = self.status.st_size
        stated = directory_mode if self.is_directory else mode
        member.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in self._attributes(stated)}
        return member

    def _attributes(self, stated: int | None) -> Iterator[tuple[str, str]]:
        """The extended attributes that belong to the file and not to this host, as a tar archive has them.

        An access control list holds the mode, too: where another one is stated, the list is not meant.

        :raises OSError: they cannot be read.
        """
        link = stat.S_ISLNK(self.status.st_mode)
        for name in sorted(os.listxattr(self.path, follow_symlinks=False)) if not link else ():
            is_list = name in _ACCESS_LISTS
            if (is_list and stated is None) or name.startswith("user.") or name == "security.capability":
                value = os.getxattr(self.path, name, follow_symlinks=False)
                yield name, value.decode("utf-8", "surrogateescape")


def expand(source: str) -> tuple[bool, list[Source]]:
    """What a source means, and whether it was taken for a glob.

    What exists under the very name is meant by it, also if the name has ``*``, ``?`` or ``[``. A link that is named is
    followed; the matches of a glob are taken as they are.

    :raises OSError: something cannot be read, or cannot be grafted.
    """
    path = Path(source)
    if path.exists():
        return False, [_source(path, path.stat())]
    if not glob.has_magic(source):
        return False, []
    # the part of the path that exists as written is no pattern
    base = next(parent for parent in path.parents if parent.is_dir())
    # not Path.glob: it matches hidden files too, which a shell does not
    matches = glob.glob(str(path.relative_to(base)), root_dir=base)  # noqa: PTH207
    return True, [_source(base / match, (base / match).lstat()) for match in sorted(matches, key=os.fsencode)]


def _source(path: Path, status: os.stat_result) -> Source:
    kind = stat.S_IFMT(status.st_mode)
    if kind not in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO}:
        raise OSError(0, "only files, directories, FIFOs and symbolic links can be grafted", str(path))
    if kind == stat.S_IFREG and not os.access(path, os.R_OK):
        raise PermissionError(13, os.strerror(13), str(path))
    return Source(path=path, status=status)
