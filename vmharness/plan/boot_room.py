"""Whether the boot partitions have room for the kernels and whatever else will go there, before anything is made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from vmharness.errors import SpecError
from vmharness.model.bootloader import BOOTLOADERS, Argument
from vmharness.model.image import ImageSpec, PartitionTable
from vmharness.model.partitions import SECTOR
from vmharness.model.sizes import MIB, align_up, format_size
from vmharness.plan.fat import FAT32_MINIMUM
from vmharness.plan.layout import SMALL_ESP

# As the guest script target_kernels (guest-scripts/lib.sh) finds them.
_KERNEL = re.compile(r"/boot/vmlinuz-(?P<boot>[^/]+)|/usr/lib/modules/(?P<modules>[^/]+)/vmlinuz")
_INITRDS = ("/boot/initrd.img-{}", "/boot/initramfs-{}.img", "/boot/initrd-{}", "/usr/lib/modules/{}/initrd")
# As the guest script format-fat chooses them.
_LARGEST_CLUSTER = 8
_CLUSTERS = 66_600
_RESERVED_SECTORS = 32


def check_boot_room(spec: ImageSpec, files: Mapping[str, int]) -> None:
    """Refuse boot partitions that do not hold what the tree and the bootloader will put there.

    :param files: sizes of the tree's files, those that are grafted included, by their paths: ``/boot``, kernels in
        ``/usr/lib/modules``, and the EFI binary that is to be installed. Links count as what they lead to.
    :raises SpecError: one is too small; the text says what would be enough.
    """
    table = spec.partition_table
    if table.has_boot:
        _require(spec, "boot partition", spec.boot_size, [*_on_boot(spec, files)])
    if table is PartitionTable.EFIXBOOTLDR:
        _require(spec, "EFI system partition", SMALL_ESP, [*_on_esp(spec, files)], fixed=True)
    elif table.has_esp:
        _require(spec, "EFI system partition", spec.boot_size, [*_on_esp(spec, files)])


def enough(sizes: Iterable[int]) -> int:
    """Bytes of a FAT32 partition, in whole MiB, that takes files of these sizes, each in a folder of its own."""
    sizes = tuple(sizes)
    size = align_up(max(FAT32_MINIMUM, sum(sizes)), MIB)
    while not _holds(size, sizes):
        size += MIB
    return size


def _holds(size: int, sizes: Iterable[int]) -> bool:
    sectors, cluster = size // SECTOR, _LARGEST_CLUSTER
    while cluster > 1 and sectors // cluster < _CLUSTERS:
        cluster //= 2
    tables = 2 * -(-(sectors // cluster + 2) * 4 // SECTOR)
    # mkfs.vfat aligns the tables to clusters; the root folder takes one, too.
    room = (sectors - _RESERVED_SECTORS - tables) // cluster - 4
    return sum(1 + -(-length // (cluster * SECTOR)) for length in sizes) <= room


def _on_boot(spec: ImageSpec, files: Mapping[str, int]) -> Iterator[int]:
    """The whole of ``/boot``, what the installer adds there, and its copies of the kernels."""
    bootloader = BOOTLOADERS[spec.bootloader.install.name]
    yield from (size for path, size in files.items() if path.startswith("/boot/"))
    yield bootloader.bytes_in_boot
    if bootloader.copies_kernels:
        yield from _kernels(files).values()


def _on_esp(spec: ImageSpec, files: Mapping[str, int]) -> Iterator[int]:
    """The loader, and the kernels where they go there and have no other partition."""
    install = spec.bootloader.install
    bootloader = BOOTLOADERS[install.name]
    yield bootloader.bytes_on_esp
    if bootloader.copies_kernels and not spec.partition_table.has_boot:
        yield from _kernels(files).values()
    if bootloader.argument is Argument.PATH:
        (path,) = install.arguments
        yield files.get(path, 0)
        # A kernel is copied with its initrd, anything else to the fallback path, too.
        initrd = _initrd(path, files)
        yield files.get(path, 0) if _KERNEL.fullmatch(path) is None else files.get(initrd or "", 0)


def _kernels(files: Mapping[str, int]) -> dict[str, int]:
    """Every kernel with its initrd; of two kernels of one version only one is installed."""
    versions: dict[str, str] = {}
    for path in sorted(files):
        if match := _KERNEL.fullmatch(path):
            versions.setdefault(match["boot"] or match["modules"], path)
    paths = [*versions.values(), *(_initrd(path, files) for path in versions.values())]
    return {path: files[path] for path in paths if path is not None}


def _initrd(kernel: str, files: Mapping[str, int]) -> str | None:
    match = _KERNEL.fullmatch(kernel)
    if match is None:
        return None
    version = match["boot"] or match["modules"]
    return next((path for path in (form.format(version) for form in _INITRDS) if path in files), None)


def _require(spec: ImageSpec, what: str, size: int, sizes: list[int], *, fixed: bool = False) -> None:
    if _holds(size, sizes):
        return
    least = format_size(enough(sizes))
    raise SpecError(
        f"the {what} with {format_size(size)} is too small: the kernels and what else goes there need {least}",
        origin=str(spec.origin),
        key="image.partition-table" if fixed else "image.boot-size",
        allowed='"efi", with image.boot-size = ' + least + " or more" if fixed else f"{least} or more",
    )
