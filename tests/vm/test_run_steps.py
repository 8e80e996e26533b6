"""``[[run]]``: steps of the user's own, in the target and in the appliance."""

from __future__ import annotations

import trees
from running import Workplace

GOOD = """
[[run]]
name = "write it = 'down'"
script = "down"
parameters = { WHAT = "it's $x" }
when = "before-bootloader"

[[run]]
name = "look at it"
inside = "appliance"
command = ["cat", "/target/etc/down"]
expect = "it's $x, as 0"
"""

SCRIPT = """#!/usr/bin/env sh
set -eu
test -b "$DISK"
grep -q " $ESP vfat " /proc/mounts
test -z "${TOKEN-}${TARGET-}"
echo "$WHAT, as $(id -u), $ROOT_ARGUMENT" >/etc/down
"""

BAD = """
[[run]]
name = "fail"
inside = "appliance"
script = "fail"
"""


def test_run_steps(place: Workplace) -> None:
    """Scripts and commands run where they are told to, with what they need; one that fails ends the build."""
    (place.folder / "down").write_text(SCRIPT)
    (place.folder / "fail").write_text('#!/bin/sh\nls "$TARGET/run/vmharness-steps"; echo oh no >&2; exit 7\n')
    out = place.build(trees.MINIMAL + GOOD)
    root = trees.root_of(out, trees.raw_disk(out, place.folder))
    guid = trees.read_manifest(out).table.by_role("root").guid
    down = trees.file_at(root, b"etc/down")
    assert down is not None
    assert root.data(down) == f"it's $x, as 0, root=PARTUUID={guid}\n".encode()
    assert trees.file_at(root, b"run/vmharness-steps") is None

    out.rename(place.folder / "good")
    done = place.fail(trees.MINIMAL + GOOD + BAD)
    assert done.status == 1
    assert "step 'fail'" in done.error()
    assert "the script 'fail' ended with status 7" in done.error()
    assert "oh no" in done.error()
    (kept,) = place.run_directories()
    assert {path.name for path in (kept / "scripts").iterdir()} == {"write it = 'down'", "fail"}
    assert "[fail] write it = 'down'\n" in (kept / "steps.log").read_text()
