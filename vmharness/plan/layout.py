"""Where every partition lies, to the sector."""

from __future__ import annotations

from vmharness.errors import ApiMisuse, SpecError
from vmharness.model.image import ImageSpec
from vmharness.model.partitions import ALIGNMENT, ESP_TYPE, FAT32_CLUSTERS, ROOT_X86_64_TYPE, SECTOR, Layout, Partition
from vmharness.model.sizes import MIB, align_up, format_size
from vmharness.plan.identity import Identifiers

# UEFI 2.10, section 5.3.2: the backup header and 128 entries of 128 bytes lie in the last 33 sectors.
BACKUP_TABLE = 33 * SECTOR
# As nixpkgs' make-disk-image has it; the room before it can take a BIOS boot partition.
ESP_START = 8 * MIB

_FAT32_RESERVED = 32
_FAT32_TABLE = -(-(FAT32_CLUSTERS + 2) * 4 // SECTOR)
# With clusters of one sector, the smallest that there are; two copies of the allocation table.
FAT32_MINIMUM = (_FAT32_RESERVED + 2 * _FAT32_TABLE + FAT32_CLUSTERS) * SECTOR


def efi_layout(spec: ImageSpec, identifiers: Identifiers, root_bytes: int | None) -> Layout:
    """A GPT with the EFI system partition (1) from 8 MiB and the root partition (2) behind it, to the end of the disk.

    Both partitions begin and end at multiples of 1 MiB.

    :param root_bytes: bytes that the root filesystem needs at least. With ``size = "auto"`` the root partition gets
        these, rounded up to 1 MiB; with a fixed size it gets all the room there is, and None means "not known".
    :raises SpecError: the boot partition is too small for FAT32 or not a multiple of 1 MiB; the disk is too small (the
        text says how much is needed) or not a whole number of sectors.
    """
    if spec.size is None and root_bytes is None:
        raise ApiMisuse("an automatic disk size needs the size of the root filesystem")
    _require_boot_size(spec)
    root_start = ESP_START + spec.boot_size
    least_root = align_up(max(root_bytes or 0, 1), ALIGNMENT)
    # For an automatic size, the backup table gets a whole unit of alignment, so that the disk is a multiple of it too.
    size = root_start + least_root + ALIGNMENT if spec.size is None else spec.size
    root_end = (size - BACKUP_TABLE) // ALIGNMENT * ALIGNMENT
    _require_size(spec, size, root_start + least_root, root_end)
    return Layout(
        disk_guid=identifiers.disk_guid,
        size=size,
        partitions=(
            Partition(
                number=1,
                role="esp",
                name="ESP",
                type_guid=ESP_TYPE,
                guid=identifiers.esp_guid,
                start=ESP_START // SECTOR,
                sectors=spec.boot_size // SECTOR,
            ),
            Partition(
                number=2,
                role="root",
                name="root",
                type_guid=ROOT_X86_64_TYPE,
                guid=identifiers.root_guid,
                start=root_start // SECTOR,
                sectors=(root_end - root_start) // SECTOR,
            ),
        ),
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


def _require_size(spec: ImageSpec, size: int, least_end: int, root_end: int) -> None:
    needed = align_up(least_end + BACKUP_TABLE, ALIGNMENT)
    if root_end < least_end:
        raise SpecError(
            f"{format_size(size)} is too small: {format_size(needed)} are needed, of which "
            f"{format_size(spec.boot_size)} for the boot partition and "
            f"{format_size(least_end - ESP_START - spec.boot_size)} for the root filesystem",
            origin=str(spec.origin),
            key="image.size",
            allowed=f'{format_size(needed)} or more, or "auto"',
        )
    if size % SECTOR:
        raise SpecError(
            f"{size} bytes are not a whole number of sectors",
            origin=str(spec.origin),
            key="image.size",
            allowed=f"a multiple of {SECTOR} bytes",
        )
