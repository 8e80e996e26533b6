"""The partition table of a raw disk: written with sfdisk, read back, compared, and checked with sgdisk.

Neither program can be trusted to say no: sfdisk takes the backup table for a damaged one and ends with status 0, and
sgdisk ends with status 0 whatever it found. So whatever they print besides the expected is a finding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.model.partitions import SECTOR, Layout, Partition

# The table takes 33 sectors at each end, and the protective MBR one more at the beginning (UEFI 2.10, section 5.3).
_FIRST_USABLE = 34
_ENTRIES = 128
_CLEAN = re.compile(
    r"\s*No problems found\. \d+ free sectors \([^)]*\) available in \d+\s+segments?, [^.]*\.?[^.]*\.\s*"
)


def write_table(disk: Path, layout: Layout) -> None:
    """Write ``layout`` as a GPT into the raw disk, whose size must be the layout's.

    :raises HostError: sfdisk refused it, such as for partitions outside the disk.
    """
    proc.run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", disk],
        doing="writing the partition table",
        stdin=_script(layout).encode(),
    )


def compare(layout: Layout, disk: Path) -> tuple[str, ...]:
    """How the table that is on the disk differs from ``layout``: one sentence each, nothing if it is the same."""
    if disk.stat().st_size != layout.size:
        return (f"the disk has {disk.stat().st_size} bytes instead of {layout.size}",)
    try:
        done = proc.run(["sfdisk", "--json", disk], doing="reading the partition table back")
    except HostError as error:
        return (error.what,)
    complaints = done.stderr.decode("utf-8", "replace").split("\n")
    said = tuple(f"sfdisk: {line.strip()}" for line in complaints if line.strip())
    return said + tuple(_differences(layout, json.loads(done.stdout)["partitiontable"]))


def check_table(disk: Path) -> tuple[str, ...]:
    """What ``sgdisk --verify`` finds wrong with the table: one sentence each, nothing if it is clean."""
    done = proc.run(["sgdisk", "--verify", disk], doing="checking the partition table", ok=range(256))
    text = done.text + done.stderr.decode("utf-8", "replace")
    if done.status == 0 and _CLEAN.fullmatch(text):
        return ()
    lines = (line.strip(" *") for line in _CLEAN.sub("", text).split("\n"))
    return tuple(f"sgdisk: {line}" for line in lines if line) or (f"sgdisk ended with status {done.status}",)


def _script(layout: Layout) -> str:
    """The layout in sfdisk's words (sfdisk(8), "Input formats"), every position explicit so that it rounds nothing."""
    head = [
        "label: gpt",
        f"label-id: {layout.disk_guid}",
        "unit: sectors",
        f"first-lba: {_FIRST_USABLE}",
        f"last-lba: {layout.size // SECTOR - _FIRST_USABLE}",
        f"table-length: {_ENTRIES}",
    ]
    lines = [
        f"{part.number} : start={part.start}, size={part.sectors}, type={part.type_guid}, uuid={part.guid}, "
        f'name="{part.name}"'
        for part in layout.partitions
    ]
    return "\n".join([*head, "", *lines, ""])


def _differences(layout: Layout, table: dict[str, Any]) -> Iterator[str]:
    wanted: dict[str, Any] = {
        "label": "gpt",
        "id": str(layout.disk_guid),
        "sectorsize": SECTOR,
        "firstlba": _FIRST_USABLE,
        "lastlba": layout.size // SECTOR - _FIRST_USABLE,
    }
    yield from _fields("the table", wanted, table)
    found = {_number(table["device"], entry["node"]): entry for entry in table.get("partitions", ())}
    for part in layout.partitions:
        if part.number in found:
            yield from _fields(f"partition {part.number} ({part.role})", _entry(part), found.pop(part.number))
        else:
            yield f"partition {part.number} ({part.role}) is missing"
    yield from (f"partition {number} is not in the plan" for number in found)


def _entry(part: Partition) -> dict[str, Any]:
    return {
        "start": part.start,
        "size": part.sectors,
        "type": str(part.type_guid),
        "uuid": str(part.guid),
        "name": part.name,
        "attrs": None,
    }


def _fields(what: str, wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for key, value in wanted.items():
        there = found.get(key)
        same = there.lower() == value if key in {"id", "type", "uuid"} and there is not None else there == value
        if not same:
            yield f"{what}: {key} is {there} instead of {value}"


def _number(device: str, node: str) -> int:
    """``disk.raw2`` is partition 2; sfdisk puts a ``p`` between where the disk's own name ends with a digit."""
    return int(node.removeprefix(device).lstrip("p"))
