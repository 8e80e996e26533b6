"""The note of a checkpoint: read back as it was written; one that leads out of its folder is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vmharness.model.checkpoint import CheckpointNote, SavedDisk, When, from_json, to_json

NOTE = CheckpointNote(
    id="002-before-05",
    parent="001-before-04",
    step=4,
    name="install GRUB",
    when=When.BEFORE,
    disks=(
        SavedDisk(name="target", port=0, images=("disk.raw", "layers/target-1.qcow2")),
        SavedDisk(name="contents", port=1, read_only=True, images=("contents.tar",)),
    ),
    seconds=0.3,
    size=1 << 27,
)


def test_round_trip() -> None:
    """What is written is read."""
    assert from_json(to_json(NOTE)) == NOTE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "../../etc"}, "no name of a checkpoint"),
        ({"id": ""}, "no name of a checkpoint"),
        ({"schema": 2}, "it has the format 2"),
        ({"step": "four"}, "invalid"),
        ({"more": 1}, "extra"),
        ({"disks": [{"name": "target", "images": ["/etc/shadow"]}]}, "inside the run directory"),
        ({"disks": [{"name": "target", "images": ["layers/../../x"]}]}, "inside the run directory"),
        ({"disks": [{"name": "target", "images": [""]}]}, "inside the run directory"),
    ],
)
def test_refused(change: dict[str, Any], words: str) -> None:
    """A note that is damaged, or a stranger's trap, is refused in words."""
    with pytest.raises(ValueError, match=words):
        from_json(json.dumps({**json.loads(to_json(NOTE)), **change}))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_no_note(text: str) -> None:
    """What is no note at all is refused, too."""
    with pytest.raises(ValueError, match="it is not"):
        from_json(text)
