"""A directory with very many entries arrives whole and indexed, without mke2fs's quadratic time."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from ext4_reader import Reader
from test_population import CAPABILITY, ODD_NAMES, OFFSET, SECOND, Y1960, Y2050, add, latin, make
from unprivileged import run_as_ordinary_user

from vmharness.disk import filesystems, joining
from vmharness.errors import HostError
from vmharness.model.results import StagedTree
from vmharness.model.sources import DirectorySource, SourceOwner, TarSource
from vmharness.tree import directory, lookup, spread
from vmharness.tree.directory import stage_directory
from vmharness.tree.tar import stage_tar

COUNT = 40  # of each kind of entry


@pytest.fixture(autouse=True)
def small_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, where twenty entries are many."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(spread, "HUGE", 20)
    monkeypatch.setattr(spread, "_CHUNK", 7)
    monkeypatch.setattr(directory, "WORTH_A_COPY", 20)


@pytest.fixture
def crowded_tar(tmp_path: Path) -> Path:
    """An archive whose root and two directories in one another are huge, with entries of every kind."""
    path = tmp_path / "crowded.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        add(archive, b"./", type=tarfile.DIRTYPE, mode=0o751, uid=3, gid=4)
        for number in range(COUNT):
            add(archive, b"./top-%d" % number, type=tarfile.DIRTYPE, mode=0o700, uid=number)
        for place in (b"./top-7/in", b"./top-7/in/deep-3/er"):
            for number in range(COUNT):
                end = b"-%d" % number
                file = place + b"/file" + end
                add(archive, file, b"f" * number * 200, uid=number, mode=0o4755, pax={"mtime": f"{Y2050}.5"})
                add(archive, place + b"/hard" + end, type=tarfile.LNKTYPE, linkname=latin(file))
                add(archive, place + b"/empty" + end, b"", gid=4_000_000_000, pax={"mtime": f"{Y1960}.000000001"})
                add(archive, place + b"/link" + end, type=tarfile.SYMTYPE, linkname="l" * (number * 4 + 1))
                add(archive, place + b"/deep" + end, type=tarfile.DIRTYPE, mode=0o1777)
                add(archive, place + b"/deep" + end + b"/inside", end)
                add(archive, place + b"/node" + end, type=tarfile.CHRTYPE, devmajor=1, devminor=number)
                add(archive, place + b"/n%03d" % number + b"m" * 251, b"longest name")
            for name in ODD_NAMES:
                add(archive, place + b"/" + name, name, uid=1234)
        pax = {"SCHILY.xattr.security.capability": latin(CAPABILITY), "SCHILY.xattr.user.large": "L" * 3000}
        add(archive, b"./top-7/in/ping", b"\x7fELF", mode=0o755, pax=pax)
        add(archive, b"./top-7/in/empty-3", b"replaced", uid=77)
        add(archive, b"./etc/passwd", b"root:x:0:0::/:\nuser:x:1234:1::/:\n")
        add(archive, b"./lost+found", type=tarfile.DIRTYPE, mode=0o700)
        add(archive, b"./.vmharness-chunks/0/0", b"the user's own")
    return path


def staged(tar: Path) -> StagedTree:
    """The archive's tree."""
    return stage_tar(TarSource(path=tar), origin="t.toml")


