"""Blocks that are copied into a partition as they are: looked at before, copied, and read back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmharness.errors import HostError, SpecError
from vmharness.model.partitions import SECTOR, Blocks, Partition

_CHUNK = 1 << 20


def survey(path: Path, *, origin: str, key: str) -> Blocks:
    """What a file or block device holds.

    :param origin: the definition file, and ``key`` the place in it, for messages.
    :raises SpecError: it cannot be read, or is no whole number of sectors.
    """
    if not path.is_file() and not path.is_block_device():
        what = "is neither a file nor a block device" if path.exists() else "does not exist"
        raise SpecError(f"{path} {what}", origin=origin, key=key)
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}", origin=origin, key=key) from error
    if not size or size % SECTOR:
        raise SpecError(
            f"{path} has {size} bytes", origin=origin, key=key, allowed=f"a whole number of sectors of {SECTOR} bytes"
        )
    return Blocks(source=path, size=size, sha256=digest.hexdigest())


def copy_blocks(disk: Path, part: Partition, blocks: Blocks) -> None:
    """Copy the blocks to the partition's beginning; what is zero stays a hole.

    :raises HostError: they cannot be read, or are not what they were.
    """
    digest, done = hashlib.sha256(), 0
    try:
        with blocks.source.open("rb") as source, disk.open("r+b") as target:
            # no more than was announced, whatever became of the source: the next partition begins behind it
            while chunk := source.read(min(_CHUNK, blocks.size - done)):
                digest.update(chunk)
                if chunk.count(0) != len(chunk):
                    os.pwrite(target.fileno(), chunk, part.offset + done)
                done += len(chunk)
    except OSError as error:
        raise HostError(f"copying {blocks.source}: {error.strerror}") from error
    if digest.hexdigest() != blocks.sha256:
        raise HostError(f"{blocks.source} changed while it was copied", hint="build again when nothing writes to it")


def check_blocks(disk: Path, part: Partition, planned: Blocks) -> Iterator[str]:
    """How the blocks differ from those that were to be copied: a sentence, or nothing."""
    digest, left = hashlib.sha256(), planned.size
    with disk.open("rb") as file:
        file.seek(part.offset)
        while left and (chunk := file.read(min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    if digest.hexdigest() != planned.sha256:
        yield f"partition {part.number} ({part.role}) does not hold what {planned.source} held"
