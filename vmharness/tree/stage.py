"""One function for all root sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from vmharness.model.bootloader import NIXOS
from vmharness.model.hardware import Kernel
from vmharness.model.image import (
    DebianSource,
    DirectorySource,
    ImageSpec,
    MinimalSource,
    NixSource,
    OciSource,
    TarSource,
)
from vmharness.model.results import StagedTree
from vmharness.model.rootfs import ROOT_FILESYSTEMS
from vmharness.tree import minimal
from vmharness.tree.debian import stage_debian
from vmharness.tree.directory import stage_directory
from vmharness.tree.nix import stage_nix
from vmharness.tree.oci import stage_oci
from vmharness.tree.tar import stage_tar


def stage(spec: ImageSpec, kernel: Kernel | None, say: Callable[[str], None]) -> StagedTree:
    """The staged tree of a definition's root source.

    :param kernel: the appliance's kernel, which the minimal tree boots, too; None where there is no appliance.
    :param say: takes lines of output of what makes the tree.
    :raises SpecError: the source is missing or unusable.
    :raises HostError: the host cannot make it.
    """
    origin = str(spec.origin)
    match spec.root.source:
        case DirectorySource() as source:
            return stage_directory(source, origin=origin)
        case TarSource() as source:
            return stage_tar(source, origin=origin)
        case OciSource() as source:
            return stage_oci(source, origin=origin)
        case DebianSource() as source:
            return stage_debian(source, origin=origin, say=say)
        case NixSource() as source:
            installs = spec.bootloader.install.name == NIXOS
            return stage_nix(source, spec.nix, installs=installs, origin=origin)
        case MinimalSource():
            assert kernel is not None
            modules = ROOT_FILESYSTEMS[spec.root.filesystem].modules
            return minimal.stage(kernel, systemd_boot=spec.bootloader.install.name == "systemd-boot", modules=modules)
        case unknown:
            assert_never(unknown)
