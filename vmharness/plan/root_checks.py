"""What a definition must hold to about its root filesystem."""

from __future__ import annotations

import itertools
import re

from vmharness.errors import SpecError
from vmharness.model.image import ImageSpec, PartitionTable
from vmharness.model.rootfs import ROOT_FILESYSTEMS, RootFilesystem

# What a definition has without saying so.
_DEFAULT_LABELS = {"", "root", "nixos"}
# What mke2fs may be told of an ext4 besides; its manual page has the values.
_EXT4_OPTIONS = {
    "-m": re.compile(r"\d+(\.\d+)?"),
    "-e": re.compile(r"continue|remount-ro|panic"),
    "-M": re.compile(r"/[!-~]{0,62}"),
    "-O": re.compile(r"\^has_journal"),
}
# What a mount point and a subvolume may be called: they are words in fstab(5) and in mount options.
_PATH = re.compile(r"[A-Za-z0-9@._-]+(/[A-Za-z0-9@._-]+)*")


def check_root(spec: ImageSpec) -> None:
    """Check what a definition says about the root filesystem.

    :raises SpecError: naming the key, and what is allowed.
    """
    kind = ROOT_FILESYSTEMS.get(spec.root.filesystem)
    if kind is None:
        raise SpecError(
            f"{spec.root.filesystem!r} is not supported",
            origin=str(spec.origin),
            key="root.filesystem",
            allowed=" | ".join(ROOT_FILESYSTEMS),
        )
    _check_label(spec, kind)
    _check_options(spec, kind)
    _check_subvolumes(spec)
    if kind.read_only:
        _check_read_only(spec, kind)


def _check_label(spec: ImageSpec, kind: RootFilesystem) -> None:
    if not kind.longest_label:
        if spec.root.label not in _DEFAULT_LABELS:
            raise SpecError(f"{kind.name} has no label: remove it", origin=str(spec.origin), key="root.label")
        return
    if len(spec.root.label.encode()) > kind.longest_label:
        raise SpecError(
            f"an {kind.name} label has at most {kind.longest_label} bytes", origin=str(spec.origin), key="root.label"
        )
    if not spec.root.label.isprintable():
        raise SpecError(
            f"the label {spec.root.label!r} has characters that none can print",
            origin=str(spec.origin),
            key="root.label",
        )


def _check_options(spec: ImageSpec, kind: RootFilesystem) -> None:
    if not kind.made_in_guest:
        _check_ext4_options(spec)
    if spec.root.compression not in {"", *kind.compressions}:
        raise SpecError(
            f"{spec.root.compression!r} is no compression of {kind.name}",
            origin=str(spec.origin),
            key="root.compression",
            allowed=" | ".join(kind.compressions) or "none: remove the key",
        )
    for number, option in enumerate(spec.root.filesystem_options):
        if not option.isprintable():
            raise SpecError(
                "an option has no control characters",
                origin=str(spec.origin),
                key=f"root.filesystem-options[{number}]",
            )


def _check_ext4_options(spec: ImageSpec) -> None:
    """The inodes of an ext4 are set by vmharness, which knows one layout of them: what changes it is refused."""
    words = spec.root.filesystem_options
    for option, value in itertools.zip_longest(words[::2], words[1::2]):
        pattern = _EXT4_OPTIONS.get(option)
        if pattern is None or value is None or not pattern.fullmatch(value):
            raise SpecError(
                f"{' '.join(filter(None, (option, value)))!r} is not for mke2fs: size, features and inodes are planned",
                origin=str(spec.origin),
                key="root.filesystem-options",
                allowed='-m PERCENT, -e BEHAVIOUR, -M DIRECTORY, -O ^has_journal, each two words: ["-m", "1"]',
            )


def _check_subvolumes(spec: ImageSpec) -> None:
    subvolumes = spec.root.subvolumes
    if not subvolumes:
        return
    origin, key = str(spec.origin), "root.subvolumes"
    if spec.root.filesystem != "btrfs":
        raise SpecError("only btrfs has subvolumes", origin=origin, key=key)
    for subvolume in subvolumes:
        for text in (subvolume.name, subvolume.path.removeprefix("/") or "x"):
            if not _PATH.fullmatch(text) or {".", ".."} & set(text.split("/")):
                raise SpecError(
                    f"{text!r} is no path for a subvolume", allowed="letters, digits and @._-/", origin=origin, key=key
                )
        if not subvolume.path.startswith("/"):
            raise SpecError(f"{subvolume.path!r} is not an absolute path in the image", origin=origin, key=key)
    paths = [subvolume.path for subvolume in subvolumes]
    if "/" not in paths or len(set(paths)) < len(paths):
        raise SpecError("exactly one subvolume is mounted at / and at every other place", origin=origin, key=key)


def _check_read_only(spec: ImageSpec, kind: RootFilesystem) -> None:
    origin, bootloader, table = str(spec.origin), spec.bootloader.install.name, spec.partition_table
    if bootloader == "grub":
        raise SpecError(
            f"GRUB's installer asks the running system for its root filesystem, and {kind.name} is packed afterwards",
            origin=origin,
            key="bootloader.install",
            allowed="another bootloader, with its files on a partition of their own",
        )
    if bootloader not in {"none", "command"} and not (table.has_esp or table.has_boot):
        raise SpecError(
            f"no bootloader reads its files from {kind.name}: they need a partition of their own",
            origin=origin,
            key="image.partition-table",
            allowed="legacy+boot, or one with an EFI system partition",
        )
    if not kind.has_uuid:
        if spec.identifiers.root_filesystem_uuid is not None:
            raise SpecError(
                f"{kind.name} has no UUID: remove it", origin=origin, key="identifiers.root-filesystem-uuid"
            )
        if bootloader != "none" and table is PartitionTable.NONE:
            raise SpecError(
                f"{kind.name} has no UUID, and without a partition table there is none that a kernel could look for",
                origin=origin,
                key="image.partition-table",
                allowed="any other",
            )
