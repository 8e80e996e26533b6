"""Partition tables, partitions and filesystems as values. Positions are in sectors, sizes in bytes where it says so."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from uuid import UUID

from attrs import evolve, frozen

from vmharness.model.sizes import MIB

SECTOR = 512
ALIGNMENT = MIB

# Discoverable Partitions Specification, https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
ESP_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
XBOOTLDR_TYPE = UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")
ROOT_X86_64_TYPE = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
# GRUB's manual, "BIOS installation".
BIOS_BOOT_TYPE = UUID("21686148-6449-6e6f-744e-656564454649")

# The type byte of a partition in an MBR: FAT32 with LBA, and Linux.
MBR_FAT32 = 0x0C
MBR_LINUX = 0x83

# Microsoft's FAT specification, "FAT Type Determination": with fewer clusters it is not FAT32, whatever its label says.
FAT32_CLUSTERS = 65_525


@frozen(kw_only=True)
class Ext4:
    """How an ext4 filesystem is made.

    :param size: bytes of the filesystem.
    :param inodes: number of inodes.
    :param hash_seed: seed of the directory hashes.
    :param options: more words for mke2fs.
    """

    label: str
    uuid: UUID
    hash_seed: UUID
    size: int
    inodes: int
    options: tuple[str, ...] = ()


@frozen(kw_only=True)
class Fat:
    """How a FAT32 filesystem is made: label and 32-bit volume id."""

    label: str
    volume_id: int


@frozen(kw_only=True)
class Xfs:
    """How an xfs filesystem is made, in the guest. ``options`` are more words for mkfs.xfs."""

    label: str
    uuid: UUID
    options: tuple[str, ...] = ()


@frozen(kw_only=True)
class Subvolume:
    """A subvolume of a btrfs: its name, as a path from the filesystem's top, and where it is mounted."""

    name: str
    path: str


@frozen(kw_only=True)
class Btrfs:
    """How a btrfs is made, in the guest.

    :param options: more words for mkfs.btrfs.
    :param compression: what files are compressed with, or ``none``.
    :param subvolumes: in the order of their paths; the one for ``/`` is what is mounted by default.
    """

    label: str
    uuid: UUID
    options: tuple[str, ...] = ()
    compression: str = "none"
    subvolumes: tuple[Subvolume, ...] = ()


@frozen(kw_only=True)
class F2fs:
    """How an f2fs is made, in the guest. ``options`` are more words for mkfs.f2fs."""

    label: str
    uuid: UUID
    options: tuple[str, ...] = ()


@frozen(kw_only=True)
class Erofs:
    """How an erofs is packed, in the guest. ``options`` are more words for mkfs.erofs."""

    label: str
    uuid: UUID
    options: tuple[str, ...] = ()
    compression: str = "none"


@frozen(kw_only=True)
class Squashfs:
    """How a squashfs is packed, in the guest; it has neither label nor UUID. ``options`` are more for mksquashfs."""

    options: tuple[str, ...] = ()
    compression: str


ReadOnly = Erofs | Squashfs
"""What is packed when everything is in the tree, and never written to again."""

GuestMade = Xfs | Btrfs | F2fs | ReadOnly
"""What is made in the guest, from a disk on which the host has laid the tree."""


@frozen(kw_only=True)
class Swap:
    """How a swap area is made."""

    label: str
    uuid: UUID


@frozen(kw_only=True)
class Blocks:
    """Bytes that a partition begins with, copied from elsewhere: how many, and their digest."""

    source: Path
    size: int
    sha256: str


Filesystem = Ext4 | Fat | Swap | Blocks | GuestMade


def uuid_of(filesystem: Filesystem) -> UUID | None:
    """A filesystem's UUID, where its kind has one."""
    return None if isinstance(filesystem, Fat | Squashfs | Blocks) else filesystem.uuid


def label_of(filesystem: Filesystem) -> str | None:
    """A filesystem's label, where its kind has one."""
    return None if isinstance(filesystem, Squashfs | Blocks) else filesystem.label


class Scheme(Enum):
    """How a disk is divided. ``NONE``: not at all, the filesystem is the disk."""

    GPT = "gpt"
    MBR = "mbr"
    NONE = "none"


@frozen(kw_only=True)
class Partition:
    """One partition of the table, or the whole of a disk without one.

    :param number: 1-based; 0 is the whole disk.
    :param role: what it is for, and the name that no other partition of the disk has: ``esp``, ``boot`` (kernels, apart
        from the root filesystem), ``bios`` (GRUB's own room on a GPT), ``root``; of a declared one, its type.
    :param name: partition label, for a GPT.
    :param type: its type: a GUID in a GPT, a byte in an MBR.
    :param guid: its own identifier, in a GPT.
    :param start: first sector.
    :param sectors: length.
    :param active: whether the table marks it as the one that a BIOS boots from: the active flag of an MBR, the
        attribute "legacy BIOS bootable" of a GPT.
    :param attributes: the 64 attribute bits of its entry in a GPT.
    :param filesystem: what is made in it, if anything.
    """

    number: int
    role: str
    name: str = ""
    type: UUID | int = 0
    guid: UUID | None = None
    start: int
    sectors: int
    active: bool = False
    attributes: int = 0
    filesystem: Filesystem | None = None

    @property
    def offset(self) -> int:
        """First byte."""
        return self.start * SECTOR

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.sectors * SECTOR


@frozen(kw_only=True)
class Layout:
    """A disk and its partitions, to the sector.

    :param identifier: the table's own: a GUID in a GPT, the 32-bit disk signature in an MBR, None without a table.
    :param size: bytes of the whole disk.
    :param partitions: in the order of their numbers, which is also their order on the disk.
    """

    scheme: Scheme
    identifier: UUID | int | None = None
    size: int
    partitions: tuple[Partition, ...]

    def find(self, role: str) -> Partition | None:
        """The partition with that role, if there is one."""
        return next((partition for partition in self.partitions if partition.role == role), None)

    def by_role(self, role: str) -> Partition:
        """The partition with that role, which is known to be there."""
        return next(partition for partition in self.partitions if partition.role == role)

    def partuuid(self, partition: Partition) -> str | None:
        """What the kernel calls ``PARTUUID``: in an MBR, made of the disk's signature and the partition's number."""
        if partition.guid is not None:
            return str(partition.guid)
        if self.scheme is Scheme.MBR:
            return f"{self.identifier:08x}-{partition.number:02x}"
        return None

    def with_filesystem(self, role: str, filesystem: Filesystem) -> Layout:
        """The same layout with another filesystem in the partition of that role."""
        return evolve(
            self,
            partitions=tuple(
                evolve(partition, filesystem=filesystem) if partition.role == role else partition
                for partition in self.partitions
            ),
        )
