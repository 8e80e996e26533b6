"""Grafted files arrive in the image as the definition says; without a bootloader the disk is just that, a disk."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

import pytest
import trees
from ext4_reader import Inode, Reader
from running import Workplace

ODD = 'it\'s a "report" -- of 100%'
CONTENTS = rf"""
[[contents]]
source = '''files/{ODD}'''
target = '''/var/log/{ODD}'''
mode = "0640"
user = "nobody"
group = "adm"

[[contents]]
source = "files/tool"
target = "/bin/tool"
mode = "4755"

[[contents]]
source = "files/conf/*.conf"
target = "/etc/service.d"

[[contents]]
source = "files/spool"
target = "/srv/spool"
directory-mode = "2770"
mode = "0600"
user = "1234"
group = "4000000000"

[[contents]]
source = "files/listed"
target = "/etc/listed"

[[contents]]
source = "files/passwd"
target = "/etc/passwd"
"""


# user::rw-, user:1000:rwx, group::r--, mask::rwx, other::r--
ACCESS_LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 7, 1000), (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF))
)


@pytest.fixture(scope="module")
def built(shop: Workplace) -> Path:
    """The minimal image with grafted files and no bootloader, as a raw disk."""
    files = shop.folder / "files"
    (files / "conf").mkdir(parents=True)
    (files / "spool" / "new").mkdir(parents=True)
    (files / "passwd").write_text("root::0:0:root:/root:/bin/sh\nnobody:x:99:99:grafted:/:/bin/false\n")
    (files / ODD).write_text("all is well\n")
    (files / "tool").write_bytes(b"\x7fELF not really")
    for name in ("a.conf", "b c.conf", "left.out"):
        (files / "conf" / name).write_text(name)
        (files / "conf" / name).chmod(0o604)
    (files / "spool" / "new" / "mail").write_text("hello")
    (files / "spool" / "link").symlink_to("new/mail")
    (files / "spool" / "new" / "same").hardlink_to(files / "spool" / "new" / "mail")
    os.setxattr(files / "tool", "user.note", b"\xff kept")
    os.mkfifo(files / "spool" / "pipe")
    (files / "listed").write_text("")
    os.setxattr(files / "listed", "system.posix_acl_access", ACCESS_LIST)
    definition = trees.MINIMAL.replace("[root]", 'format = "raw"\n\n[root]') + CONTENTS
    return shop.build(definition, output="contents")


@pytest.fixture(scope="module")
def root(built: Path) -> Reader:
    """Its root filesystem, read back by debugfs."""
    return trees.root_of(built, built / "minimal.img")


@pytest.fixture(scope="module")
def tree(root: Reader) -> dict[bytes, Inode]:
    """Every file of it."""
    return root.tree()


def facts(inode: Inode) -> tuple[int, int, int]:
    """Permission bits, user, group."""
    return stat.S_IMODE(inode.mode), inode.uid, inode.gid


def test_owner_by_the_targets_names(root: Reader, tree: dict[bytes, Inode]) -> None:
    """User and group are those of the target's own passwd and group; spaces and quotes in names change nothing."""
    report = tree[b"var/log/" + ODD.encode()]
    assert facts(report) == (0o640, 65534, 4)
    assert root.data(report) == b"all is well\n"


def test_what_a_copy_would_lose(root: Reader, tree: dict[bytes, Inode]) -> None:
    """Hard links, FIFOs and extended attributes arrive."""
    mail = tree[b"srv/spool/new/mail"]
    assert (mail.number, mail.links) == (tree[b"srv/spool/new/same"].number, 2)
    assert stat.S_ISFIFO(tree[b"srv/spool/pipe"].mode)
    assert root.xattr(tree[b"usr/bin/tool"], "user.note") == b"\xff kept"
    assert facts(tree[b"etc/listed"])[0] == 0o674
    assert root.xattrs(tree[b"etc/listed"]) == {"system.posix_acl_access"}


def test_target_through_a_symbolic_link(root: Reader, tree: dict[bytes, Inode]) -> None:
    """A target below /bin, which is a link to usr/bin in the tree, goes to usr/bin, and the link stays one."""
    assert stat.S_ISLNK(tree[b"bin"].mode)
    assert root.link(tree[b"bin"]) == b"usr/bin"
    assert facts(tree[b"usr/bin/tool"]) == (0o4755, 0, 0)
    assert root.data(tree[b"usr/bin/tool"]) == b"\x7fELF not really"


def test_glob_goes_into_a_folder(tree: dict[bytes, Inode]) -> None:
    """What a glob matches goes into the target folder, with its own modes, and belongs to root."""
    below = {path for path in tree if path.startswith(b"etc/service.d/")}
    assert below == {b"etc/service.d/a.conf", b"etc/service.d/b c.conf"}
    assert facts(tree[b"etc/service.d/b c.conf"]) == (0o604, 0, 0)
    assert facts(tree[b"etc/service.d"]) == (0o755, 0, 0)


def test_folder_with_owner_and_modes(root: Reader, tree: dict[bytes, Inode]) -> None:
    """A folder arrives with all below it: one mode for files, another for folders, numeric owners, links as links."""
    assert facts(tree[b"srv/spool"]) == facts(tree[b"srv/spool/new"]) == (0o2770, 1234, 4_000_000_000)
    assert facts(tree[b"srv/spool/new/mail"]) == (0o600, 1234, 4_000_000_000)
    assert root.link(tree[b"srv/spool/link"]) == b"new/mail"


def test_file_of_the_tree_is_replaced(root: Reader, tree: dict[bytes, Inode]) -> None:
    """A grafted file takes the place of the tree's own; owners were looked up in the tree's."""
    assert b"grafted" in root.data(tree[b"etc/passwd"])


def test_without_a_bootloader_nothing_boots(built: Path, place: Workplace) -> None:
    """With ``bootloader.install`` left out, a boot says that there is nothing to boot."""
    booted = place.run("boot", built, "--until", "login", "--json")
    report = booted.json()
    assert (booted.status, report["outcome"]) == (1, "panicked")
    # a firmware that brings a shell ends there
    assert report["pattern"] in {"no bootable device", "UEFI shell"}
    assert list(report["milestones"]) in ([], ["firmware"])
    assert place.guests() == []
