"""A container image as root source: packed by the example's own script, built, looked into, booted."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import trees
from running import Workplace

from vmharness.host.kernel import appliance_kernel
from vmharness.tree import minimal

MAKE_IMAGE = Path(__file__).resolve().parents[2] / "examples/oci/make-image"
DEFINITION = """
[image]
name = "container"
additional-space = "8M"
boot-size = "48M"

[root]
source = { oci = "image.tar", platform = "linux/amd64" }
"""


@pytest.fixture(scope="module")
def container(shop: Workplace) -> Path:
    """The output folder of an image whose lower layer is the minimal tree with two files that the upper layer hides."""
    tree = shop.folder / "container-tree"
    shutil.copytree(minimal.stage(appliance_kernel(), systemd_boot=True).directory, tree, symlinks=True)
    (tree / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (tree / "usr/share/doc/thing").mkdir(parents=True)
    (tree / "usr/share/doc/thing/copyright").write_text("nobody's\n")
    archive = shop.folder / "tree.tar"
    subprocess.run(["tar", "-C", tree, "--owner=0", "--group=0", "-cf", archive, "."], check=True)
    subprocess.run([MAKE_IMAGE, shop.folder / "image.tar", archive], check=True)
    return shop.build(DEFINITION + trees.SYSTEMD_BOOT, output="container")


def test_upper_layer_hides_and_replaces(container: Path, tmp_path: Path) -> None:
    """The root filesystem has the lower layer's files but those that the upper one hides or replaces."""
    root = trees.root_of(container, trees.raw_disk(container, tmp_path)).tree()
    assert b"usr/bin/busybox" in root
    assert (root[b"etc/hostname"].size, root[b"etc/hostname"].mode) == (len("container\n"), stat.S_IFREG | 0o644)
    assert b"usr/share" in root
    assert b"usr/share/doc" not in root
    assert b"etc/resolv.conf" not in root
    assert [path for path in root if b".wh." in path] == []


def test_it_boots_to_login(container: Path, place: Workplace) -> None:
    """The kernel and the systemd-boot that the container image brought start it, under the upper layer's name."""
    booted = place.run("boot", container, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout
    report = booted.json()
    assert (report["outcome"], report["reached"]) == ("reached", True)
    transcript = Path(report["transcript"]).read_bytes()
    assert b"vmharness minimal: up" in transcript
    assert b"container login:" in transcript
