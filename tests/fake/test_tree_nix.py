"""The Nix source, with the real Nix and stores below a folder of the test."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from nix_store import NixStore, system
from unprivileged import run_as_ordinary_user

from vmharness.errors import HostError, SpecError
from vmharness.host import index
from vmharness.model.image import NixSpec
from vmharness.model.results import StagedTree
from vmharness.model.sources import NixSource
from vmharness.tree.nix import stage_nix
from vmharness.tree.nixstore import Store, write_database

PROFILES = "nix/var/nix/profiles"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NixStore]:
    """An empty store; its folders can be removed afterwards."""
    root = tmp_path / "a store?"
    yield NixStore(root)
    for place in root.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)


def stage(store: NixStore, path: str | Path, nix: NixSpec | None = None, *, installs: bool = True) -> StagedTree:
    """Stage a closure of the test's store."""
    source = NixSource(path=Path(path), store=store.root)
    return stage_nix(source, nix or NixSpec(), installs=installs, origin="image.toml")


def copied(tree: StagedTree, folder: Path) -> NixStore:
    """The staged tree as a store of its own, with the modes that it means."""
    shutil.copytree(tree.directory, folder, symlinks=True)
    assert tree.index is not None
    with index.read(tree.index) as entries:
        for place in folder.rglob("*"):
            path = os.fsencode(place.relative_to(folder))
            parent, _, name = path.rpartition(b"/")
            meant = entries.get(parent, name)
            assert meant is not None, path
            assert (meant.uid, meant.gid, meant.mtime, meant.atime, meant.ctime) == (0, 0, *[1_000_000_000] * 3)
            if not place.is_symlink():
                place.chmod(stat.S_IMODE(meant.mode))
    return NixStore(folder)


def test_a_closure_is_a_whole_store(store: NixStore, tmp_path: Path) -> None:
    """Every path of the closure and no other arrives with its registration; Nix finds the contents intact."""
    path = system(store)
    other = store.add("other", {"file": b"1"})
    tree = stage(store, path)
    image = copied(tree, tmp_path / "image")
    assert image.run("--query", "--requisites", path).text == store.run("--query", "--requisites", path).text
    image.verify()
    assert not image.physical(other).exists()
    assert image.run("--check-validity", "--print-invalid", other).text.split() == [other]
    assert (image.root / f"{PROFILES}/system").readlink() == Path("system-1-link")
    assert (image.root / f"{PROFILES}/system-1-link").readlink() == Path(path)
    assert (image.root / "etc/NIXOS").read_bytes() == b""
    assert stat.S_IMODE((image.root / "tmp").stat().st_mode) == 0o1777
    assert not (image.root / "root/.nix-defexpr").exists()


def test_a_damaged_image_would_be_noticed(store: NixStore, tmp_path: Path) -> None:
    """The check of the test before says no to a store with one other byte."""
    image = copied(stage(store, system(store)), tmp_path / "image")
    file = image.physical(store.paths[0]) / "bin/sh"
    file.chmod(0o755)
    file.write_bytes(b"A shell")
    with pytest.raises((AssertionError, HostError)):
        image.verify()


def test_hard_links_stay(store: NixStore) -> None:
    """Two names of one file, in different store paths, are one file in the tree."""
    tree = stage(store, system(store))
    first, second = (tree.directory / path.lstrip("/") for path in store.paths[:2])
    assert (first / "bin/sh").stat().st_ino == (second / "bin/same").stat().st_ino


def test_the_database_is_the_same_twice(store: NixStore, tmp_path: Path) -> None:
    """No time, no order and no builder shows in the image's database; and it has no journal beside it."""
    path = system(store)
    known = Store(root=store.root).registrations(store.run("--query", "--requisites", path).text.split())
    write_database(known, tmp_path / "one", tmp_path / "work-1")
    write_database(known[::-1], tmp_path / "two", tmp_path / "work-2")
    made = [(folder / "db/db.sqlite").read_bytes() for folder in (tmp_path / "one", tmp_path / "two")]
    assert made[0] == made[1]
    assert sorted(file.name for file in (tmp_path / "one/db").iterdir()) == ["db.sqlite", "schema"]
    with closing(sqlite3.connect(tmp_path / "one/db/db.sqlite")) as database:
        rows = database.execute("SELECT path, registrationTime FROM ValidPaths ORDER BY id").fetchall()
    assert rows == [(registered, 1) for registered in sorted(store.paths)]


