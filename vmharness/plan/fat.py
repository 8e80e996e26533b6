"""How large a FAT32 filesystem must be for what goes into it, and how it is divided.

Numbers are those of mkfs.vfat with ``-F 32``: 32 reserved sectors and two allocation tables before the clusters
(Microsoft's FAT specification, "FAT Data Structure").
"""

from __future__ import annotations

from vmharness.model.partitions import ALIGNMENT, FAT32_CLUSTERS, SECTOR
from vmharness.model.results import FatMeasure
from vmharness.model.sizes import align_up

_RESERVED = 32
_TABLES = 2
_ENTRY = 4  # bytes of an allocation table for each cluster
_MOST_PER_CLUSTER = 8
_SPARE = 1.02  # mkfs.vfat rounds the tables up, and drivers count clusters each in their own way
FAT32_MINIMUM = (_RESERVED + _TABLES * -(-(FAT32_CLUSTERS + 2) * _ENTRY // SECTOR) + FAT32_CLUSTERS) * SECTOR
"""Bytes of the smallest FAT32, with clusters of one sector."""


def sectors_per_cluster(size: int) -> int:
    """The largest clusters, up to 4 KiB, of which a filesystem of ``size`` bytes has enough to be FAT32."""
    count = _MOST_PER_CLUSTER
    while count > 1 and size // SECTOR // count < FAT32_CLUSTERS * _SPARE:
        count //= 2
    return count


def clusters(size: int) -> int:
    """Data clusters of a filesystem of ``size`` bytes."""
    per_cluster = sectors_per_cluster(size)
    # mkfs.vfat lets everything begin at a multiple of a cluster
    sectors = size // SECTOR - align_up(_RESERVED, per_cluster)
    # each cluster takes its own sectors and an entry in both tables
    table = align_up(-(-(sectors // per_cluster + 2) * _ENTRY // SECTOR), per_cluster)
    return (sectors - _TABLES * table) // per_cluster


def fat_size(measure: FatMeasure) -> int:
    """Bytes of the smallest FAT32 that holds the files, a whole number of MiB."""
    size = align_up(FAT32_MINIMUM, ALIGNMENT)
    while _needed(measure, sectors_per_cluster(size) * SECTOR) > clusters(size):
        short = _needed(measure, sectors_per_cluster(size) * SECTOR) - clusters(size)
        size = align_up(size + short * sectors_per_cluster(size) * SECTOR, ALIGNMENT)
    return size


def _needed(measure: FatMeasure, cluster: int) -> int:
    return sum(-(-size // cluster) for size in (*measure.files, *measure.directories))
