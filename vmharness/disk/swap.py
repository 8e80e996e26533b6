"""Swap areas inside a raw disk: made with mkswap, and read back."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from vmharness.host import proc
from vmharness.model.partitions import Partition, Swap

_PAGE = 4096
# Linux, include/linux/swap.h, union swap_header: version, last page, bad pages; UUID and label; the mark at the end
_HEADER = struct.Struct("<1024xIII16s16s")
_MARK = b"SWAPSPACE2"


def make_swap(disk: Path, part: Partition, swap: Swap) -> None:
    """Make the swap area of a partition.

    :raises HostError: mkswap failed.
    """
    # mkswap of Debian 12 knows no offset: it writes one page, which is made beside the disk and copied
    with tempfile.NamedTemporaryFile(prefix="swap-", dir=disk.absolute().parent) as area:
        area.truncate(part.size)
        argv = ["mkswap", "--pagesize", str(_PAGE), "--uuid", str(swap.uuid), "--label", swap.label, area.name]
        proc.run(argv, doing="making the swap area")
        with disk.open("r+b") as file:
            os.pwrite(file.fileno(), os.pread(area.fileno(), _PAGE, 0), part.offset)


def check_swap(disk: Path, part: Partition, planned: Swap) -> Iterator[str]:
    """How the swap area differs from the planned one: one sentence each."""
    with disk.open("rb") as file:
        page = os.pread(file.fileno(), _PAGE, part.offset)
    if len(page) < _PAGE or not page.endswith(_MARK):
        yield f"partition {part.number} ({part.role}) holds no swap area"
        return
    _version, last, _bad, uuid, label = _HEADER.unpack_from(page)
    found = (UUID(bytes=uuid), label.rstrip(b"\0").decode("utf-8", "replace"), (last + 1) * _PAGE)
    wanted = (planned.uuid, planned.label, part.size)
    for what, there, meant in zip(("UUID", "label", "size"), found, wanted, strict=True):
        if there != meant:
            yield f"the {what} of the swap area in partition {part.number} is {there} instead of {meant}"
