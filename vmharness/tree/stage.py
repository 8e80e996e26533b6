"""One function for all root sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from vmharness.errors import ApiMisuse
from vmharness.model.bootloader import NIXOS
from vmharness.model.hardware import Kernel
from vmharness.model.image import ImageSpec, PartitionTable
from vmharness.model.results import StagedTree
from vmharness.model.rootfs import ROOT_FILESYSTEMS
from vmharness.model.sources import (
    DebianSource,
    DirectorySource,
    MinimalSource,
    NixSource,
    NoSource,
    OciSource,
    RootSource,
    TarSource,
)
from vmharness.tree import minimal
from vmharness.tree.debian import stage_debian
from vmharness.tree.directory import stage_directory
from vmharness.tree.nix import stage_nix
from vmharness.tree.oci import stage_oci
from vmharness.tree.tar import stage_tar


def stage(
    source: RootSource | NoSource, spec: ImageSpec, kernel: Kernel | None, say: Callable[[str], None]
) -> StagedTree:
    """The staged tree of a source of a definition.

    :param kernel: the appliance's kernel, which the minimal tree boots, too; None where there is no appliance.
    :param say: takes lines of output of what makes the tree.
    :raises SpecError: the source is missing or unusable.
    :raises HostError: the host cannot make it.
    """
    origin = str(spec.origin)
    match source:
        case DirectorySource():
            return stage_directory(source, origin=origin)
        case TarSource():
            return stage_tar(source, origin=origin)
        case OciSource():
            return stage_oci(source, origin=origin)
        case DebianSource():
            return stage_debian(source, origin=origin, say=say)
        case NixSource():
            installs = spec.bootloader.install.name == NIXOS
            return stage_nix(source, spec.nix, installs=installs, origin=origin)
        case MinimalSource():
            assert kernel is not None
            modules = ROOT_FILESYSTEMS[spec.root.filesystem].modules
            wanted = spec.bootloader.install.name == "systemd-boot" or spec.partition_table is PartitionTable.DECLARED
            return minimal.stage(kernel, systemd_boot=wanted, modules=modules)
        case NoSource():
            raise ApiMisuse("a definition without a root partition has no root source")
        case unknown:
            assert_never(unknown)
