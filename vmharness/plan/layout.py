"""Where every partition lies, to the sector.

The geometry is that of nixpkgs' make-disk-image, put right: every partition begins and ends at a multiple of 1 MiB, the
numbers follow the order on the disk, and the boot partition has the size that was asked for.
"""

from __future__ import annotations

from uuid import UUID

from attrs import frozen

from vmharness.errors import ApiMisuse, SpecError
from vmharness.model.image import ImageSpec, PartitionTable
from vmharness.model.partitions import (
    ALIGNMENT,
    BIOS_BOOT_TYPE,
    ESP_TYPE,
    FAT32_CLUSTERS,
    MBR_FAT32,
    MBR_LINUX,
    ROOT_X86_64_TYPE,
    SECTOR,
    XBOOTLDR_TYPE,
    Fat,
    Layout,
    Partition,
    Scheme,
)
from vmharness.model.sizes import MIB, TIB, align_up, format_size
from vmharness.plan.fat import FAT32_MINIMUM
from vmharness.plan.identity import Identifiers

# UEFI 2.10, section 5.3.2: the backup header and 128 entries of 128 bytes lie in the last 33 sectors.
BACKUP_TABLE = 33 * SECTOR
# As make-disk-image has it; the room before it takes the BIOS boot partition.
ESP_START = 8 * MIB
# The kernels are on the extended boot loader partition, behind it: this one holds a loader.
SMALL_ESP = 92 * MIB
# An MBR counts sectors with 32 bits.
_MBR_LIMIT = 2 * TIB
_BLOCK = 4096


@frozen(kw_only=True)
class _Table:
    """A kind of partition table.

    :param tail: bytes that it needs at the disk's end.
    :param unit: partitions begin and end at multiples of so many bytes.
    """

    scheme: Scheme
    identifier: UUID | int | None
    tail: int = 0
    unit: int = ALIGNMENT


def make_layout(spec: ImageSpec, identifiers: Identifiers, root_bytes: int | None) -> Layout:
    """The disk of an image: what its partition table has before the root partition, and that one to the disk's end.

    The root partition's filesystem is not decided here.

    :param root_bytes: bytes that the root filesystem needs at least. With ``size = "auto"`` the root partition gets
        these, rounded up to 1 MiB; with a fixed size it gets all the room there is, and None means "not known".
    :raises SpecError: the boot partition is too small for FAT32 or not a multiple of 1 MiB; the disk is too small (the
        text says how much is needed), too large for its table, or not a whole number of sectors.
    """
    if spec.size is None and root_bytes is None:
        raise ApiMisuse("an automatic disk size needs the size of the root filesystem")
    if spec.partition_table.has_esp or spec.partition_table.has_boot:
        _require_boot_size(spec)
    table = _table(spec.partition_table, identifiers)
    before = _before_root(spec, identifiers)
    start = before[-1].offset + before[-1].size if before else 0 if table.scheme is Scheme.NONE else ALIGNMENT
    needed = align_up(max(root_bytes or 0, 1), ALIGNMENT)
    # For an automatic size, the backup table gets a whole unit of alignment, so that the disk is a multiple of it too.
    size = start + needed + align_up(table.tail, ALIGNMENT) if spec.size is None else spec.size
    end = (size - table.tail) // table.unit * table.unit
    _require_size(spec, table, size, start=start, needed=needed, end=end)
    mbr = table.scheme is Scheme.MBR
    root = Partition(
        number=0 if table.scheme is Scheme.NONE else len(before) + 1,
        role="root",
        name="root" if table.scheme is Scheme.GPT else "",
        type=ROOT_X86_64_TYPE if table.scheme is Scheme.GPT else MBR_LINUX if mbr else 0,
        guid=identifiers.root_guid if table.scheme is Scheme.GPT else None,
        start=start // SECTOR,
        sectors=(end - start) // SECTOR,
        # Some BIOSes boot from no disk without an active partition; Syslinux' boot code looks for it, in a GPT, too.
        active=spec.partition_table in {PartitionTable.LEGACY, PartitionTable.LEGACY_GPT},
    )
    return Layout(scheme=table.scheme, identifier=table.identifier, size=size, partitions=(*before, root))


def _table(kind: PartitionTable, identifiers: Identifiers) -> _Table:
    match kind:
        case PartitionTable.NONE:
            return _Table(scheme=Scheme.NONE, identifier=None, unit=_BLOCK)
        case PartitionTable.LEGACY | PartitionTable.LEGACY_BOOT:
            return _Table(scheme=Scheme.MBR, identifier=identifiers.disk_signature)
        case _:
            return _Table(scheme=Scheme.GPT, identifier=identifiers.disk_guid, tail=BACKUP_TABLE)


