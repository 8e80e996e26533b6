"""Declared partitions: what each of them is on the disk, how large, and where.

Sizes follow systemd-repart (repart.d(5)): each partition has a least and a greatest size, and what a disk of fixed size
has left goes to partitions and to the free space behind them by their weights. Unlike there, everything begins and ends
at a multiple of 1 MiB, and no partition is smaller than what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from attrs import frozen

from vmharness.errors import SpecError
from vmharness.model.declared import DEFAULT_SIZE_MIN, DeclaredPartition, Minimize
from vmharness.model.image import ImageSpec
from vmharness.model.partition_types import name_of
from vmharness.model.partitions import ALIGNMENT, SECTOR, Blocks, Ext4, Fat, Filesystem, Layout, Partition, Scheme, Swap
from vmharness.model.results import FatMeasure, StagedTree
from vmharness.model.sizes import align_up, format_size
from vmharness.plan import identity
from vmharness.plan.fat import fat_size
from vmharness.plan.layout import BACKUP_TABLE
from vmharness.plan.sizing import root_size, root_within
from vmharness.plan.spread import Item, spread

_ROLES = {"xbootldr": "boot", "bios-boot": "bios"}
_SMALLEST_SWAP = ALIGNMENT
LABEL_LIMITS = {"ext4": 16, "vfat": 11, "swap": 15}
"""Bytes that a filesystem's label has at most."""


@frozen(kw_only=True)
class Held:
    """What a partition is to hold, as far as it is known: a tree with its measure for a FAT, or copied blocks."""

    tree: StagedTree | None = None
    fat: FatMeasure | None = None
    blocks: Blocks | None = None


def roles(partitions: Sequence[DeclaredPartition]) -> tuple[str, ...]:
    """What each partition is called: its type, without this machine's architecture, and numbered from the second on."""
    counts: dict[str, int] = {}
    found = []
    for part in partitions:
        native = name_of(part.type) == f"{part.designator}-x86-64"
        name = _ROLES.get(part.designator, part.designator if native else name_of(part.type))
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name}-{counts[name]}")
    return tuple(found)


def declared_layout(spec: ImageSpec, seed: str, held: Mapping[str, Held]) -> Layout:
    """The disk of an image whose partitions are declared, with its filesystems.

    :param seed: what the identifiers are derived from that are not given.
    :param held: what goes into each partition, by role.
    :raises SpecError: a partition cannot be as large as it must, or the disk is too small.
    """
    items = {role: _item(spec, number, role, held[role]) for number, role in enumerate(roles(spec.partitions))}
    taken = _taken(spec, items)
    sizes = spread([item for _part, item in taken.values()], _room(spec, taken))
    partitions, start = [], ALIGNMENT
    for number, (role, (size, padding)) in enumerate(zip(taken, sizes, strict=True), 1):
        declared = taken[role][0]
        partitions.append(_partition(declared, number, role, start, size, seed, held[role]))
        start += size + padding
    return Layout(
        scheme=Scheme.GPT,
        identifier=spec.identifiers.disk_guid or identity.named(seed, "disk"),
        size=start + align_up(BACKUP_TABLE, ALIGNMENT) if spec.size is None else spec.size,
        partitions=tuple(partitions),
    )


def _taken(
    spec: ImageSpec, items: Mapping[str, tuple[DeclaredPartition, Item]]
) -> dict[str, tuple[DeclaredPartition, Item]]:
    """The partitions that fit: of those that do not, the least important are left out."""
    taken = dict(items)
    while spec.size is not None and _least(taken) > spec.size - ALIGNMENT - BACKUP_TABLE:
        last = max(part.priority for part, _item in taken.values())
        if last <= 0:
            least = align_up(_least(taken) + ALIGNMENT + BACKUP_TABLE, ALIGNMENT)
            raise SpecError(
                f"{format_size(spec.size)} is too small for the partitions: {format_size(least)} are needed",
                origin=str(spec.origin),
                key="image.size",
                allowed=f'{format_size(least)} or more, or "auto"',
            )
        taken = {role: (part, item) for role, (part, item) in taken.items() if part.priority < last}
    return taken


