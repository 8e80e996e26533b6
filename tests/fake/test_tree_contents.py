"""Grafted files: where they come from, whom they belong to, and where links of the tree lead them."""

from __future__ import annotations

import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest

from vmharness.errors import SpecError
from vmharness.model.image import Content
from vmharness.model.results import StagedTree
from vmharness.model.sources import DirectorySource
from vmharness.tree import lookup
from vmharness.tree.contents import stage_contents
from vmharness.tree.directory import stage_directory


@pytest.fixture
def tree(tmp_path: Path) -> StagedTree:
    """A merged-usr tree with users, and links that lead in, out and in a circle."""
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "home/alice").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "abs").symlink_to("/usr/lib")
    (root / "out").symlink_to("../../../../etc")
    (root / "loop").symlink_to("loop")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nusers:x:100:\n# a remark:x:5:\nbroken\n")
    return stage_directory(DirectorySource(path=root), origin="image.toml")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files of the host to graft."""
    folder = tmp_path / "my files"
    (folder / "dir/sub").mkdir(parents=True)
    (folder / "motd").write_bytes(b"hello\n")
    (folder / "motd").chmod(0o640)
    (folder / "dir/one").write_bytes(b"1")
    (folder / "dir/sub/two").write_bytes(b"2")
    (folder / "dir/link").symlink_to("sub/two")
    (folder / "named-link").symlink_to("motd")
    for name in ("a.conf", "b 'quoted\".conf", ".hidden.conf"):
        (folder / name).write_bytes(b"c")
    return folder


def graft(tmp_path: Path, tree: StagedTree, *contents: Content) -> dict[str, tarfile.TarInfo]:
    """The members of the archive by name, in their order."""
    staged = stage_contents(contents, tree, tmp_path / "contents.tar", origin="image.toml")
    assert staged is not None
    with tarfile.open(staged.archive, encoding="utf-8", errors="surrogateescape") as archive:
        return {info.name: info for info in archive}


def test_a_file_gets_mode_and_owner_of_the_target(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """Names are looked up in the tree's passwd and group; numbers are taken; root is meant where nothing is said."""
    found = graft(
        tmp_path,
        tree,
        Content(source=str(files / "motd"), target="/etc/motd"),
        Content(source=str(files / "motd"), target="/etc/motd2", mode=0o4755, user="alice", group="users"),
        Content(source=str(files / "named-link"), target="/etc/three", user="4000000000", group="7"),
    )
    seen = {name: (info.mode, info.uid, info.gid, info.isreg()) for name, info in found.items()}
    assert seen == {
        "etc/motd": (0o640, 0, 0, True),
        "etc/motd2": (0o4755, 1000, 100, True),
        "etc/three": (0o640, 4_000_000_000, 7, True),
    }
    assert {info.uname for info in found.values()} == {""}


