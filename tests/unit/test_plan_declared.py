"""Declared partitions: how large, where, and with which identifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from vmharness.errors import SpecError
from vmharness.model.declared import GROW_FILE_SYSTEM, NO_AUTO, READ_ONLY, DeclaredPartition, Minimize
from vmharness.model.image import EfiSpec, GivenIdentifiers, ImageSpec, PartitionTable, RootSpec
from vmharness.model.partition_types import ALIASES, TYPES, designator_of, name_of, type_named
from vmharness.model.partitions import (
    BIOS_BOOT_TYPE,
    ESP_TYPE,
    ROOT_X86_64_TYPE,
    SECTOR,
    XBOOTLDR_TYPE,
    Blocks,
    Ext4,
    Fat,
    Swap,
)
from vmharness.model.results import FatMeasure, StagedTree, TreeMeasure
from vmharness.model.sizes import MIB
from vmharness.model.sources import MinimalSource
from vmharness.plan.declared import Held, declared_layout, filesystem_label, roles
from vmharness.plan.fat import clusters, fat_size, sectors_per_cluster
from vmharness.plan.identity import derive, named
from vmharness.plan.layout import make_layout
from vmharness.plan.sizing import root_size

TREE = StagedTree(
    directory=Path("/tree"),
    index=None,
    owner_root=True,
    identity="tree",
    measure=TreeMeasure(data_blocks=10_000, inodes=500, directory_blocks=20, extra_blocks=0),
)
NO_FILES = FatMeasure(files=(), directories=(64,))


def part(kind: str, **more: Any) -> DeclaredPartition:
    """A declared partition of a named type."""
    return DeclaredPartition(type=TYPES[kind], **more)


def spec(*partitions: DeclaredPartition, **more: Any) -> ImageSpec:
    """A definition of these partitions."""
    return ImageSpec(
        origin=Path("/d/image.toml"),
        name="x",
        partition_table=PartitionTable.DECLARED,
        efi=EfiSpec(touch_variables=False),
        partitions=partitions,
        **more,
    )


def held(image: ImageSpec) -> dict[str, Held]:
    """The same tree in every partition that takes files."""
    kinds = {"ext4": Held(tree=TREE), "vfat": Held(tree=TREE, fat=NO_FILES)}
    named_parts = zip(roles(image.partitions), image.partitions, strict=True)
    return {role: kinds.get(declared.filesystem, Held()) for role, declared in named_parts}


ESP = part("esp", filesystem="vfat", minimize=Minimize.BEST)
ROOT = part("root-x86-64", filesystem="ext4", minimize=Minimize.BEST)


def test_names_and_types() -> None:
    """Types are those that other code knows by heart, aliases mean this architecture, and names lead back."""
    assert (TYPES["esp"], TYPES["xbootldr"], TYPES["bios-boot"]) == (ESP_TYPE, XBOOTLDR_TYPE, BIOS_BOOT_TYPE)
    assert type_named("root") == type_named("root-amd64") == ROOT_X86_64_TYPE
    assert type_named("usr-aarch64-verity") == TYPES["usr-arm64-verity"]
    assert type_named("root-secondary") == TYPES["root-x86"]
    assert type_named("rooot") is None
    assert len(set(TYPES.values())) == len(TYPES)
    assert set(ALIASES.values()) <= set(TYPES)
    assert all(name_of(kind) == name for name, kind in TYPES.items())
    assert designator_of(TYPES["root-arm64-verity-sig"]) == "root-verity-sig"
    assert [designator_of(TYPES[name]) for name in ("usr-ppc64-le", "home", "esp")] == ["usr", "home", "esp"]


def test_roles_are_unique() -> None:
    """A role is the type's, in this project's words; the second of a type has a number, other machines' their name."""
    found = roles([part(kind) for kind in ("esp", "xbootldr", "bios-boot", "root-x86-64", "root-x86-64", "root-arm64")])
    assert found == ("esp", "boot", "bios", "root", "root-2", "root-arm64")
    other = UUID("11111111-2222-3333-4444-555555555555")
    assert roles([DeclaredPartition(type=other)]) == (str(other),)


