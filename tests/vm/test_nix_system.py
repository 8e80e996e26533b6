"""A system's closure becomes an image: its own installer runs, it boots, and Nix finds its store whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nix_system
import pytest
import trees
from nix_store import NixStore
from running import Workplace

from vmharness.disk.filesystems import check_ext4
from vmharness.host import proc

DEFINITION = """
[image]
name = "nix"
format = "raw"
additional-space = "8M"
boot-size = "48M"

[root]
source = {{ nix = "{path}", store = "store" }}

[bootloader]
install = "nixos"

[nix]
configuration = "configuration.nix"
"""


@pytest.fixture(scope="module")
def store(shop: Workplace) -> Iterator[NixStore]:
    """A store with nothing but the system."""
    store = NixStore(shop.folder / "store")
    nix_system.make(store)
    yield store
    for place in store.root.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)


@pytest.fixture(scope="module")
def built(shop: Workplace, store: NixStore) -> Path:
    """The system's image."""
    (shop.folder / "configuration.nix").write_text("{ }\n")
    return shop.build(DEFINITION.format(path=store.paths[-1]), output="nix")


def test_it_boots(built: Path, place: Workplace) -> None:
    """From the loader and the entry that the system's own installer has written, to the system's own init."""
    booted = place.run("boot", built, "--until", nix_system.MARKER, "--json")
    assert booted.status == 0, booted.stdout
    assert booted.json()["reached"]


def test_nix_finds_its_store_whole(built: Path, store: NixStore, tmp_path: Path) -> None:
    """The image's own database and files, read back with debugfs, pass ``nix-store --verify --check-contents``."""
    disk = built / "nix.img"
    offset = trees.read_manifest(built).table.by_role("root").offset
    assert check_ext4(disk, offset) == ()
    image = NixStore(tmp_path / "image")
    image.root.mkdir()
    # through a link: a '?' in the path would begin the options
    (tmp_path / "disk").symlink_to(disk)
    argv = ["debugfs", "-R", "rdump /nix image", f"disk?offset={offset}"]
    proc.run(argv, doing="reading the image's store", cwd=tmp_path)
    image.verify()
    system = store.paths[-1]
    assert sorted(image.run("--query", "--requisites", system).text.split()) == sorted(store.paths)
    for place in image.root.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)


def test_the_installer_ran_as_in_nixos_enter(built: Path) -> None:
    """The activation script's work is there although it failed at its end; what went to HOME is not."""
    root = trees.root_of(built, built / "nix.img").tree()
    assert b"usr/lib/systemd/boot" in root
    assert b"etc/NIXOS" in root
    assert b"etc/nixos/configuration.nix" in root
    assert not [path for path in root if b"nix-defexpr" in path]


def test_a_tree_without_a_system_profile(place: Workplace) -> None:
    """The step says what the target lacks, and what to do."""
    done = place.fail(trees.MINIMAL + '\n[bootloader]\ninstall = "nixos"\n')
    assert done.status == 1
    assert "the target has no system profile /nix/var/nix/profiles/system" in done.error()
    assert 'hint: give a system\'s closure as the root source, { nix = "/nix/store/..." }' in done.error()
