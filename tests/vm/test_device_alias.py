"""A target that wants its disk under another name finds it there while the bootloader is installed."""

from __future__ import annotations

import pytest
import trees
from running import Workplace

CHECK = r"""
set -eu
test "$DISK" = "{disk}"
for name in "" {first} {second}; do test -b "{disk}$name"; done
same() {{ test "$(stat -L -c %t:%T "$1")" = "$(stat -L -c %t:%T "$2")"; }}
same "{disk}" /dev/vda
same "{disk}{first}" /dev/vda1
same "{disk}{second}" /dev/vda2
echo "the alias is there"
mkdir -p /opt
echo "$HOME" >/opt/home
touch "$HOME/.left-behind"
"""


@pytest.mark.parametrize(
    ("disk", "first", "second"),
    [
        ("/dev/sda", "1", "2"),
        ("/dev/nvme0n1", "p1", "p2"),
        ("/dev/disk/by-id/ata-DISK_1", "-part1", "-part2"),
        ("/dev/vda", "1", "2"),
    ],
)
def test_disk_has_the_other_name(place: Workplace, disk: str, first: str, second: str) -> None:
    """Disk and partitions are block devices under the other name; no trace of it, nor of HOME, is in the image."""
    script = CHECK.format(disk=disk, first=first, second=second)
    definition = trees.MINIMAL.replace("[root]", 'format = "raw"\n\n[root]') + trees.shell(script)
    output = place.build(f'{definition}device = "{disk}"\n')
    tree = trees.root_of(output, output / "minimal.img").tree()
    home = trees.root_of(output, output / "minimal.img").data(tree[b"opt/home"]).decode().strip()
    assert [name for name in tree if name.startswith((b"dev/", home.lstrip("/").encode(), b"run/"))] == []
    assert not any(name.endswith(b".left-behind") for name in tree)


def test_name_that_is_taken(place: Workplace) -> None:
    """A name that the appliance uses for something else fails the step and is named."""
    failed = place.fail(trees.MINIMAL + trees.shell("true") + 'device = "/dev/null"\n')
    assert "step 'identify the target disk'" in failed.error()
    assert "the appliance has something else at /dev/null" in failed.error()
