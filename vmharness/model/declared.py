"""Partitions that a definition declares one by one, as NixOS' ``image.repart`` and systemd-repart have them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from uuid import UUID

from attrs import evolve, field, frozen

from vmharness.model.image import Content
from vmharness.model.partition_types import designator_of, name_of
from vmharness.model.sizes import MIB
from vmharness.model.sources import RootSource

DEFAULT_WEIGHT = 1000
DEFAULT_SIZE_MIN = 10 * MIB

# Discoverable Partitions Specification, "Partition Flags"
GROW_FILE_SYSTEM = 1 << 59
READ_ONLY = 1 << 60
NO_AUTO = 1 << 63

_MOUNTED = {"root", "usr", "home", "srv", "var", "tmp", "xbootldr"}
_VERITY = {"root-verity", "usr-verity", "root-verity-sig", "usr-verity-sig"}
KNOWN_FLAGS = {
    GROW_FILE_SYSTEM: frozenset(_MOUNTED),
    READ_ONLY: frozenset(_MOUNTED | _VERITY),
    NO_AUTO: frozenset(_MOUNTED | {"root-verity", "usr-verity", "swap"}),
}
"""The designators of the types for which the specification defines each flag."""


class Minimize(Enum):
    """Whether a partition is as small as what it holds.

    ``OFF``: it has the usual least size. ``GUESS``: at least what it holds, and more where there is room. ``BEST``:
    just what it holds.
    """

    OFF = "off"
    GUESS = "guess"
    BEST = "best"


class StorePrefix(Enum):
    """Whether store paths lie in ``/nix/store`` or at the root of their partition."""

    KEEP = "keep"
    STRIP = "strip"


@frozen(kw_only=True)
class DeclaredContent(Content):
    """Files grafted into a partition.

    :param tree: the role of a partition, if ``source`` is a file of that one's source instead of one of the host.
    """

    tree: str | None = None


@frozen(kw_only=True)
class Copy:
    """A file or directory of the host that is copied as it is, with its owners, modes and attributes.

    :param root: what ``source``, an absolute path, is relative to.
    """

    root: Path
    source: str
    target: str


@frozen(kw_only=True)
class DeclaredPartition:
    """One partition of a declared table. Sizes are in bytes.

    :param declared_in: the file of a folder of definitions that declares it, for messages.
    :param type: its type's GUID.
    :param label: its name in the table, or None for the type's.
    :param uuid: its own GUID, or None for one that is derived from the seed; ``filesystem_uuid`` and ``volume_id`` (of
        a FAT) alike.
    :param filesystem: ``ext4``, ``vfat``, ``swap``; empty for none.
    :param filesystem_label: or None for the partition's, cut to what the filesystem takes.
    :param size_min: or None for the usual 10 MiB, or what it holds.
    :param weight: its share of the room that is left on a disk of fixed size; ``padding_weight`` is that of the free
        space behind it.
    :param priority: where not everything fits, the partitions of the highest priority above 0 are left out.
    :param source: the tree that it is filled with.
    :param copies: are laid over that, then ``contents``, then ``directories``, which are made.
    :param store_paths: Nix store paths whose closures it holds.
    :param nix_store: the directory that holds ``nix/store``, or None for the host's own store.
    :param copy_blocks: file or device whose bytes it holds instead of a filesystem.
    :param flags: all 64 attribute bits; the three flags below win over the bits in it. None is the type's default.
    """

    declared_in: str = ""
    type: UUID
    label: str | None = None
    uuid: UUID | None = None
    filesystem: str = ""
    filesystem_label: str | None = None
    filesystem_uuid: UUID | None = None
    volume_id: int | None = None
    size_min: int | None = None
    size_max: int | None = None
    weight: int = DEFAULT_WEIGHT
    padding_min: int = 0
    padding_max: int | None = None
    padding_weight: int = 0
    priority: int = 0
    minimize: Minimize = Minimize.OFF
    source: RootSource | None = None
    copies: tuple[Copy, ...] = field(default=())
    contents: tuple[DeclaredContent, ...] = field(default=())
    directories: tuple[str, ...] = field(default=())
    store_paths: tuple[Path, ...] = field(default=())
    nix_store: Path | None = None
    nix_store_prefix: StorePrefix = StorePrefix.KEEP
    copy_blocks: Path | None = None
    flags: int = 0
    grow_file_system: bool | None = None
    read_only: bool | None = None
    no_auto: bool | None = None

    def key(self, number: int) -> str:
        """Where it stands in its definition, for messages.

        :param number: its place among the partitions, from 0.
        """
        return self.declared_in or f"partition[{number}]"

    @property
    def designator(self) -> str:
        """What its type is for, whatever the architecture; empty if that is unknown."""
        return designator_of(self.type)

    @property
    def name(self) -> str:
        """Its name in the table."""
        return name_of(self.type) if self.label is None else self.label

    def completed(self) -> DeclaredPartition:
        """The same, with the filesystem that files imply where none is named (repart.d(5), ``CopyFiles=``)."""
        if self.filesystem or not self.is_filled or self.copy_blocks is not None:
            return self
        return evolve(self, filesystem="vfat" if self.designator in {"esp", "xbootldr"} else "ext4")

    @property
    def is_filled(self) -> bool:
        """Whether it is to hold files."""
        return bool(self.source or self.copies or self.contents or self.directories or self.store_paths)

    @property
    def attributes(self) -> int:
        """The 64 attribute bits of its entry in the table."""
        read_only = self._flag(READ_ONLY, self.read_only, default=self.designator in _VERITY)
        grow = self._flag(GROW_FILE_SYSTEM, self.grow_file_system, default=not read_only)
        no_auto = self._flag(NO_AUTO, self.no_auto, default=False)
        return self.flags & ~(READ_ONLY | GROW_FILE_SYSTEM | NO_AUTO) | read_only | grow | no_auto

    def _flag(self, bit: int, wanted: bool | None, *, default: bool) -> int:
        if wanted is not None:
            return bit if wanted else 0
        return self.flags & bit or (bit if default and self.designator in KNOWN_FLAGS[bit] else 0)
