"""The bootloaders that can be installed: one entry each.

The script ``install-NAME`` of an entry installs it with the target's own installer. ``docs/adding-a-bootloader.md``
shows how one is added.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from vmharness.model.image import PartitionTable
from vmharness.model.sizes import MIB

_BIOS = (PartitionTable.LEGACY, PartitionTable.LEGACY_BOOT, PartitionTable.LEGACY_GPT)
_UEFI = (PartitionTable.EFI, PartitionTable.EFIXBOOTLDR)
_ALL = tuple(PartitionTable)


class Argument(Enum):
    """What a definition gives besides a bootloader's name."""

    NOTHING = "nothing"
    PATH = "a path in the target"
    COMMAND = "a list of texts"


@frozen(kw_only=True)
class Bootloader:
    """One bootloader.

    :param name: as the definition and the guest script's name (``install-NAME``) have it.
    :param step: what the step that installs it is called; empty where nothing is installed.
    :param tables: the partition tables that it can boot from.
    :param esp_path: where its target has the EFI system partition.
    :param makes_boot_entry: whether its installer makes an entry in the firmware's boot menu.
    :param argument: what the definition must say besides.
    :param reads: root filesystems from which it is known to load kernels; empty where it needs to read none, or reads
        all that can be made.
    :param bytes_in_root: what its installer writes into the root filesystem, generously.
    :param copies_kernels: whether its installer copies kernels and initrds to the partition that it boots from.
    :param bytes_in_boot: what its installer writes into ``/boot`` where that is a partition of its own.
    :param bytes_on_esp: what its installer writes to the EFI system partition besides kernels.
    :param unsigned: why it does not boot with Secure Boot although everything on the EFI system partition and the boot
        partition is signed; empty where it does.
    """

    name: str
    step: str
    tables: tuple[PartitionTable, ...] = field(default=_ALL)
    esp_path: str = "/boot/efi"
    makes_boot_entry: bool = False
    argument: Argument = Argument.NOTHING
    reads: tuple[str, ...] = ()
    bytes_in_root: int = MIB
    copies_kernels: bool = False
    bytes_in_boot: int = 0
    bytes_on_esp: int = 0
    unsigned: str = ""


NO_BOOTLOADER = "none"
NIXOS = "nixos"

_ENTRIES = (
    Bootloader(
        name="systemd-boot",
        step="install systemd-boot",
        tables=(*_UEFI, PartitionTable.HYBRID),
        esp_path="/efi",
        makes_boot_entry=True,
        copies_kernels=True,
        bytes_on_esp=MIB,
    ),
    Bootloader(
        name="grub",
        step="install GRUB",
        tables=(*_BIOS, *_UEFI, PartitionTable.HYBRID),
        makes_boot_entry=True,
        bytes_in_root=24 * MIB,
        bytes_in_boot=12 * MIB,
        bytes_on_esp=MIB,
        unsigned="loads modules and kernels by itself, for which only shim or a standalone image can vouch",
    ),
    Bootloader(
        name="efi-binary",
        step="install the EFI binary",
        tables=(*_UEFI, PartitionTable.HYBRID),
        makes_boot_entry=True,
        argument=Argument.PATH,
    ),
    Bootloader(
        name="refind",
        step="install rEFInd",
        tables=(*_UEFI, PartitionTable.HYBRID),
        makes_boot_entry=True,
        reads=("ext4",),
        bytes_on_esp=4 * MIB,
        unsigned="starts kernels from the root filesystem, which are not signed",
    ),
    Bootloader(
        name="extlinux",
        step="install extlinux",
        tables=(PartitionTable.NONE, *_BIOS),
        reads=("ext4",),
        bytes_in_boot=MIB,
        unsigned="is no UEFI loader",
    ),
    Bootloader(
        name=NIXOS,
        step="install the system's bootloader",
        tables=(*_BIOS, *_UEFI, PartitionTable.HYBRID),
        esp_path="/boot",
        bytes_in_root=48 * MIB,
        unsigned="installs what the system's own configuration says, and that signs for Secure Boot itself",
    ),
    Bootloader(name="command", step="run the bootloader command", argument=Argument.COMMAND),
    Bootloader(name=NO_BOOTLOADER, step="", unsigned="brings nothing that could be signed"),
)

BOOTLOADERS = {entry.name: entry for entry in _ENTRIES}
"""Every bootloader by its name."""