def _before_root(spec: ImageSpec, identifiers: Identifiers) -> tuple[Partition, ...]:
    """What each kind of table has before the root partition."""
    match spec.partition_table:
        case PartitionTable.NONE | PartitionTable.LEGACY | PartitionTable.DECLARED:
            return ()
        case PartitionTable.LEGACY_BOOT:
            return (_mbr_boot(spec, identifiers),)
        case PartitionTable.LEGACY_GPT:
            return (_bios_boot(identifiers),)
        case PartitionTable.EFI:
            return (_esp(1, identifiers, spec.boot_size),)
        case PartitionTable.EFIXBOOTLDR:
            esp = _esp(1, identifiers, SMALL_ESP)
            return (esp, _xbootldr(spec, identifiers, esp.start + esp.sectors))
        case PartitionTable.HYBRID:
            return (_bios_boot(identifiers), _esp(2, identifiers, spec.boot_size))


def _esp(number: int, identifiers: Identifiers, size: int) -> Partition:
    return Partition(
        number=number,
        role="esp",
        name="ESP",
        type=ESP_TYPE,
        guid=identifiers.esp_guid,
        start=ESP_START // SECTOR,
        sectors=size // SECTOR,
        filesystem=Fat(label="ESP", volume_id=identifiers.esp_volume_id),
    )


def _xbootldr(spec: ImageSpec, identifiers: Identifiers, start: int) -> Partition:
    return Partition(
        number=2,
        role="boot",
        name="XBOOTLDR",
        type=XBOOTLDR_TYPE,
        guid=identifiers.boot_guid,
        start=start,
        sectors=spec.boot_size // SECTOR,
        filesystem=Fat(label="BOOT", volume_id=identifiers.boot_volume_id),
    )


def _bios_boot(identifiers: Identifiers) -> Partition:
    return Partition(
        number=1,
        role="bios",
        name="BIOS boot",
        type=BIOS_BOOT_TYPE,
        guid=identifiers.bios_guid,
        start=ALIGNMENT // SECTOR,
        sectors=MIB // SECTOR,
    )


def _mbr_boot(spec: ImageSpec, identifiers: Identifiers) -> Partition:
    return Partition(
        number=1,
        role="boot",
        type=MBR_FAT32,
        start=ALIGNMENT // SECTOR,
        sectors=spec.boot_size // SECTOR,
        active=True,
        filesystem=Fat(label="BOOT", volume_id=identifiers.boot_volume_id),
    )


def _require_boot_size(spec: ImageSpec) -> None:
    if spec.boot_size < FAT32_MINIMUM:
        raise SpecError(
            f"{format_size(spec.boot_size)} is too small: FAT32 needs {FAT32_CLUSTERS} clusters of {SECTOR} bytes",
            origin=str(spec.origin),
            key="image.boot-size",
            allowed=f"{format_size(align_up(FAT32_MINIMUM, ALIGNMENT))} or more",
        )
    if spec.boot_size % ALIGNMENT:
        raise SpecError(
            f"{spec.boot_size} bytes would end the boot partition between two multiples of {format_size(ALIGNMENT)}",
            origin=str(spec.origin),
            key="image.boot-size",
            allowed=f"a multiple of {format_size(ALIGNMENT)}",
        )


def _require_size(  # noqa: PLR0913 -- a disk is these numbers
    spec: ImageSpec, table: _Table, size: int, *, start: int, needed: int, end: int
) -> None:
    if end < start + needed:
        least = align_up(start + needed + table.tail, ALIGNMENT)
        before = f"{format_size(start)} before the root partition and " if start else ""
        raise SpecError(
            f"{format_size(size)} is too small: {format_size(least)} are needed, {before}{format_size(needed)} "
            "for the root filesystem",
            origin=str(spec.origin),
            key="image.size",
            allowed=f'{format_size(least)} or more, or "auto"',
        )
    if table.scheme is Scheme.MBR and size > _MBR_LIMIT:
        raise SpecError(
            f"{size:,} bytes are more than an MBR can describe",
            origin=str(spec.origin),
            key="image.partition-table",
            allowed='at most 2 TiB, or a table with a GPT such as "legacy+gpt"',
        )
    if size % SECTOR:
        raise SpecError(
            f"{size} bytes are not a whole number of sectors",
            origin=str(spec.origin),
            key="image.size",
            allowed=f"a multiple of {SECTOR} bytes",
        )
