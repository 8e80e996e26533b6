"""An image of a Nix store's content alone: the whole build, which starts no machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from ext4_reader import Reader
from nix_store import NixStore, system

from vmharness.disk.filesystems import check_ext4
from vmharness.events import Event, StepStarted
from vmharness.flows.build import build

DEFINITION = """
[image]
name = "store"
format = "raw"
additional-space = "1M"

[root]
source = {{ nix = "{path}", store = "store" }}

[nix]
store-only = true
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A closure in a store of the test."""
    return system(NixStore(tmp_path / "store"))


def test_the_stores_content_is_at_the_root(tmp_path: Path, path: str) -> None:
    """Every path of the closure lies at the root of a clean ext4 called ``nix-store``, and nothing else does."""
    (tmp_path / "image.toml").write_text(DEFINITION.format(path=path))
    events: list[Event] = []
    made = build(tmp_path / "image.toml", tmp_path / "out", emit=events.append)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"store.img", "manifest.json"}
    assert (made.kernel, made.firmware, made.variables) == (None, None, None)
    assert "start the appliance" not in {event.step for event in events if isinstance(event, StepStarted)}
    disk = tmp_path / "out/store.img"
    assert check_ext4(disk, 0) == ()
    assert disk.read_bytes()[1024 + 120 : 1024 + 136].rstrip(b"\0") == b"nix-store"
    tree = Reader(disk, 0).tree()
    store = NixStore(tmp_path / "store")
    closure = store.run("--query", "--requisites", path).text.split()
    names = {Path(found).name.encode() for found in closure}
    assert {name.split(b"/")[0] for name in tree} - {b"", b"lost+found"} == names
    shell = next(name for name in names if name.endswith(b"-shell"))
    tools = next(name for name in names if name.endswith(b"-tools"))
    assert tree[shell + b"/bin/sh"].number == tree[tools + b"/bin/same"].number
    assert (tree[shell].uid, tree[shell].mtime) == (0, 1_000_000_000)
