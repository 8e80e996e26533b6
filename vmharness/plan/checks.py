"""What an image definition must hold to beyond the form of its single values."""

from __future__ import annotations

import re

from vmharness.errors import SpecError
from vmharness.model.bootloader import BOOTLOADERS, Argument, Bootloader
from vmharness.model.image import AutoFirmware, Format, ImageSpec, PartitionTable
from vmharness.model.sizes import GIB, MIB, format_size
from vmharness.plan.dialogue import check_install
from vmharness.plan.nix import check_nix
from vmharness.plan.partition_checks import check_partitions
from vmharness.plan.root_checks import check_root
from vmharness.plan.run_steps import check_run_steps
from vmharness.plan.secure_boot import check_secure_boot

_LEAST_MEMORY = 128 * MIB
# What a disk can be called: a node in /dev, or a name that udev would make, such as /dev/disk/by-id/...
_DEVICE = re.compile(r"/dev(/[A-Za-z0-9_.:+@-]+)+")
# QEMU, block/vpc.c: VHD_MAX_SECTORS
_LARGEST_VHD = 2040 * GIB


def check(spec: ImageSpec) -> None:
    """Check a definition.

    :raises SpecError: naming the key, and what is allowed.
    """
    _check_image(spec)
    if spec.install is not None:
        check_install(spec)
        return
    check_root(spec)
    check_nix(spec)
    check_run_steps(spec)
    if spec.partition_table is PartitionTable.DECLARED:
        check_partitions(spec)
        check_secure_boot(spec)
        return
    _check_table(spec)
    _check_contents(spec)
    _check_bootloader(spec)
    check_secure_boot(spec)


def check_disk(spec: ImageSpec, size: int) -> None:
    """Refuse a disk that its image file could not describe.

    :param size: bytes of the whole disk.
    :raises SpecError: it is too large for the format.
    """
    if spec.format is Format.VPC and size > _LARGEST_VHD:
        raise SpecError(
            f"a VHD holds at most {format_size(_LARGEST_VHD)}, and the disk has {format_size(size)}",
            origin=str(spec.origin),
            key="image.format",
            allowed="another format, or a smaller disk",
        )


def _check_image(spec: ImageSpec) -> None:
    origin = str(spec.origin)
    for key, name in (("name", spec.name), ("base-name", spec.stem)):
        if not name or "/" in name or name.startswith(".") or not name.isprintable():
            raise SpecError(f"{name!r} cannot be a file name", origin=origin, key=f"image.{key}")
    if spec.hydra_build_products and '"' in spec.stem:
        raise SpecError("Hydra's list takes no name with a quotation mark", origin=origin, key="image.base-name")
    if spec.guest.memory < _LEAST_MEMORY or spec.guest.memory % MIB:
        raise SpecError(
            f"{format_size(spec.guest.memory)} of memory is not possible",
            origin=origin,
            key="guest.memory",
            allowed=f"whole MiB, at least {_LEAST_MEMORY // MIB}",
        )


def _check_table(spec: ImageSpec) -> None:
    """What must go with the partition table: variables with an ESP, and a bootloader that can boot from it."""
    origin, table = str(spec.origin), spec.partition_table
    with_esp = " | ".join(kind.value for kind in PartitionTable if kind.has_esp)
    if spec.efi.touch_variables and not table.has_esp:
        raise SpecError(
            f'the table "{table.value}" has no EFI system partition that EFI variables could point at',
            origin=origin,
            key="efi.touch-variables",
            allowed=f"false, or image.partition-table = {with_esp}",
        )
    if not isinstance(spec.efi.firmware, AutoFirmware) and not table.has_esp:
        raise SpecError(
            f'the table "{table.value}" has no EFI system partition that UEFI firmware could boot from',
            origin=origin,
            key="efi.firmware",
            allowed=f'"auto", or image.partition-table = {with_esp}',
        )
    bootloader = BOOTLOADERS[spec.bootloader.install.name]
    if table not in bootloader.tables:
        raise SpecError(
            f'{bootloader.name} cannot boot from the partition table "{table.value}"',
            origin=origin,
            key="bootloader.install",
            allowed=f"image.partition-table = {' | '.join(kind.value for kind in bootloader.tables)}",
        )


def _check_contents(spec: ImageSpec) -> None:
    origin = str(spec.origin)
    for number, content in enumerate(spec.contents):
        if (content.user is None) != (content.group is None):
            raise SpecError(
                "user and group go together: give both or neither", origin=origin, key=f"contents[{number}]"
            )
        if not content.target.startswith("/"):
            raise SpecError(
                f"{content.target!r} is not an absolute path in the image",
                origin=origin,
                key=f"contents[{number}].target",
            )


def _check_bootloader(spec: ImageSpec) -> None:
    origin = str(spec.origin)
    for number, parameter in enumerate(spec.bootloader.kernel_parameters):
        if "\n" in parameter:
            raise SpecError(
                "a kernel parameter has no line breaks", origin=origin, key=f"bootloader.kernel-parameters[{number}]"
            )
    device = spec.bootloader.device
    if device and (not _DEVICE.fullmatch(device) or {".", ".."} & set(device.split("/"))):
        raise SpecError(
            f"{device!r} cannot be the name of a disk",
            origin=origin,
            key="bootloader.device",
            allowed="a path below /dev, such as /dev/sda or /dev/disk/by-id/NAME",
        )
    install = spec.bootloader.install
    _check_reading(spec, BOOTLOADERS[install.name])
    if BOOTLOADERS[install.name].argument is Argument.COMMAND and not install.arguments:
        raise SpecError("the command is empty", origin=origin, key="bootloader.install.command")


def _check_reading(spec: ImageSpec, bootloader: Bootloader) -> None:
    """Whether the bootloader can load kernels from where they are: on the root filesystem, unless that is moved."""
    if not bootloader.reads or spec.root.filesystem in bootloader.reads or spec.partition_table.has_boot:
        return
    with_boot = [table.value for table in bootloader.tables if table.has_boot]
    raise SpecError(
        f"{bootloader.name} is not known to load kernels from {spec.root.filesystem}",
        origin=str(spec.origin),
        key="root.filesystem",
        allowed=f"{' | '.join(bootloader.reads)}, or image.partition-table = {' | '.join(with_boot)}",
    )