def names_of(tar: Path) -> set[bytes]:
    """The paths of an archive's members and of the directories that they need."""
    with tarfile.open(tar, errors="surrogateescape") as archive:
        paths = [os.path.normpath(os.fsencode(name)) for name in archive.getnames()]
    found = {b""}
    for path in paths:
        parts = path.split(b"/")
        found |= {b"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return found - {b".", b"lost+found"}


def test_huge_directories_arrive_whole(tmp_path: Path, crowded_tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry of huge directories, the root and nested ones too, is in the image as it is meant."""
    monkeypatch.setattr(filesystems, "_CONFIG", Path(shutil.copy(filesystems._CONFIG, tmp_path)))

    def made() -> None:
        make(tmp_path, staged(crowded_tar))

    run_as_ordinary_user(tmp_path, made)

    reader = Reader(tmp_path / "disk.raw", OFFSET)
    tree = reader.tree()
    assert filesystems.check_ext4(tmp_path / "disk.raw", OFFSET) == ()
    assert set(tree) == names_of(crowded_tar)
    assert (stat.filemode(tree[b""].mode), tree[b""].uid, tree[b""].gid) == ("drwxr-x--x", 3, 4)
    assert tree[b""].links == 2 + COUNT + 3  # the directories of the tree, etc, the user's own, lost+found
    for place in (b"top-7/in/", b"top-7/in/deep-3/er/"):
        assert tree[place[:-1]].links == 2 + COUNT
        for number in (0, 19, COUNT - 1):
            file, node = tree[place + b"file-%d" % number], tree[place + b"node-%d" % number]
            assert (file.uid, file.size, file.mtime) == (number, number * 200, Y2050 * SECOND + SECOND // 2)
            assert (stat.filemode(file.mode), file.links) == ("-rwsr-xr-x", 2)
            assert tree[place + b"hard-%d" % number].number == file.number
            assert (node.device, node.entry_type) == ((1, number), "3")
            assert tree[place + b"empty-%d" % (number or 1)].mtime == Y1960 * SECOND - 1
            assert reader.link(tree[place + b"link-%d" % number]) == b"l" * (number * 4 + 1)
            assert reader.data(tree[place + b"deep-%d/inside" % number]) == b"-%d" % number
        for name in ODD_NAMES:
            assert reader.data(tree[place + name]) == name
    assert reader.data(tree[b"top-7/in/empty-3"]) == b"replaced"
    assert reader.xattr(tree[b"top-7/in/ping"], "security.capability") == CAPABILITY
    assert reader.data(tree[b".vmharness-chunks/0/0"]) == b"the user's own"


def test_a_huge_directory_is_indexed(tmp_path: Path, crowded_tar: Path) -> None:
    """The kernel finds a name among many through a hashed index, which a directory that mke2fs made does not have."""
    make(tmp_path, staged(crowded_tar))
    done = subprocess.run(
        ["/sbin/debugfs", "-R", "htree_dump /top-7/in", f"disk.raw?offset={OFFSET}"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert b"Root node dump" in done.stdout, done.stderr


def test_the_tree_is_looked_into_as_if_nothing_were_spread(crowded_tar: Path) -> None:
    """Files are found at their paths, and the folder that holds the chunks is not part of the tree."""
    tree = staged(crowded_tar)
    assert tree.huge_directories == 3
    assert lookup.users(tree) == {"root": 0, "user": 1234}
    assert lookup.read_text(tree, "/top-7/in/deep-3/er/deep-9/inside") == "-9"
    assert lookup.read_text(tree, "/top-7/in/empty-3") == "replaced"
    assert lookup.read_text(tree, "/.vmharness-chunks/0/0") == "the user's own"
    assert lookup.file_type(tree, b"top-7/in/deep-3") == stat.S_IFDIR
    assert lookup.file_type(tree, b"lost+found") == stat.S_IFDIR
    for path in (b"top-7/in/0", b"top-7/in/zzz", b"top-99", b".vmharness-chunks-", b".vmharness-chunks-/0/room"):
        assert lookup.file_type(tree, path) is None, path


@pytest.mark.parametrize("owner", SourceOwner)
def test_a_huge_directory_of_the_host_keeps_its_metadata(tmp_path: Path, owner: SourceOwner) -> None:
    """A source directory with a huge one is copied to be spread, and arrives like any other; it stays as it is."""
    source = tmp_path / "source dir?x"
    (source / "many").mkdir(parents=True)
    for number in range(COUNT):
        (source / "many" / f"file-{number}").write_bytes(b"%d" % number)
    (source / "many" / "hard").hardlink_to(source / "many" / "file-0")
    (source / "many" / "link").symlink_to("file-0")
    for name in ODD_NAMES:
        Path(os.fsdecode(os.fsencode(source / "many") + b"/" + name)).write_bytes(name)
    os.setxattr(source / "many" / "file-1", "user.note", b"kept")
    (source / "many" / "file-1").chmod(0o4711)
    os.utime(source / "many" / "file-1", ns=(Y2050 * SECOND + 7, Y1960 * SECOND + 9))
    if os.getuid() == 0:
        os.chown(source / "many" / "link", 77, 88, follow_symlinks=False)
    expected = (source / "many" / "link").lstat()
    before = sorted(source.rglob("*"))

    staged_tree = stage_directory(DirectorySource(path=source, owner=owner), origin="t.toml")
    reader = make(tmp_path, staged_tree)

    tree = reader.tree()
    assert staged_tree.huge_directories == 1
    assert filesystems.check_ext4(tmp_path / "disk.raw", OFFSET) == ()
    assert {os.fsdecode(path) for path in tree} == {str(path.relative_to(source)) for path in before} | {""}
    file, link = tree[b"many/file-1"], tree[b"many/link"]
    assert (stat.filemode(file.mode), file.atime, file.mtime) == (
        "-rws--x--x", Y2050 * SECOND + 7, Y1960 * SECOND + 9,
    )  # fmt: skip
    assert reader.xattr(file, "user.note") == b"kept"
    root = owner is SourceOwner.ROOT
    assert (link.uid, link.gid) == ((0, 0) if root else (expected.st_uid, expected.st_gid))
    assert tree[b"many/hard"].number == tree[b"many/file-0"].number
    for name in ODD_NAMES:
        assert reader.data(tree[b"many/" + name]) == name
    assert sorted(source.rglob("*")) == before


def test_twenty_thousand_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real limits, too, all names are there, and mke2fs and e2fsck take no time to speak of."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tar = tmp_path / "many.tar"
    with tarfile.open(tar, "w") as archive:
        for number in range(20_000):
            add(archive, b"spool/%d" % number, b"")
    tree = staged(tar)
    before = os.times()
    reader = make(tmp_path, tree)
    after = os.times()
    assert tree.huge_directories == 1
    assert filesystems.check_ext4(tmp_path / "disk.raw", OFFSET) == ()
    (spool,) = [number for number, name, _kind in reader._names(2) if name == b"spool"]
    names = {name for _number, name, _kind in reader._names(spool)}
    assert names == {b".", b"..", *(b"%d" % number for number in range(20_000))}
    # mke2fs alone would take ten seconds and more
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    assert taken < 4


def test_an_unexpected_correction_is_an_error(
    tmp_path: Path, crowded_tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What e2fsck has to correct besides the chunks' remains stops the build."""
    make_right = joining._Joiner._adopt
    monkeypatch.setattr(joining._Joiner, "_adopt", lambda joiner, number, chunk: make_right(joiner, number, chunk) + 1)
    with pytest.raises(HostError, match=r"e2fsck corrected more than expected: Inode 2 ref count"):
        make(tmp_path, staged(crowded_tar))
