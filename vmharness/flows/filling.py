"""What goes into declared partitions: looked at and staged before anything is decided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vmharness.disk import blocks
from vmharness.errors import SpecError
from vmharness.host import kernel
from vmharness.model.declared import DeclaredPartition
from vmharness.model.hardware import Kernel
from vmharness.model.image import ImageSpec
from vmharness.model.results import StagedTree
from vmharness.model.sources import MinimalSource
from vmharness.plan.declared import Held, roles
from vmharness.tree.compose import Place, compose
from vmharness.tree.fat import measure_for_fat
from vmharness.tree.stage import stage

_WITH_FILES = {"ext4", "vfat"}


def tools_for(spec: ImageSpec) -> set[str]:
    """The programs that the partitions need besides those of every build."""
    kinds = {part.filesystem for part in spec.partitions}
    tools = {"mmd"} if "vfat" in kinds else set()
    tools |= {"mkswap"} if "swap" in kinds else set()
    return tools | ({"nix-store"} if any(part.store_paths for part in spec.partitions) else set())


def stage_partitions(
    spec: ImageSpec, image: Path | None, modules: Path | None, say: Callable[[str], None]
) -> dict[str, Held]:
    """What each declared partition is to hold, by role.

    :param image: the kernel of the minimal tree, with ``modules``; None takes the distribution's cloud kernel.
    :raises SpecError: something is missing, cannot be read, or does not fit where it is to go.
    :raises HostError: the host cannot make it.
    """
    named = dict(zip(roles(spec.partitions), spec.partitions, strict=True))
    minimal = any(isinstance(part.source, MinimalSource) for part in spec.partitions)
    linux = kernel.appliance_kernel(image, modules) if minimal else None
    trees = {
        role: _source(spec, part, number, linux, say)
        for number, (role, part) in enumerate(named.items())
        if part.source is not None
    }
    return {
        role: _held(part, trees.get(role), trees, Place(origin=str(spec.origin), key=part.key(number)))
        for number, (role, part) in enumerate(named.items())
    }


def _source(
    spec: ImageSpec, part: DeclaredPartition, number: int, linux: Kernel | None, say: Callable[[str], None]
) -> StagedTree:
    assert part.source is not None
    try:
        return stage(part.source, spec, linux, say)
    except SpecError as error:
        error.key = error.key.replace("root.", f"partition[{number}].", 1)
        raise


def _held(part: DeclaredPartition, source: StagedTree | None, trees: dict[str, StagedTree], place: Place) -> Held:
    if part.copy_blocks is not None:
        return Held(blocks=blocks.survey(part.copy_blocks, origin=place.origin, key=f"{place.key}.copy-blocks"))
    if part.filesystem not in _WITH_FILES:
        return Held()
    tree = compose(part, source, trees, place)
    fat = measure_for_fat(tree, origin=place.origin, key=place.key) if part.filesystem == "vfat" else None
    return Held(tree=tree, fat=fat)
