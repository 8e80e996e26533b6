"""What a definition of an image of a Nix closure must hold to."""

from __future__ import annotations

from vmharness.errors import SpecError
from vmharness.model.bootloader import NIXOS, NO_BOOTLOADER
from vmharness.model.image import ImageSpec, MachineId, NixSpec, PartitionTable
from vmharness.model.sources import NixSource


def check_nix(spec: ImageSpec) -> None:
    """Check what belongs to Nix.

    :raises SpecError: naming the key, and what to change.
    """
    origin = str(spec.origin)
    if spec.nix != NixSpec() and not isinstance(spec.root.source, NixSource):
        raise SpecError(
            "this section belongs to the root source 'nix': remove it, or set root.source to one",
            origin=origin,
            key="nix",
            allowed='{ nix = "/nix/store/..." }',
        )
    if spec.bootloader.install.name == NIXOS:
        given = {"title": spec.bootloader.title, "kernel-parameters": spec.bootloader.kernel_parameters}
        for key in (key for key, value in given.items() if value):
            raise SpecError(
                "the system's own configuration decides this: set it there (boot.kernelParams, say), not here",
                origin=origin,
                key=f"bootloader.{key}",
            )
    if spec.nix.store_only:
        _check_store_only(spec)


def _check_store_only(spec: ImageSpec) -> None:
    """The store alone, at the filesystem's root: nothing else can be in it, and no machine starts that could boot."""
    alone = "nix.store-only makes a filesystem of the store's content alone"
    refused = {
        "contents": (spec.contents, "remove [[contents]]"),
        "nix.configuration": (spec.nix.configuration, "remove it"),
        "nix.channel": (spec.nix.channel, "remove it, or add its store path to nix.additional-paths"),
        "bootloader.install": (spec.bootloader.install.name != NO_BOOTLOADER, "set it to 'none'"),
        "root.filesystem": (spec.root.filesystem != "ext4", "set it to 'ext4', which needs no machine"),
        "root.machine-id": (spec.root.machine_id is not MachineId.EMPTY, "remove it"),
        "image.partition-table": (spec.partition_table is not PartitionTable.NONE, "remove it, or set it to 'none'"),
        "efi.touch-variables": (spec.efi.touch_variables, "remove it, or set it to false"),
    }
    for key, (given, remedy) in refused.items():
        if given:
            raise SpecError(f"{alone}: {remedy}", origin=str(spec.origin), key=key)