def test_the_identity_is_that_of_the_closure(store: NixStore, tmp_path: Path) -> None:
    """The same closure in another store is the same tree; more paths, a channel or a configuration make another."""
    path = system(store)
    more = store.add("more", {"file": b"1"})
    twin = NixStore(tmp_path / "twin")
    assert system(twin) == path
    configuration = tmp_path / "configuration.nix"
    configuration.write_text("{ }\n")
    seen = [stage(store, path).identity]
    assert stage(twin, path).identity == seen[0]
    others = (
        NixSpec(additional_paths=(Path(more),)),
        NixSpec(channel=Path(more)),
        NixSpec(configuration=configuration),
        NixSpec(store_only=True),
    )
    seen += [stage(store, path, nix).identity for nix in others]
    assert len(set(seen)) == len(seen)
    for place in (tmp_path / "twin").rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)


def test_a_link_names_its_store_path(store: NixStore, tmp_path: Path) -> None:
    """What nix-build leaves as ``result`` can be given, through further links, too."""
    path = system(store)
    (tmp_path / "result").symlink_to(path)
    (tmp_path / "again").symlink_to("result")
    assert stage(store, tmp_path / "again").identity == stage(store, path).identity


def test_more_paths_and_a_configuration(store: NixStore, tmp_path: Path) -> None:
    """Additional paths come with their closures, and the configuration lies where NixOS looks for it."""
    path = system(store)
    below = store.add("below", {"file": b"1"})
    above = store.add("above", {"file": b"2"}, [below])
    configuration = tmp_path / "my.nix"
    configuration.write_text("{ }\n")
    tree = stage(store, path, NixSpec(additional_paths=(Path(above),), configuration=configuration))
    image = copied(tree, tmp_path / "image")
    image.verify()
    assert set(image.run("--query", "--requisites", path, above).text.split()) == set(store.paths)
    assert image.physical(below).is_dir()
    assert (image.root / "etc/nixos/configuration.nix").read_text() == "{ }\n"


def test_a_package_sets_source_becomes_a_channel(store: NixStore, tmp_path: Path) -> None:
    """It is added to the image's store as ``nixos``, and root's channels profile and home lead there."""
    source = tmp_path / "nixpkgs"
    (source / ".git").mkdir(parents=True)
    (source / "default.nix").write_text("1\n")
    image = copied(stage(store, system(store), NixSpec(channel=source)), tmp_path / "image")
    image.verify()
    channels = image.root / f"{PROFILES}/per-user/root/channels"
    assert channels.readlink() == Path("channels-1-link")
    found = str(channels.with_name("channels-1-link").readlink())
    assert found.endswith("-nixos-channel")
    assert image.run("--check-validity", "--print-invalid", found).text == ""
    assert (image.physical(found) / "nixos/default.nix").read_text() == "1\n"
    assert (image.physical(found) / "nixos/nixpkgs").readlink() == Path()
    assert not (image.physical(found) / "nixos/.git").exists()
    home = image.root / "root/.nix-defexpr/channels"
    assert home.readlink() == Path(f"/{PROFILES}/per-user/root/channels")


def test_a_channel_of_the_store_is_taken_as_it_is(store: NixStore, tmp_path: Path) -> None:
    """A store path given as the channel is part of the closure."""
    path = system(store)
    channel = store.add("nixos-22.11", {"nixos/default.nix": b"1"})
    image = copied(stage(store, path, NixSpec(channel=Path(channel))), tmp_path / "image")
    image.verify()
    assert (image.root / f"{PROFILES}/per-user/root/channels-1-link").readlink() == Path(channel)