def test_a_directory_is_grafted_with_everything_in_it(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """Directories get the directory mode, links stay links, and missing parents are root's."""
    found = graft(
        tmp_path,
        tree,
        Content(source=str(files / "dir"), target="/srv/x/data", mode=0o600, directory_mode=0o700, user="5", group="6"),
    )
    seen = {name: (info.type, info.mode, info.uid) for name, info in found.items()}
    assert seen == {
        "srv": (tarfile.DIRTYPE, 0o755, 0),
        "srv/x": (tarfile.DIRTYPE, 0o755, 0),
        "srv/x/data": (tarfile.DIRTYPE, 0o700, 5),
        "srv/x/data/link": (tarfile.SYMTYPE, 0o777, 5),
        "srv/x/data/one": (tarfile.REGTYPE, 0o600, 5),
        "srv/x/data/sub": (tarfile.DIRTYPE, 0o700, 5),
        "srv/x/data/sub/two": (tarfile.REGTYPE, 0o600, 5),
    }
    assert found["srv/x/data/link"].linkname == "sub/two"


def test_a_globs_matches_go_into_the_target(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """Matches are sorted, hidden files are not matched, quotes and blanks are kept; two globs may share a target."""
    names = graft(
        tmp_path,
        tree,
        Content(source=str(files / "*.conf"), target="/etc/app.d"),
        Content(source=str(files / "mo?d"), target="/etc/app.d"),
    )
    assert list(names) == ["etc/app.d", "etc/app.d/a.conf", "etc/app.d/b 'quoted\".conf", "etc/app.d/motd"]


def test_a_name_with_pattern_characters_is_a_name(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """What exists under the very name is no glob, in the last component or before."""
    (files / "dir[1]").mkdir()
    (files / "dir[1]" / "x*y").write_bytes(b"literal")
    found = graft(
        tmp_path,
        tree,
        Content(source=str(files / "dir[1]" / "x*y"), target="/etc/literal"),
        Content(source=str(files / "dir[1]" / "*"), target="/etc/globbed"),
    )
    assert list(found) == ["etc/literal", "etc/globbed", "etc/globbed/x*y"]


@pytest.mark.parametrize("target", ["/lib/x", "/abs/x", "/usr/lib/x", "/lib/./x", "/out/../../usr/lib/x"])
def test_links_of_the_tree_are_followed_inside_it(tmp_path: Path, tree: StagedTree, files: Path, target: str) -> None:
    """A target below a link of the tree goes where the link leads in the booted system."""
    if ".." in target:
        with pytest.raises(SpecError, match="not an absolute path without"):
            graft(tmp_path, tree, Content(source=str(files / "motd"), target=target))
        return
    assert list(graft(tmp_path, tree, Content(source=str(files / "motd"), target=target))) == ["usr/lib/x"]


def test_a_directory_merges_through_a_link(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """Grafting over the whole root does not turn /lib into a directory, nor change directories of the tree."""
    overlay = files / "overlay"
    (overlay / "lib/fresh").mkdir(parents=True)
    (overlay / "lib/fresh/x").write_bytes(b"")
    (overlay / "etc").mkdir()
    (overlay / "etc/y").write_bytes(b"")
    found = graft(tmp_path, tree, Content(source=str(overlay), target="/"))
    assert list(found) == ["etc/y", "usr/lib/fresh", "usr/lib/fresh/x"]


def test_an_existing_target_changes_only_when_stated(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """A directory of the tree keeps its metadata unless the entry that names it gives an owner or a directory mode."""
    source = str(files / "dir")
    assert "home/alice" not in graft(tmp_path, tree, Content(source=source, target="/home/alice"))
    found = graft(tmp_path, tree, Content(source=source, target="/home/alice", user="alice", group="users"))
    assert (found["home/alice"].mode, found["home/alice"].uid) == (0o755, 1000)


def test_odd_names_survive(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """Newlines, bytes that are no UTF-8 and long names unpack with GNU tar as they are."""
    names = [b"new\nline", b"caf\xe9", b"-rf", b"l" * 255]
    (files / "odd").mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(files / "odd") + b"/" + name)).write_bytes(name)
    graft(tmp_path, tree, Content(source=str(files / "odd"), target="/o"))
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "unpacked", "-xf", tmp_path / "contents.tar"], check=True)
    unpacked = [os.fsencode(path.name) for path in (tmp_path / "unpacked/o").iterdir()]
    assert sorted(unpacked) == sorted(names)


@pytest.mark.parametrize(
    ("entries", "key", "words"),
    [
        ([("motd", "/etc/motd", {"user": "alcie", "group": "users"})], "contents[0].user", "did you mean 'alice'?"),
        ([("motd", "/etc/motd", {"user": "alice", "group": "wheel"})], "contents[0].group", "has no group 'wheel'"),
        ([("motd", "/etc/motd", {"user": "alice"})], "contents[0].group", "go together"),
        ([("motd", "/etc/motd", {"group": "users"})], "contents[0].user", "go together"),
        ([("none", "/etc/motd", {})], "contents[0].source", "there is no file or directory"),
        ([("*.none", "/etc", {})], "contents[0].source", "nothing matches"),
        ([("motd", "/../etc/x", {})], "contents[0].target", "without '..'"),
        ([("motd", "etc/x", {})], "contents[0].target", "absolute"),
        ([("motd", "/loop/x", {})], "contents[0].target", "circle"),
        ([("motd", "/etc", {})], "contents[0].target", "is a directory in the tree"),
        ([("dir", "/etc/passwd", {})], "contents[0].target", "is not a directory in the tree"),
        ([("motd", "/etc/passwd/x", {})], "contents[0].target", "is not a directory in the tree"),
        ([("motd", "/lib/x", {}), ("a.conf", "/usr/lib/x", {})], "contents[1].target", "by contents[0]"),
        ([("dir", "/opt", {}), ("motd", "/opt/sub/two", {})], "contents[1].target", "by contents[0]"),
        ([("motd", "/opt/one", {}), ("dir", "/opt", {})], "contents[1].target", "by contents[0]"),
        ([("dir", "/opt", {}), ("dir", "/opt", {})], "contents[1].target", "by contents[0]"),
        ([("motd", "/opt", {}), ("motd", "/opt/x", {})], "contents[1].target", "by contents[0]"),
        ([("*.conf", "/opt", {}), ("motd", "/opt/a.conf", {})], "contents[1].target", "by contents[0]"),
    ],
)
def test_a_wrong_entry_is_named(  # noqa: PLR0917 -- a parametrized test with fixtures
    tmp_path: Path,
    tree: StagedTree,
    files: Path,
    entries: list[tuple[str, str, dict[str, str]]],
    key: str,
    words: str,
) -> None:
    """Each mistake is the definition's, with the entry's key; two entries that collide are both named."""
    contents = [Content(source=str(files / source), target=target, **facts) for source, target, facts in entries]  # type: ignore[arg-type]  # only texts
    with pytest.raises(SpecError) as caught:
        graft(tmp_path, tree, *contents)
    assert caught.value.key == key
    assert words in str(caught.value)


def test_a_socket_cannot_be_grafted(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """What means nothing without the program that made it is refused by its name."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(files / "dir/socket"))
        with pytest.raises(SpecError, match="socket: only files, directories, FIFOs and symbolic links"):
            graft(tmp_path, tree, Content(source=str(files / "dir"), target="/x"))


def test_a_fifo_is_grafted(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """A FIFO stays one, with its mode."""
    os.mkfifo(files / "dir/pipe")
    (files / "dir/pipe").chmod(0o622)
    found = graft(tmp_path, tree, Content(source=str(files / "dir"), target="/x"))
    assert (found["x/pipe"].type, found["x/pipe"].mode) == (tarfile.FIFOTYPE, 0o622)


def test_hard_links_of_an_entry_stay_links(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """Names of one file in one entry are one file; two entries, which may differ in owner, make two."""
    (files / "dir/again").hardlink_to(files / "dir/one")
    dir_ = str(files / "dir")
    found = graft(tmp_path, tree, Content(source=dir_, target="/x"), Content(source=dir_, target="/y", mode=0o600))
    assert (found["x/again"].isreg(), found["x/one"].islnk(), found["x/one"].linkname) == (True, True, "x/again")
    assert (found["y/again"].isreg(), found["y/one"].islnk(), found["y/one"].linkname) == (True, True, "y/again")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-C", unpacked, "-xf", tmp_path / "contents.tar"], check=True)
    assert (unpacked / "x/one").samefile(unpacked / "x/again")
    assert (unpacked / "x/one").read_bytes() == b"1"


def test_extended_attributes_are_grafted(tmp_path: Path, tree: StagedTree, files: Path) -> None:
    """GNU tar unpacks attributes of any bytes, also of a file whose name is no UTF-8; those without stay plain."""
    value = bytes(range(256))
    odd = Path(os.fsdecode(os.fsencode(files) + b"/dir/caf\xe9"))
    odd.write_bytes(b"odd")
    for path in (files / "dir/one", files / "dir/sub", odd):
        os.setxattr(path, "user.note", value)
    graft(tmp_path, tree, Content(source=str(files / "dir"), target="/x"))
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    argv = ["tar", "-C", unpacked, "--xattrs", "--xattrs-include=*", "-xf", tmp_path / "contents.tar"]
    subprocess.run(argv, check=True)
    for name in (b"x/one", b"x/sub", b"x/caf\xe9"):
        assert os.getxattr(os.fsencode(unpacked) + b"/" + name, "user.note") == value
    assert os.listxattr(unpacked / "x/sub/two") == []


def test_nothing_to_graft_makes_no_archive(tmp_path: Path, tree: StagedTree) -> None:
    """Without entries there is no archive."""
    assert stage_contents([], tree, tmp_path / "contents.tar", origin="image.toml") is None
    assert not (tmp_path / "contents.tar").exists()


def test_looking_into_a_tree_never_leaves_it(tree: StagedTree) -> None:
    """Links that would lead to the host's files lead to the tree's, as they will in the booted system."""
    assert lookup.users(tree) == {"root": 0, "alice": 1000}
    assert lookup.groups(tree) == {"root": 0, "users": 100}
    assert lookup.read_text(tree, "/out/passwd") == lookup.read_text(tree, "/etc/passwd")
    assert lookup.read_text(tree, "/out/hostname") is None
    assert lookup.read_text(tree, "/loop") is None
    assert lookup.read_text(tree, "/etc") is None
    assert lookup.resolve(tree, b"/abs/../bin/new") == b"usr/bin/new"
    assert lookup.find(tree, "/lib") == tree.directory / "usr/lib"