def test_identifiers_are_those_of_the_other_tables() -> None:
    """An ESP and a root partition have the same identifiers whether they are declared or come with a table."""
    table = make_layout(evolve(spec(), partition_table=PartitionTable.EFI, root=RootSpec(source=MinimalSource())),
                        derive("seed"), MIB)  # fmt: skip
    image = spec(ESP, ROOT)
    layout = declared_layout(image, "seed", held(image))
    assert layout.identifier == table.identifier
    assert [(p.role, p.guid, p.type) for p in layout.partitions] == [(p.role, p.guid, p.type) for p in table.partitions]
    assert layout.by_role("esp").filesystem == table.by_role("esp").filesystem
    ext4 = layout.by_role("root").filesystem
    assert isinstance(ext4, Ext4)
    assert (ext4.uuid, ext4.hash_seed) == (derive("seed").root_uuid, derive("seed").hash_seed)


def test_given_identifiers_stand() -> None:
    """What the definition gives is taken as it is; everything else is named by the role."""
    guid = UUID("f222513b-ded1-49fa-b591-20ce86a2fe7f")
    image = spec(
        part("esp", filesystem="vfat", uuid=guid, volume_id=7, filesystem_label="BOOT"),
        part("swap", filesystem="swap", filesystem_uuid=guid),
        part("home"),
        identifiers=GivenIdentifiers(disk_guid=guid),
    )
    layout = declared_layout(image, "seed", held(image))
    esp, swap, home = layout.partitions
    assert (layout.identifier, esp.guid, esp.filesystem) == (guid, guid, Fat(label="BOOT", volume_id=7))
    assert swap.filesystem == Swap(label="swap", uuid=guid)
    assert (home.guid, home.filesystem) == (named("seed", "home-partition"), None)


def test_minimised_is_just_what_it_holds() -> None:
    """The smallest filesystem, whole MiB; and the disk is the sum of all."""
    image = spec(ESP, ROOT)
    esp, root = declared_layout(image, "x", held(image)).partitions
    assert (esp.offset, esp.size) == (MIB, 33 * MIB)
    assert (root.offset, root.size) == (34 * MIB, root_size(TREE.measure, 0).size)
    assert declared_layout(image, "x", held(image)).size == root.offset + root.size + MIB


def test_minimised_to_the_least_grows_only_as_a_guess() -> None:
    """On a disk with room to spare, ``guess`` takes its share and ``best`` does not."""
    image = spec(ROOT, part("home", filesystem="ext4", minimize=Minimize.GUESS), size=500 * MIB)
    root, home = declared_layout(image, "x", held(image)).partitions
    least = root_size(TREE.measure, 0).size
    assert (root.size, home.size) == (least, 498 * MIB - least)