def test_a_store_alone_has_nothing_else(store: NixStore) -> None:
    """With ``store-only``, the store's content lies at the root; no system is needed for that."""
    shell = store.add("shell", {"bin/sh": b"a shell"})
    tree = stage(store, shell, NixSpec(store_only=True), installs=False)
    assert [place.name for place in tree.directory.iterdir()] == [Path(shell).name]
    assert (tree.directory / Path(shell).name / "bin/sh").read_bytes() == b"a shell"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/nix/store/nothing", "is not a store path"),
        ("/nix/store/00000000000000000000000000000000-shell/bin", r"is not a store path.*nothing behind the name"),
        ("/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-digits", "is not a store path"),
        ("/etc/passwd", "is not a store path, nor a link to one"),
        ("/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-other", r"is not in the Nix store of .*nix-build"),
        ("/nix/store/00000000000000000000000000000000-shell", r"has no bin/switch-to-configuration.*toplevel"),
    ],
)
def test_what_is_no_system_is_refused(store: NixStore, path: str, says: str) -> None:
    """A path that is none of a store, not in this one, or no system, is named with what to do."""
    system(store)
    with pytest.raises(SpecError, match=rf"(?s)image.toml: root.source.nix: .*{says}"):
        stage(store, path)


def test_wrong_additional_paths_are_named(store: NixStore) -> None:
    """The error names the entry."""
    path = system(store)
    with pytest.raises(SpecError, match=r"nix.additional-paths\[1\]: /etc is not a store path"):
        stage(store, path, NixSpec(additional_paths=(Path(path), Path("/etc"))))


def test_what_is_no_channel_is_refused(store: NixStore, tmp_path: Path) -> None:
    """A directory without a package set is no channel."""
    with pytest.raises(SpecError, match=r"nix.channel: .* neither a store path nor a directory with a default.nix"):
        stage(store, system(store), NixSpec(channel=tmp_path))


def test_a_missing_configuration_is_named(store: NixStore, tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(SpecError, match=r"nix.configuration: cannot read .*/none.nix: No such file"):
        stage(store, system(store), NixSpec(configuration=tmp_path / "none.nix"))


def test_a_folder_without_a_store_stays_as_it_is(tmp_path: Path) -> None:
    """A mistyped ``store`` is refused; Nix itself would make a store there."""
    with pytest.raises(SpecError, match=r"root.source.store: there is no Nix store at .*/none/nix/store"):
        stage(NixStore(tmp_path / "none"), f"/nix/store/{'1' * 32}-system")
    assert not (tmp_path / "none").exists()


def test_a_damaged_store_is_not_copied(store: NixStore) -> None:
    """Files that are not those that were registered would end up in the image as if they were: refused."""
    path = store.add("never-staged", {"file": b"whole"})
    file = store.physical(path) / "file"
    file.chmod(0o755)
    file.write_bytes(b"other")
    with pytest.raises(SpecError, match=rf"(?s)the Nix store is damaged: .*{path}.*--repair"):
        stage(store, path, installs=False)


def test_without_nix_the_package_is_named(store: NixStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone without Nix learns what to install."""
    path = system(store)
    monkeypatch.setenv("PATH", str(store.root))
    monkeypatch.setattr("vmharness.host.proc.environment", lambda extra=None: {**os.environ, **(extra or {})})
    with pytest.raises(HostError, match=r"(?s)'nix-store' is not installed.*nix-bin"):
        stage(store, path)


def test_a_store_of_someone_else_needs_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nix cannot open a database that it may not write, which the hint turns into what can be done."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    store = NixStore(folder / "store")
    path = system(store)
    database = folder / "store/nix/var/nix/db"
    database.chmod(0o555)

    def refused() -> None:
        with pytest.raises(HostError, match=r"(?s)db' is not writable.*nix-daemon.*nix copy --to DIR"):
            stage(store, path)

    try:
        run_as_ordinary_user(folder, refused)
    finally:
        database.chmod(0o755)


def test_an_ordinary_user_stages_a_closure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of one's own needs no privilege."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def staged() -> None:
        store = NixStore(folder / "store")
        tree = stage(store, system(store))
        copied(tree, folder / "image").verify()
        for place in folder.rglob("*"):
            if place.is_dir() and not place.is_symlink():
                place.chmod(0o755)

    run_as_ordinary_user(folder, staged)