def _least(items: Mapping[str, tuple[DeclaredPartition, Item]]) -> int:
    return sum(item.least + item.padding_least for _part, item in items.values())


def _room(spec: ImageSpec, taken: Mapping[str, tuple[DeclaredPartition, Item]]) -> int:
    """Bytes that partitions and the free space between them have, a multiple of the alignment."""
    if spec.size is None:
        return _least(taken)
    return (spec.size - ALIGNMENT - BACKUP_TABLE) // ALIGNMENT * ALIGNMENT


def _item(spec: ImageSpec, number: int, role: str, held: Held) -> tuple[DeclaredPartition, Item]:
    """A partition's limits, in whole units of alignment."""
    part = spec.partitions[number]
    needed = _needed(part, held)
    most = None if part.size_max is None else part.size_max // ALIGNMENT * ALIGNMENT
    least = part.size_min
    if least is None:
        least = 0 if part.minimize is not Minimize.OFF else DEFAULT_SIZE_MIN
        # a greatest size below the usual least one is meant so
        least = least if most is None else min(least, most)
    least = align_up(max(least, needed, 1), ALIGNMENT)
    if most is not None and most < least:
        what = "what it holds needs" if align_up(needed, ALIGNMENT) == least else "its least size is"
        raise SpecError(
            f"the partition '{role}' has at most {format_size(most)}, but {what} {format_size(least)}",
            origin=str(spec.origin),
            key=f"{part.key(number)}.size-max",
            allowed=f"{format_size(least)} or more",
        )
    if part.minimize is Minimize.BEST:
        most = least
    padding = align_up(part.padding_min, ALIGNMENT)
    return part, Item(
        least=least,
        most=most,
        weight=part.weight,
        padding_least=padding,
        padding_most=None if part.padding_max is None else max(padding, part.padding_max // ALIGNMENT * ALIGNMENT),
        padding_weight=part.padding_weight,
    )


def _needed(part: DeclaredPartition, held: Held) -> int:
    """Bytes of the smallest partition that holds what is to be in it."""
    if held.blocks is not None:
        return held.blocks.size
    match part.filesystem:
        case "ext4":
            assert held.tree is not None
            return root_size(held.tree.measure, 0).size
        case "vfat":
            assert held.fat is not None
            return fat_size(held.fat)
        case "swap":
            return _SMALLEST_SWAP
        case _:
            return 0


def _partition(  # noqa: PLR0913, PLR0917 -- a partition is made of these
    declared: DeclaredPartition, number: int, role: str, start: int, size: int, seed: str, held: Held
) -> Partition:
    return Partition(
        number=number,
        role=role,
        name=declared.name,
        type=declared.type,
        guid=declared.uuid or identity.named(seed, f"{role}-partition"),
        start=start // SECTOR,
        sectors=size // SECTOR,
        attributes=declared.attributes,
        filesystem=held.blocks or _filesystem(declared, role, size, seed, held.tree),
    )


def _filesystem(
    declared: DeclaredPartition, role: str, size: int, seed: str, tree: StagedTree | None
) -> Filesystem | None:
    uuid: UUID = declared.filesystem_uuid or identity.named(seed, f"{role}-filesystem")
    match declared.filesystem:
        case "ext4":
            assert tree is not None
            made = root_within(tree.measure, 0, size)
            return Ext4(
                label=filesystem_label(declared),
                uuid=uuid,
                hash_seed=identity.named(seed, f"{role}-hash-seed"),
                size=made.size,
                inodes=made.inodes,
            )
        case "vfat":
            number = declared.volume_id or identity.named(seed, f"{role}-volume-id").time_low or 1
            return Fat(label=filesystem_label(declared), volume_id=number)
        case "swap":
            return Swap(label=filesystem_label(declared), uuid=uuid)
        case _:
            return None


def filesystem_label(declared: DeclaredPartition) -> str:
    """The filesystem's label: as given, or the partition's name as far as the filesystem takes it."""
    if declared.filesystem_label is not None:
        return declared.filesystem_label
    label = declared.name.encode()[: LABEL_LIMITS[declared.filesystem]].decode("utf-8", "ignore").strip()
    if declared.filesystem != "vfat":
        return label
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-_ ") else "_" for letter in label.upper()
    )
