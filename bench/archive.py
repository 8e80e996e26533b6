"""The archive from which whole images are built, on every side of the comparison: a Debian tree that boots."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

from attrs import frozen

from bench.builds import staged_if_cached
from bench.context import Context, Skip
from vmharness.host import index
from vmharness.host.index import Index, Metadata
from vmharness.model.sources import DebianSource

_SOURCE = DebianSource(
    suite="bookworm",
    variant="important",
    include=("linux-image-cloud-amd64", "systemd-boot", "systemd-sysv", "udev", "dbus", "python3"),
)
_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


@frozen(kw_only=True)
class Archive:
    """A Debian tree in a tar archive.

    :param path: the archive, not compressed.
    :param tree: the same tree, unpacked; the files' metadata are not those that are meant.
    :param kernel: path of its kernel in the tree, and ``initrd`` of its initrd.
    """

    path: Path
    tree: Path
    kernel: Path
    initrd: Path

    @property
    def megabytes(self) -> int:
        """Its length."""
        return round(self.path.stat().st_size / 1e6)


def make(context: Context) -> Archive:
    """Make the archive from the cached tree.

    :raises Skip: the tree is not in the cache, and is not to be made.
    """
    staged = staged_if_cached(_SOURCE, make=context.full)
    if staged is None:
        raise Skip("the Debian tree of this comparison is not in the cache; `--full` makes it")
    assert staged.index is not None
    path = context.scratch / "tree.tar"
    with index.read(staged.index) as entries, tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, staged.directory, entries)
    (kernel,) = (staged.directory / "boot").glob("vmlinuz-*")
    (initrd,) = (staged.directory / "boot").glob("initrd.img-*")
    return Archive(
        path=path,
        tree=staged.directory,
        kernel=kernel.relative_to(staged.directory),
        initrd=initrd.relative_to(staged.directory),
    )


def _add(archive: tarfile.TarFile, data: Path, entries: Index) -> None:
    """Add all files, each directory before what it holds. Hard links become files of their own."""
    todo = [(b"", b"")]
    while todo:
        parent, name = todo.pop()
        path = b"/".join(part for part in (parent, name) if part)
        metadata = entries.get(parent, name)
        assert metadata is not None
        file = data / os.fsdecode(path)
        member = _member(os.fsdecode(path) or ".", metadata)
        if member.isreg():
            member.size = file.stat().st_size
            with file.open("rb") as content:
                archive.addfile(member, content)
            continue
        if member.issym():
            member.linkname = str(file.readlink())
        archive.addfile(member)
        if member.isdir():
            todo += [(path, child) for child in entries.names(path)]


def _member(name: str, metadata: Metadata) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = _TYPES.get(stat.S_IFMT(metadata.mode), tarfile.REGTYPE)
    member.mode = stat.S_IMODE(metadata.mode)
    member.uid, member.gid = metadata.uid, metadata.gid
    member.mtime = metadata.mtime // 1_000_000_000
    member.devmajor, member.devminor = os.major(metadata.device), os.minor(metadata.device)
    return member
