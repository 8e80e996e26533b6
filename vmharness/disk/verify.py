"""The last look before publication: the finished disk is what the plan says, and its variables belong to it."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from attrs import frozen

from vmharness.disk import efivars, esp, filesystems, partitioning, superblocks
from vmharness.disk.blocks import check_blocks
from vmharness.disk.swap import check_swap
from vmharness.errors import HostError, VerificationFailed
from vmharness.model import devicepath
from vmharness.model.partitions import Blocks, Ext4, Fat, GuestMade, Layout, Partition, Scheme, Swap, label_of, uuid_of
from vmharness.model.variables import SECRETS, LoadOption, VariableStore

# systemd-boot's seed of random numbers: a machine must make its own.
_RANDOM_SEED = "/loader/random-seed"
# Linux, Documentation/filesystems/ext4/super.rst: block count, block size, magic, UUID, label, hash seed, block count.
_SUPERBLOCK = struct.Struct("<4xI16xI28xH46x16s16s100x16s84xI")
_SUPERBLOCK_OFFSET = 1024
_EXT4_MAGIC = 0xEF53
_FAT_NAMES = {"esp": "EFI system partition", "boot": "boot partition"}


@frozen(kw_only=True)
class Expectations:
    """What the finished disk must show, besides its partition table.

    :param boot_entry: whether a loader was installed, so that the firmware must find it.
    :param store_size: bytes of the firmware's variable template; a store of another size silently never persists.
    """

    boot_entry: bool
    store_size: int | None = None


def verify(disk: Path, layout: Layout, store: Path | None, expectations: Expectations, scratch: Path) -> None:
    """Check the raw disk, and the variable store where one is published; nothing is changed.

    :param store: the variable store, or None when variables are not touched.
    :param scratch: folder with room for a copy of the EFI system partition's data.
    :raises VerificationFailed: with everything that is wrong.
    :raises HostError: a checker is missing.
    """
    findings = [*partitioning.compare(layout, disk)]
    if layout.scheme is Scheme.GPT:
        findings += partitioning.check_table(disk)
    for part in layout.partitions:
        findings += _check_filesystem(disk, part, scratch)
    if store is not None:
        findings += _check_store(disk, layout.by_role("esp"), store, expectations)
    if findings:
        raise VerificationFailed(
            "the finished image is not what was planned; nothing is published", findings=tuple(findings)
        )


def _check_filesystem(disk: Path, part: Partition, scratch: Path) -> Iterator[str]:
    match part.filesystem:
        case Ext4():
            yield from _check_ext4(disk, part, part.filesystem)
        case Fat():
            yield from _check_fat(disk, part, part.filesystem, scratch)
        case Swap():
            yield from check_swap(disk, part, part.filesystem)
        case Blocks():
            yield from check_blocks(disk, part, part.filesystem)
        case None:
            pass
        case guest_made:
            yield from _check_guest_made(disk, part, guest_made)


def _check_guest_made(disk: Path, part: Partition, planned: GuestMade) -> Iterator[str]:
    """Its own checker has looked at it in the guest; here is what it says about itself."""
    kind = type(planned).__name__.lower()
    found = superblocks.read(disk, part.offset, kind)
    if found is None:
        yield f"the root partition holds no {kind} filesystem"
        return
    for what, there, meant in (("UUID", found.uuid, uuid_of(planned)), ("label", found.label, label_of(planned))):
        if there != meant:
            yield f"the root filesystem's {what} is {there} instead of {meant}"
    if found.size > part.size:
        yield f"the root filesystem has {found.size} bytes in a partition of {part.size}"


def _check_ext4(disk: Path, part: Partition, planned: Ext4) -> Iterator[str]:
    with disk.open("rb") as file:
        block = os.pread(file.fileno(), _SUPERBLOCK.size, part.offset + _SUPERBLOCK_OFFSET)
    if len(block) < _SUPERBLOCK.size:
        yield f"the disk ends before the {part.role} filesystem's superblock"
        return
    low, log_size, magic, uuid, label, hash_seed, high = _SUPERBLOCK.unpack(block)
    if magic != _EXT4_MAGIC:
        yield f"the {part.role} partition holds no ext4 filesystem"
        return
    size = (low + (high << 32)) << (10 + log_size)
    found = (UUID(bytes=uuid), UUID(bytes=hash_seed), label.rstrip(b"\0").decode("utf-8", "replace"), size)
    wanted = (planned.uuid, planned.hash_seed, planned.label, planned.size)
    for what, there, meant in zip(("UUID", "hash seed", "label", "size"), found, wanted, strict=True):
        if there != meant:
            yield f"the {part.role} filesystem's {what} is {there} instead of {meant}"
    if size > part.size:
        yield f"the {part.role} filesystem has {size} bytes in a partition of {part.size}"
    yield from (f"{part.role} filesystem: {finding}" for finding in filesystems.check_ext4(disk, part.offset))


def _check_fat(disk: Path, part: Partition, planned: Fat, scratch: Path) -> Iterator[str]:
    what = f"the {_FAT_NAMES.get(part.role, f'{part.role} partition')}"
    try:
        header = esp.read_header(disk, part.offset)
    except ValueError as error:
        yield f"{what}: {error}"
        return
    if not header.is_fat32:
        yield f"{what} has {header.clusters} clusters, too few for FAT32"
    if header.volume_id != planned.volume_id:
        yield f"{what}'s volume id is {header.volume_id:08X} instead of {planned.volume_id:08X}"
    if header.label != planned.label:
        yield f"{what}'s label is '{header.label}' instead of '{planned.label}'"
    if header.size > part.size:
        yield f"{what}'s FAT has {header.size} bytes in a partition of {part.size}"
    yield from (f"{what}: {finding}" for finding in esp.check_fat(disk, part.offset, part.size, scratch))
    try:
        if esp.exists(disk, part.offset, _RANDOM_SEED):
            yield f"{what} holds {_RANDOM_SEED}, which no two machines may share"
    except HostError as error:
        yield error.what


def _check_store(disk: Path, part: Partition, path: Path, expectations: Expectations) -> Iterator[str]:
    try:
        store = efivars.read_store(path)
    except VerificationFailed as error:
        yield error.what
        return
    if expectations.store_size not in {None, store.size}:
        yield f"the variable store has {store.size} bytes, but its firmware's have {expectations.store_size}"
    for name in efivars.remnants(path, SECRETS):
        yield f"the variable store holds {name}, or what is left of it, which no two machines may share"
    if expectations.boot_entry:
        try:
            yield from _check_boot_entry(disk, part, store)
        except (ValueError, HostError) as error:
            yield f"the boot entries cannot be followed: {error}"


def _check_boot_entry(disk: Path, part: Partition, store: VariableStore) -> Iterator[str]:
    first = _first_bootable(store)
    if first is None:
        yield "BootOrder names no entry that the firmware would boot"
        return
    name, option = first
    drive = devicepath.hard_drive(option.target)
    assert part.guid is not None
    wanted = devicepath.HardDrive(number=part.number, start=part.start, sectors=part.sectors, guid=part.guid)
    what = f"{name} '{option.description}', the first entry that the firmware would boot,"
    if drive is None:
        yield f"{what} points at {devicepath.to_text(option.path[:1])} instead of the EFI system partition"
    elif drive != wanted:
        yield f"{what} points at {drive} instead of the EFI system partition, {wanted}"
    else:
        file = devicepath.file_path(option.target)
        if not file or not esp.exists(disk, part.offset, file):
            yield f"{what} points at the file '{file}', which the EFI system partition does not hold"


def _first_bootable(store: VariableStore) -> tuple[str, LoadOption] | None:
    """The entry that the firmware tries first: it passes over inactive ones and tools such as its setup menu.

    (UEFI 2.10, section 3.1.3: ``LOAD_OPTION_ACTIVE`` and ``LOAD_OPTION_CATEGORY``.)
    """
    for number in store.boot_order():
        option = store.load_option(number)
        if option is not None and option.active and not option.application:
            return f"Boot{number:04X}", option
    return None
