"""Partition tables, partitions and filesystems as values. Positions are in sectors, sizes in bytes where it says so."""

from __future__ import annotations

from uuid import UUID

from attrs import frozen

from vmharness.model.sizes import MIB

SECTOR = 512

# Discoverable Partitions Specification, https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
ESP_TYPE = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT_X86_64_TYPE = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")


@frozen(kw_only=True)
class Partition:
    """One partition of the table.

    :param number: 1-based.
    :param role: what it is for: ``esp`` or ``root``.
    :param name: partition label.
    :param type_guid: its type.
    :param guid: its own identifier.
    :param start: first sector.
    :param sectors: length.
    """

    number: int
    role: str
    name: str
    type_guid: UUID
    guid: UUID
    start: int
    sectors: int

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
    """A GPT and its partitions, to the sector.

    :param disk_guid: the table's identifier.
    :param size: bytes of the whole disk.
    """

    disk_guid: UUID
    size: int
    partitions: tuple[Partition, ...]

    def by_role(self, role: str) -> Partition:
        """The partition with that role."""
        return next(partition for partition in self.partitions if partition.role == role)


@frozen(kw_only=True)
class Ext4:
    """How the root filesystem is made.

    :param size: bytes of the filesystem.
    :param inodes: number of inodes.
    :param hash_seed: seed of the directory hashes.
    """

    label: str
    uuid: UUID
    hash_seed: UUID
    size: int
    inodes: int


@frozen(kw_only=True)
class Fat:
    """How the EFI system partition is made: label and 32-bit volume id."""

    label: str
    volume_id: int


ALIGNMENT = MIB

# Microsoft's FAT specification, "FAT Type Determination": with fewer clusters it is not FAT32, whatever its label says.
FAT32_CLUSTERS = 65_525
