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
from uuid import UUID

from attrs import evolve, frozen

from vmharness.errors import HostError, VerificationFailed
from vmharness.host import proc
from vmharness.model.partition_types import designator_of
from vmharness.model.partitions import BIOS_BOOT_TYPE, SECTOR, XBOOTLDR_TYPE, Layout, Partition, Scheme

# The table takes 33 sectors at each end, and the protective MBR one more at the beginning (UEFI 2.10, section 5.3).
_FIRST_USABLE = 34
_ENTRIES = 128
_ESP_TYPES = {"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef"}
_ROLES = {BIOS_BOOT_TYPE: "bios", XBOOTLDR_TYPE: "boot"}
_LEGACY_BIOS_BOOTABLE = 1 << 2  # UEFI 2.10, table 5-8
_ATTRIBUTES = {0: "RequiredPartition", 1: "NoBlockIOProtocol", 2: "LegacyBIOSBootable"}
_CLEAN = re.compile(
    r"\s*No problems found\. \d+ free sectors \([^)]*\) available in \d+\s+segments?, [^.]*\.?[^.]*\.\s*"
)


def write_table(disk: Path, layout: Layout) -> None:
    """Write the table of ``layout`` into the raw disk, whose size must be the layout's; nothing where it has none.

    :raises HostError: sfdisk refused it, such as for partitions outside the disk.
    """
    if layout.scheme is Scheme.NONE:
        return
    proc.run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", disk],
        doing="writing the partition table",
        stdin=_script(layout).encode(),
    )


def compare(layout: Layout, disk: Path) -> tuple[str, ...]:
    """How the table that is on the disk differs from ``layout``: one sentence each, nothing if it is the same."""
    if disk.stat().st_size != layout.size:
        return (f"the disk has {disk.stat().st_size} bytes instead of {layout.size}",)
    if layout.scheme is Scheme.NONE:
        return ()
    try:
        done = proc.run(["sfdisk", "--json", disk], doing="reading the partition table back")
    except HostError as error:
        return (error.what,)
    complaints = done.stderr.decode("utf-8", "replace").split("\n")
    said = tuple(f"sfdisk: {line.strip()}" for line in complaints if line.strip())
    return said + tuple(_differences(layout, json.loads(done.stdout)["partitiontable"]))


def check_table(disk: Path) -> tuple[str, ...]:
    """What ``sgdisk --verify`` finds wrong with a GPT: one sentence each, nothing if it is clean."""
    done = proc.run(["sgdisk", "--verify", disk], doing="checking the partition table", ok=range(256))
    text = done.text + done.stderr.decode("utf-8", "replace")
    if done.status == 0 and _CLEAN.fullmatch(text):
        return ()
    lines = (line.strip(" *") for line in _CLEAN.sub("", text).split("\n"))
    return tuple(f"sgdisk: {line}" for line in lines if line) or (f"sgdisk ended with status {done.status}",)


@frozen(kw_only=True)
class FoundPartition:
    """A partition as it is on a disk.

    :param start: first sector.
    :param sectors: length.
    :param type: in sfdisk's words: a GUID, or on an MBR disk two hexadecimal digits; lower case.
    :param identity: its GUID, or on an MBR disk the disk's 32-bit identifier.
    """

    number: int
    start: int
    sectors: int
    type: str
    identity: UUID | int


def read_partitions(disk: Path) -> tuple[FoundPartition, ...]:
    """The partitions of the raw disk, whoever made them.

    :raises HostError: there is no partition table.
    """
    done = proc.run(["sfdisk", "--json", disk], doing=f"reading the partition table of {disk}")
    table = json.loads(done.stdout)["partitiontable"]
    return tuple(
        FoundPartition(
            number=_number(table["device"], entry["node"]),
            start=entry["start"],
            sectors=entry["size"],
            type=entry["type"].lower(),
            identity=UUID(entry["uuid"]) if table["label"] == "gpt" else int(table["id"], 16),
        )
        for entry in table.get("partitions", ())
    )


def read_layout(disk: Path) -> Layout:
    """The table of a raw disk, whoever made it, without what its partitions hold; none is a layout, too.

    :raises VerificationFailed: the table is damaged.
    """
    size = disk.stat().st_size
    done = proc.run(["sfdisk", "--json", disk], doing="reading the partition table", ok=range(256))
    if done.status != 0:
        return Layout(scheme=Scheme.NONE, size=size, partitions=())
    complaints = tuple(line.strip() for line in done.stderr.decode("utf-8", "replace").split("\n") if line.strip())
    if complaints:
        raise VerificationFailed("the partition table is damaged", findings=complaints)
    table = json.loads(done.stdout)["partitiontable"]
    is_gpt = table["label"] == "gpt"
    found: list[Partition] = []
    for entry in sorted(table.get("partitions", ()), key=lambda entry: _number(table["device"], entry["node"])):
        part = _found_gpt(table["device"], entry) if is_gpt else _found_mbr(table["device"], entry)
        taken = {other.role for other in found}
        found.append(evolve(part, role=f"{part.role}-{part.number}") if part.role in taken else part)
    return Layout(
        scheme=Scheme.GPT if is_gpt else Scheme.MBR,
        identifier=UUID(table["id"]) if is_gpt else int(table["id"], 16),
        size=size,
        partitions=tuple(found),
    )