def test_usual_least_size_and_blocks() -> None:
    """A partition has 10 MiB unless it says otherwise, and never less than the blocks that are copied into it."""
    blocks = Blocks(source=Path("/b"), size=12 * MIB + 512, sha256="")
    image = spec(part("home"), part("srv", size_max=3 * MIB + 5), part("var", size_min=MIB + 1), part("linux-generic"))
    found = declared_layout(image, "x", {**held(image), "linux-generic": Held(blocks=blocks)})
    assert [p.size // MIB for p in found.partitions] == [10, 3, 2, 13]
    assert found.partitions[-1].filesystem == blocks


def test_what_does_not_fit_its_greatest_size_is_refused() -> None:
    """The error names the key and the size that would do."""
    image = spec(part("root-x86-64", filesystem="ext4", size_max=20 * MIB))
    needed = root_size(TREE.measure, 0).size // MIB
    with pytest.raises(SpecError, match=rf"has at most 20 MiB, but what it holds needs {needed} MiB") as caught:
        declared_layout(image, "x", held(image))
    assert caught.value.key == "partition[0].size-max"


def test_least_important_partitions_are_left_out() -> None:
    """On a disk that is too small, those of the highest priority number go; those of 0 never do."""
    parts = [part("home", priority=2), part("srv", priority=2), part("var", priority=1), part("tmp")]
    for size, names in ((60, ["home", "srv", "var", "tmp"]), (40, ["var", "tmp"]), (20, ["tmp"])):
        image = spec(*parts, size=size * MIB)
        found = declared_layout(image, "x", held(image))
        assert [p.role for p in found.partitions] == names
        assert [p.number for p in found.partitions] == list(range(1, len(names) + 1))
    image = spec(*parts, size=11 * MIB)
    with pytest.raises(SpecError, match=r"11 MiB is too small for the partitions: 12 MiB are needed") as caught:
        declared_layout(image, "x", held(image))
    assert caught.value.key == "image.size"
    image = spec(*parts, size=12 * MIB)
    assert [p.role for p in declared_layout(image, "x", held(image)).partitions] == ["tmp"]


def test_padding_follows_a_partition() -> None:
    """Free space behind a partition has limits and a weight of its own."""
    image = spec(part("home", padding_min=5 * MIB), part("srv"))
    home, srv = declared_layout(image, "x", held(image)).partitions
    assert srv.offset == home.offset + home.size + 5 * MIB


@pytest.mark.parametrize(
    ("kind", "more", "wanted"),
    [
        ("root-x86-64", {}, GROW_FILE_SYSTEM),
        ("root-x86-64", {"read_only": True}, READ_ONLY),
        ("root-x86-64", {"grow_file_system": False, "no_auto": True}, NO_AUTO),
        ("root-x86-64", {"flags": 4 | NO_AUTO, "no_auto": False}, 4 | GROW_FILE_SYSTEM),
        ("root-x86-64-verity", {}, READ_ONLY),
        ("esp", {}, 0),
        ("swap", {"no_auto": True}, NO_AUTO),
        ("linux-generic", {"flags": 1}, 1),
    ],
)
def test_attribute_bits(kind: str, more: dict[str, Any], wanted: int) -> None:
    """The bits are those of the Discoverable Partitions Specification, with systemd-repart's defaults."""
    assert part(kind, **more).attributes == wanted


def test_filesystem_label_is_the_partition_s_as_far_as_it_goes() -> None:
    """A derived label is cut, and made of what a FAT takes; a given one stands."""
    assert filesystem_label(part("linux-generic", filesystem="vfat")) == "LINUX-GENER"
    assert filesystem_label(part("home", label="ünïcode? x", filesystem="vfat")) == "_N_CODE_"
    assert filesystem_label(part("home", label="a name of many letters", filesystem="ext4")) == "a name of many l"
    assert filesystem_label(part("home", filesystem="ext4", filesystem_label="h")) == "h"


partitions = st.builds(
    DeclaredPartition,
    type=st.sampled_from(sorted(TYPES.values())),
    filesystem=st.sampled_from(["", "ext4", "vfat", "swap"]),
    size_min=st.none() | st.integers(1, 10**9),
    weight=st.integers(0, 10**6),
    padding_min=st.integers(0, 10**8),
    padding_weight=st.integers(0, 10**6),
    minimize=st.sampled_from(Minimize),
)


@given(declared=st.lists(partitions, min_size=1, max_size=12), spare=st.none() | st.integers(0, 10**9))
def test_every_layout_is_sound(declared: list[DeclaredPartition], spare: int | None) -> None:
    """Partitions are numbered, aligned, sorted, apart, inside the usable sectors, and as large as they must be."""
    image = spec(*declared)
    if spare is not None:
        image = evolve(image, size=declared_layout(image, "x", held(image)).size + spare // SECTOR * SECTOR)
    layout = declared_layout(image, "x", held(image))
    end = 34
    for number, (found, wanted) in enumerate(zip(layout.partitions, declared, strict=True), 1):
        assert (found.number, found.type) == (number, wanted.type)
        assert found.offset % MIB == found.size % MIB == 0
        assert found.size > 0
        assert found.start >= end
        assert found.size >= (wanted.size_min or 0)
        if isinstance(found.filesystem, Ext4):
            assert root_size(TREE.measure, 0).size <= found.size
            assert found.filesystem.size <= found.size
        if isinstance(found.filesystem, Fat):
            assert fat_size(NO_FILES) <= found.size
        end = found.start + found.sectors
    assert end - 1 <= layout.size // SECTOR - 34
    assert len({found.guid for found in layout.partitions}) == len({found.role for found in layout.partitions})


@given(files=st.lists(st.integers(0, 10**8), max_size=50), directories=st.lists(st.integers(64, 10**6), max_size=9))
def test_fat_holds_its_files_and_is_no_larger(files: list[int], directories: list[int]) -> None:
    """The smallest number of MiB in which every file has its clusters, and never fewer clusters than FAT32 has."""
    measure = FatMeasure(files=tuple(files), directories=tuple(directories))
    size = fat_size(measure)
    needed = sum(-(-count // (512 * sectors_per_cluster(size))) for count in (*files, *directories))
    assert clusters(size) >= max(needed, 65_525)
    assert size == 33 * MIB or size - sum(files) - sum(directories) < 33 * MIB + 4096 * 59 + sum(files) // 50
