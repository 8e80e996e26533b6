"""The image definition as values: what the user wants, checked, with every path absolute."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from attrs import field, frozen

from vmharness.model.dialogue import InstallSpec
from vmharness.model.partitions import Subvolume
from vmharness.model.run_steps import RunSpec
from vmharness.model.sizes import GIB, MIB
from vmharness.model.sources import NoSource, RootSource

if TYPE_CHECKING:  # a declared partition is made of what is defined here
    from vmharness.model.declared import DeclaredPartition


class Format(Enum):
    """Format of the published image."""

    RAW = "raw"
    QCOW2 = "qcow2"
    QCOW2_COMPRESSED = "qcow2-compressed"
    VDI = "vdi"
    VPC = "vpc"

    @property
    def driver(self) -> str:
        """What QEMU and ``qemu-img`` call it."""
        return "qcow2" if self is Format.QCOW2_COMPRESSED else self.value


class PartitionTable(Enum):
    """How the disk is divided, in the words of nixpkgs' make-disk-image.

    ``NONE``: the disk is the root filesystem. ``LEGACY``: an MBR with the root partition. ``LEGACY_BOOT``: an MBR with
    a boot partition before it. ``LEGACY_GPT``: a GPT with room for GRUB's BIOS part. ``EFI``: a GPT with an EFI system
    partition. ``EFIXBOOTLDR``: the same, with the kernels on an extended boot loader partition. ``HYBRID``: a GPT that
    both BIOS and UEFI boot from. ``DECLARED``: a GPT with the partitions that the definition declares one by one.
    """

    NONE = "none"
    LEGACY = "legacy"
    LEGACY_BOOT = "legacy+boot"
    LEGACY_GPT = "legacy+gpt"
    EFI = "efi"
    EFIXBOOTLDR = "efixbootldr"
    HYBRID = "hybrid"
    DECLARED = "declared"

    @property
    def has_esp(self) -> bool:
        """Whether there is an EFI system partition, so that UEFI can boot from it."""
        return self in {PartitionTable.EFI, PartitionTable.EFIXBOOTLDR, PartitionTable.HYBRID}

    @property
    def has_boot(self) -> bool:
        """Whether the kernels have a partition of their own, mounted at ``/boot``."""
        return self in {PartitionTable.LEGACY_BOOT, PartitionTable.EFIXBOOTLDR}

    @property
    def boots_bios(self) -> bool:
        """Whether a BIOS can boot from it."""
        return self not in {PartitionTable.EFI, PartitionTable.EFIXBOOTLDR}


class MachineId(Enum):
    """What the image holds in ``/etc/machine-id``.

    ``EMPTY`` leaves an empty file (each machine makes its own at its first boot), ``UNINITIALIZED`` writes the word
    that makes systemd treat the next boot as the first one, ``REMOVE`` deletes the file, ``KEEP`` leaves the tree's
    own.
    """

    EMPTY = "empty"
    UNINITIALIZED = "uninitialized"
    REMOVE = "remove"
    KEEP = "keep"


@frozen(kw_only=True)
class RootSpec:
    """The root filesystem and where its tree comes from.

    :param filesystem: one of :data:`vmharness.model.rootfs.ROOT_FILESYSTEMS`.
    :param filesystem_options: more words for the program that makes it.
    :param compression: one of its kind's; empty for the kind's own choice.
    :param subvolumes: of a btrfs: where each is mounted, by name.
    """

    source: RootSource | NoSource
    filesystem: str = "ext4"
    filesystem_options: tuple[str, ...] = ()
    compression: str = ""
    subvolumes: tuple[Subvolume, ...] = ()
    label: str = "root"
    machine_id: MachineId = MachineId.EMPTY


@frozen(kw_only=True)
class Content:
    """Files grafted into the root filesystem.

    :param source: file, directory or glob, as written, made absolute.
    :param target: absolute path in the image; where ``source`` is a glob, the directory that takes the matches.
    :param mode: permission bits of files, or None for the source's own.
    :param directory_mode: permission bits of directories, or None for 0755.
    :param user: name (looked up in the target's passwd) or number; root if neither user nor group is given.
    :param group: name or number; given exactly when ``user`` is.
    """

    source: str
    target: str
    mode: int | None = None
    directory_mode: int | None = None
    user: str | None = None
    group: str | None = None


@frozen(kw_only=True)
class Installer:
    """The bootloader to install.

    :param name: one of :data:`vmharness.model.bootloader.BOOTLOADERS`.
    :param arguments: what it was given besides: a path in the target, or a command's words.
    """

    name: str
    arguments: tuple[str, ...] = ()


@frozen(kw_only=True)
class BootloaderSpec:
    """The bootloader and what it boots.

    :param device: another name of the disk while the bootloader is installed, such as ``/dev/sda``; none if empty.
    """

    install: Installer = Installer(name="none")
    device: str = ""
    title: str = ""
    kernel_parameters: tuple[str, ...] = ()


@frozen(kw_only=True)
class AutoFirmware:
    """The first firmware of the host's descriptors that fits."""


@frozen(kw_only=True)
class SecureBootFirmware:
    """The first firmware of the host's descriptors that has Secure Boot, and no keys of its own."""


@frozen(kw_only=True)
class DescriptorFirmware:
    """The firmware of one descriptor file in QEMU's JSON format."""

    path: Path


@frozen(kw_only=True)
class FirmwareFiles:
    """A code image and a variable store template, given by path."""

    code: Path
    variables: Path


FirmwareChoice = AutoFirmware | SecureBootFirmware | DescriptorFirmware | FirmwareFiles


@frozen(kw_only=True)
class EfiSpec:
    """Firmware, and whether its variables are written and published.

    :param touch_variables: by default, where there is an EFI system partition.
    """

    firmware: FirmwareChoice = field(factory=AutoFirmware)
    touch_variables: bool = True


@frozen(kw_only=True)
class SecureBootSpec:
    """The keys that the image is signed with, and that its variable store gets.

    :param keys: folder of keys (``disk/keys.py``), or None.
    :param generate: whether new test keys are made, and published with the image.
    """

    keys: Path | None = None
    generate: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anything is signed."""
        return self.keys is not None or self.generate


@frozen(kw_only=True)
class DeterministicSpec:
    """Whether every identifier is derived from ``seed``, and the seed (the image's name unless given)."""

    enabled: bool = True
    seed: str = ""


@frozen(kw_only=True)
class HooksSpec:
    """Commands of the host that the build runs.

    :param after_build: argument list, run when the image is finished and not yet published; none if empty.
    """

    after_build: tuple[str, ...] = ()


@frozen(kw_only=True)
class GivenIdentifiers:
    """Identifiers that the definition gives itself; what is None is derived from the seed.

    :param disk_signature: of an MBR, 32 bits.
    :param esp_volume_id: and ``boot_volume_id``: of the FATs, 32 bits.
    """

    disk_guid: UUID | None = None
    disk_signature: int | None = None
    esp_partition_guid: UUID | None = None
    esp_volume_id: int | None = None
    bios_partition_guid: UUID | None = None
    boot_partition_guid: UUID | None = None
    boot_volume_id: int | None = None
    root_partition_guid: UUID | None = None
    root_filesystem_uuid: UUID | None = None
    root_hash_seed: UUID | None = None


@frozen(kw_only=True)
class NixSpec:
    """What an image of a Nix closure has besides it.

    :param additional_paths: more store paths, with their closures.
    :param channel: root's channel: its store path, or the source of the package set.
    :param configuration: what becomes ``/etc/nixos/configuration.nix``.
    :param store_only: whether the filesystem holds nothing but the store's content, at its root.
    """

    additional_paths: tuple[Path, ...] = ()
    channel: Path | None = None
    configuration: Path | None = None
    store_only: bool = False


@frozen(kw_only=True)
class GuestSpec:
    """The appliance's machine: ``memory`` in bytes."""

    memory: int = GIB // 2


@frozen(kw_only=True)
class ImageSpec:
    """One image definition.

    :param origin: the definition file.
    :param base_name: stem of the image's file name, or None for ``name``.
    :param hydra_build_products: whether the output lists itself for Hydra.
    :param size: bytes of the whole disk, or None for ``auto``.
    :param partitions: the declared ones, where the partition table is of that kind.
    :param run: steps of the user's own.
    :param install: the installer that makes the image, and what is said to it; its disk is divided as it likes.
    :param additional_space: free bytes that an ``auto`` root filesystem has at least.
    :param boot_size: bytes of the partition that holds the kernels: the extended boot loader partition where there is
        one, the boot partition of an MBR, or the EFI system partition.
    """

    origin: Path
    name: str
    root: RootSpec = field(factory=lambda: RootSpec(source=NoSource()))
    base_name: str | None = None
    hydra_build_products: bool = False
    format: Format = Format.QCOW2
    partition_table: PartitionTable = PartitionTable.EFI
    size: int | None = None
    additional_space: int = 512 * MIB
    boot_size: int = 256 * MIB
    contents: tuple[Content, ...] = ()
    bootloader: BootloaderSpec = field(factory=BootloaderSpec)
    efi: EfiSpec = field(factory=EfiSpec)
    secure_boot: SecureBootSpec = field(factory=SecureBootSpec)
    deterministic: DeterministicSpec = field(factory=DeterministicSpec)
    identifiers: GivenIdentifiers = field(factory=GivenIdentifiers)
    guest: GuestSpec = field(factory=GuestSpec)
    hooks: HooksSpec = field(factory=HooksSpec)
    nix: NixSpec = field(factory=NixSpec)
    partitions: tuple[DeclaredPartition, ...] = ()
    run: tuple[RunSpec, ...] = ()
    install: InstallSpec | None = None

    @property
    def needs_machine(self) -> bool:
        """Whether anything is done in a guest; declared partitions and the Nix store alone are made on the host."""
        return not self.nix.store_only and self.partition_table is not PartitionTable.DECLARED

    @property
    def has_esp(self) -> bool:
        """Whether there is an EFI system partition; after a driven install, whether UEFI can find one."""
        if self.install is not None:
            return not self.install.bios
        return self.partition_table.has_esp or any(part.designator == "esp" for part in self.partitions)

    @property
    def stem(self) -> str:
        """The image's file name without its extension."""
        return self.name if self.base_name is None else self.base_name
