"""What is noted of a checkpoint: where in a run it was taken, and which files belong to it."""

from __future__ import annotations

import json
import re
from enum import Enum
from pathlib import PurePosixPath

from attrs import Attribute, field, frozen

from vmharness.model import serial
from vmharness.model.hardware import Bus

NOTE_NAME = "checkpoint.json"
SCHEMA = 1
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


class Checkpoints(Enum):
    """Which checkpoints a run takes.

    ``ALL``: before each step, and all are kept. ``FAILURE``: before steps that run the target's or the user's own
    programs, of which the last is kept, and what a failure needs. ``NONE``: none; a failed build is entered by running
    its steps again.
    """

    ALL = "all"
    FAILURE = "failure"
    NONE = "none"


class When(Enum):
    """On which side of its step a checkpoint was taken: before it, after it was done, or after it failed."""

    BEFORE = "before"
    AFTER = "after"
    FAILED = "failed"


def _check_inside(_instance: object, attribute: Attribute[tuple[str, ...]], names: tuple[str, ...]) -> None:
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            raise ValueError(f"{attribute.name} must be inside the run directory, and {name!r} is not")


def _check_id(_instance: object, _attribute: Attribute[str], name: str) -> None:
    if _ID.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a checkpoint")


@frozen(kw_only=True)
class SavedDisk:
    """A disk at the moment of a checkpoint.

    :param name: its serial number.
    :param port: the root port that it is plugged into, or None.
    :param images: the files that make it up, relative to the run directory, the lowest first: a raw image, then qcow2
        overlays.
    :param bus: how it is connected.
    """

    name: str
    bus: Bus = Bus.VIRTIO
    port: int | None = None
    read_only: bool = False
    images: tuple[str, ...] = field(validator=_check_inside)


@frozen(kw_only=True)
class CheckpointNote:
    """A checkpoint of a run.

    :param id: its name, and that of its folder.
    :param parent: the checkpoint from which the machine came here, or None where it came from its start.
    :param step: number of the step in the plan, from 0 on.
    :param name: the step's name.
    :param disks: the machine's disks.
    :param seconds: how long it took, most of which the guest stood still.
    :param size: bytes that it takes, without the disks' images.
    """

    schema: int = SCHEMA
    id: str = field(validator=_check_id)
    parent: str | None = None
    step: int
    name: str
    when: When
    disks: tuple[SavedDisk, ...]
    seconds: float
    size: int


def to_json(note: CheckpointNote) -> str:
    """The note as text."""
    return json.dumps(_CONVERTER.unstructure(note), indent=2) + "\n"


def from_json(text: str) -> CheckpointNote:
    """The note that ``text`` holds.

    :raises ValueError: with a sentence, if it is none of this format.
    """
    data = serial.document(text, what="the note of a checkpoint", schema=SCHEMA)
    return serial.structured(data, CheckpointNote, _CONVERTER)


_CONVERTER = serial.make_converter()
