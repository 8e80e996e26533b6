"""A whole build without privilege on the host: everything in an odd archive is in the image as it is meant."""

from __future__ import annotations

import base64
import gzip
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import odd_tree
import pytest
import trees
from attrs import evolve, frozen
from odd_tree import Member
from ordinary import NOBODY, ordinary_workplace
from running import Done

from vmharness.disk.filesystems import check_ext4
from vmharness.host import kernel

STEP = "run the bootloader command"
# What the appliance's kernel shows of the tree, through GNU tar in the image.
LOOK = (
    "set -o pipefail; cd / && /bin/tar --create --format=posix --sparse --numeric-owner --xattrs --xattrs-include='*'"
    " data | gzip -1 | base64"
)
DEFINITION = f"""
[image]
name = "odd"
format = "raw"
additional-space = "8M"
boot-size = "34M"

[root]
source = {{ tar = "odd.tar" }}
machine-id = "keep"
{trees.shell(LOOK)}
"""


@frozen(kw_only=True)
class Built:
    """The finished build, and the archive that went in."""

    archive: Path
    output: Path
    done: Done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The image of the odd archive, built by an ordinary user with the kernel given by path."""
    with ordinary_workplace(tmp_path_factory.mktemp("ordinary")) as place:
        archive = place.folder / "odd.tar"
        odd_tree.write(archive)
        known = kernel.appliance_kernel()
        image, modules = place.folder / "vmlinuz", place.folder / "modules" / known.version
        shutil.copy(known.image, image)
        shutil.copytree(known.modules, modules)
        definition = place.define(DEFINITION)
        output = place.folder / "out"
        options = ("--kernel", image, "--modules", modules.parent, "--json")
        done = place.run("build", definition, "-o", output, *options)
        assert done.status == 0, done.stdout[-2000:] + done.stderr
        yield Built(archive=archive, output=output, done=done)


@pytest.fixture(scope="module")
def meant(built: Built) -> dict[bytes, Member]:
    """What the archive means, with the folders that it does not state."""
    with tarfile.open(built.archive) as archive:
        stated = odd_tree.members(archive)
    folder = Member(kind=tarfile.DIRTYPE, mode=0o755, uid=0, gid=0, mtime="1600000000")
    return {**stated, b"data/names": folder, b"data/times": evolve(folder, mtime=str(odd_tree.Y1969))}


def test_it_was_an_ordinary_user(built: Built) -> None:
    """The outputs belong to the user who ran the build, and that was not root."""
    owner = built.output.stat().st_uid
    assert owner == (NOBODY if os.getuid() == 0 else os.getuid())
    assert owner != 0


def test_a_kernel_sees_what_the_archive_means(built: Built, meant: dict[bytes, Member]) -> None:
    """In the appliance, a real kernel shows every name, owner, mode, time, node, attribute and byte as they went in."""
    lines = [
        event["line"]
        for event in built.done.events()
        if event["event"] == "StepOutput" and event["step"] == STEP and event["stream"] == "stdout"
    ]
    seen_archive = gzip.decompress(base64.b64decode("".join(lines)))
    with tarfile.open(fileobj=io.BytesIO(seen_archive)) as archive:
        seen = odd_tree.members(archive)
        assert odd_tree.holes(archive) == {b"data/sparse"}
    assert seen.keys() == meant.keys()
    for name, member in meant.items():
        assert seen[name] == member, name


def test_the_finished_image_holds_it(built: Built, meant: dict[bytes, Member]) -> None:
    """The published image, read back by debugfs, still has it all; and e2fsck finds it clean."""
    image = built.output / "odd.img"
    offset = trees.read_manifest(built.output).table.by_role("root").offset
    assert check_ext4(image, offset) == ()
    root = trees.root_of(built.output, image)
    found = {path: inode for path, inode in root.tree().items() if path.startswith(b"data")}
    assert found.keys() == meant.keys()
    for path, member in meant.items():
        inode = found[path]
        assert (stat.S_IMODE(inode.mode), inode.uid, inode.gid) == (member.mode, member.uid, member.gid), path
        assert inode.mtime == _nanoseconds(member.mtime), path
        assert root.xattrs(inode) == {name for name, _value in member.xattrs}, path
    assert found[b"data/first"].number == found[b"data/second"].number
    assert found[b"data/block"].device == (259, 70_000)
    assert found[b"data/sparse"].size == odd_tree.HOLE + len(b"the end")
    assert found[b"data/sparse"].blocks <= 16
    assert root.xattr(found[b"data/ping"], "security.capability") == odd_tree.CAPABILITY


def _nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))