def _found_gpt(device: str, entry: dict[str, Any]) -> Partition:
    kind = UUID(entry["type"])
    words = set(entry.get("attrs", "").split())
    bits = sum(1 << bit for bit, word in _ATTRIBUTES.items() if word in words)
    own = next((word.removeprefix("GUID:") for word in words if word.startswith("GUID:")), "")
    return Partition(
        number=_number(device, entry["node"]),
        role=_ROLES.get(kind) or designator_of(kind) or f"partition-{_number(device, entry['node'])}",
        name=entry.get("name", ""),
        type=kind,
        guid=UUID(entry["uuid"]),
        start=entry["start"],
        sectors=entry["size"],
        active=bool(bits & _LEGACY_BIOS_BOOTABLE),
        attributes=(bits & ~_LEGACY_BIOS_BOOTABLE) | sum(1 << int(bit) for bit in own.split(",") if bit),
    )


def _found_mbr(device: str, entry: dict[str, Any]) -> Partition:
    number, kind = _number(device, entry["node"]), int(entry["type"], 16)
    return Partition(
        number=number,
        role="esp" if entry["type"].lower() in _ESP_TYPES else f"partition-{number}",
        type=kind,
        start=entry["start"],
        sectors=entry["size"],
        active=bool(entry.get("bootable")),
    )


def find_esp(disk: Path) -> int | None:
    """The byte at which the EFI system partition of a raw disk begins, or None where there is none.

    :raises HostError: the disk has no readable table.
    """
    found = (part for part in read_partitions(disk) if part.type in _ESP_TYPES)
    return next((part.start * SECTOR for part in found), None)


def _script(layout: Layout) -> str:
    """The layout in sfdisk's words (sfdisk(8), "Input formats"), every position explicit so that it rounds nothing."""
    head = ["unit: sectors"]
    if layout.scheme is Scheme.GPT:
        head += [
            "label: gpt",
            f"label-id: {layout.identifier}",
            f"first-lba: {_FIRST_USABLE}",
            f"last-lba: {layout.size // SECTOR - _FIRST_USABLE}",
            f"table-length: {_ENTRIES}",
        ]
    else:
        head += ["label: dos", f"label-id: 0x{layout.identifier:08x}"]
    return "\n".join([*head, "", *(_line(part) for part in layout.partitions), ""])


def _line(part: Partition) -> str:
    place = f"{part.number} : start={part.start}, size={part.sectors}"
    if part.guid is None:
        return f"{place}, type={part.type:x}{', bootable' if part.active else ''}"
    words = _attributes(part)
    attributes = f', attrs="{words}"' if words else ""
    return f'{place}, type={part.type}, uuid={part.guid}, name="{part.name}"{attributes}'


def _differences(layout: Layout, table: dict[str, Any]) -> Iterator[str]:
    wanted: dict[str, Any] = {"sectorsize": SECTOR}
    if layout.scheme is Scheme.GPT:
        last = layout.size // SECTOR - _FIRST_USABLE
        wanted |= {"label": "gpt", "id": str(layout.identifier), "firstlba": _FIRST_USABLE, "lastlba": last}
    else:
        wanted |= {"label": "dos", "id": f"0x{layout.identifier:08x}"}
    yield from _fields("the table", wanted, table)
    found = {_number(table["device"], entry["node"]): entry for entry in table.get("partitions", ())}
    for part in layout.partitions:
        if part.number in found:
            yield from _fields(f"partition {part.number} ({part.role})", _entry(part), found.pop(part.number))
        else:
            yield f"partition {part.number} ({part.role}) is missing"
    yield from (f"partition {number} is not in the plan" for number in found)


def _entry(part: Partition) -> dict[str, Any]:
    entry = {"start": part.start, "size": part.sectors}
    if part.guid is None:
        return {**entry, "type": f"{part.type:x}", "bootable": True if part.active else None}
    attributes = _attributes(part) or None
    return {**entry, "type": str(part.type), "uuid": str(part.guid), "name": part.name, "attrs": attributes}


def _attributes(part: Partition) -> str:
    """Attribute bits in sfdisk's words: the common ones have names, those of a type have numbers (sfdisk(8))."""
    bits = part.attributes | (_LEGACY_BIOS_BOOTABLE if part.active else 0)
    words = [word for bit, word in _ATTRIBUTES.items() if bits >> bit & 1]
    own = [str(bit) for bit in range(48, 64) if bits >> bit & 1]
    return " ".join([*words, *([f"GUID:{','.join(own)}"] if own else [])])


def _fields(what: str, wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for key, value in wanted.items():
        there = found.get(key)
        same = there.lower() == value if key in {"id", "type", "uuid"} and there is not None else there == value
        if not same:
            yield f"{what}: {key} is {there} instead of {value}"


def _number(device: str, node: str) -> int:
    """``disk.raw2`` is partition 2; sfdisk puts a ``p`` between where the disk's own name ends with a digit."""
    return int(node.removeprefix(device).lstrip("p"))
