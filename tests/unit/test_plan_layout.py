"""The layout of every partition table, to the sector."""

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from vmharness.errors import ApiMisuse, SpecError
from vmharness.model.image import ImageSpec, PartitionTable, RootSpec
from vmharness.model.partitions import ESP_TYPE, ROOT_X86_64_TYPE, SECTOR, Scheme
from vmharness.model.sizes import GIB, MIB, TIB
from vmharness.model.sources import MinimalSource
from vmharness.plan.fat import FAT32_MINIMUM
from vmharness.plan.identity import derive
from vmharness.plan.layout import make_layout

SPEC = ImageSpec(origin=Path("/d/image.toml"), name="x", root=RootSpec(source=MinimalSource()))
IDENTIFIERS = derive("x")


def test_geometry_is_the_reference_s() -> None:
    """The ESP has just ``boot-size`` from 8 MiB, the root partition follows, types and identifiers are as planned."""
    layout = make_layout(SPEC, IDENTIFIERS, 700 * MIB)
    esp, root = layout.by_role("esp"), layout.by_role("root")
    assert (esp.number, esp.start, esp.sectors) == (1, 0x4000, 0x80000)
    assert (esp.type, esp.guid) == (ESP_TYPE, IDENTIFIERS.esp_guid)
    assert (root.number, root.offset, root.size) == (2, 264 * MIB, 700 * MIB)
    assert (root.type, root.guid) == (ROOT_X86_64_TYPE, IDENTIFIERS.root_guid)
    assert layout.identifier == IDENTIFIERS.disk_guid
    assert layout.size == 965 * MIB


def of(table: str, **changes: Any) -> ImageSpec:
    """The definition with another partition table."""
    return evolve(SPEC, partition_table=PartitionTable(table), **changes)


@pytest.mark.parametrize(
    ("table", "partitions", "size"),
    [
        ("none", [(0, "root", 0, 700)], 700),
        ("legacy", [(1, "root", 1, 700)], 701),
        ("legacy+boot", [(1, "boot", 1, 256), (2, "root", 257, 700)], 957),
        ("legacy+gpt", [(1, "bios", 1, 1), (2, "root", 2, 700)], 703),
        ("efi", [(1, "esp", 8, 256), (2, "root", 264, 700)], 965),
        ("efixbootldr", [(1, "esp", 8, 92), (2, "boot", 100, 256), (3, "root", 356, 700)], 1057),
        ("hybrid", [(1, "bios", 1, 1), (2, "esp", 8, 256), (3, "root", 264, 700)], 965),
    ],
)
def test_geometry_of_each_table(table: str, partitions: list[tuple[int, str, int, int]], size: int) -> None:
    """Number, role, start and length in MiB of every partition, and the disk's size, are the documented ones."""
    layout = make_layout(of(table), IDENTIFIERS, 700 * MIB)
    found = [(part.number, part.role, part.offset // MIB, part.size // MIB) for part in layout.partitions]
    assert (found, layout.size) == (partitions, size * MIB)


@pytest.mark.parametrize("table", ["legacy", "legacy+boot"])
def test_an_mbr_has_a_signature_and_one_active_partition(table: str) -> None:
    """The signature comes from the identifiers, and the first partition is the one that a BIOS boots from."""
    layout = make_layout(of(table), IDENTIFIERS, MIB)
    assert (layout.scheme, layout.identifier) == (Scheme.MBR, IDENTIFIERS.disk_signature)
    assert [part.active for part in layout.partitions] == [True, False][: len(layout.partitions)]
    assert layout.partuuid(layout.partitions[-1]) == f"{IDENTIFIERS.disk_signature:08x}-0{len(layout.partitions)}"


@pytest.mark.parametrize("table", list(PartitionTable))
def test_of_a_gpt_only_that_for_a_bios_marks_a_partition(table: PartitionTable) -> None:
    """Syslinux' boot code finds its partition by the attribute; a table that UEFI boots from has no use for it."""
    marked = [part.role for part in make_layout(of(table.value), IDENTIFIERS, MIB).partitions if part.active]
    assert marked == {"legacy": ["root"], "legacy+boot": ["boot"], "legacy+gpt": ["root"]}.get(table.value, [])


def test_a_bare_filesystem_has_no_partuuid() -> None:
    """Without a table there is no identifier and no ``PARTUUID``, and a fixed size is used to the last block."""
    layout = make_layout(of("none", size=700 * MIB + 512), IDENTIFIERS, MIB)
    assert (layout.identifier, layout.partuuid(layout.by_role("root"))) == (None, None)
    assert layout.by_role("root").size == 700 * MIB


def test_an_mbr_ends_at_2_tib() -> None:
    """A larger disk is refused, naming what can describe it; with a GPT it is accepted."""
    with pytest.raises(SpecError, match=r"more than an MBR can describe.*legacy.gpt"):
        make_layout(of("legacy", size=3 * TIB), IDENTIFIERS, MIB)
    make_layout(of("legacy", size=2 * TIB), IDENTIFIERS, MIB)
    make_layout(of("legacy+gpt", size=3 * TIB), IDENTIFIERS, MIB)


def test_fixed_size_gives_the_rest_to_the_root_partition() -> None:
    """With a fixed size the root partition ends at the last multiple of 1 MiB before the backup table."""
    layout = make_layout(evolve(SPEC, size=4 * GIB), IDENTIFIERS, 700 * MIB)
    assert layout.size == 4 * GIB
    assert layout.by_role("root").size == 4 * GIB - 265 * MIB


@given(
    table=st.sampled_from([table for table in PartitionTable if table.value not in {"none", "declared"}]),
    boot=st.integers(33, 4096).map(lambda count: count * MIB),
    root=st.integers(1, 2**40),
    spare=st.none() | st.integers(0, 2**33).map(lambda count: count * SECTOR),
)
def test_every_layout_is_sound(table: PartitionTable, boot: int, root: int, spare: int | None) -> None:
    """Partitions are aligned, sorted, apart from each other, inside the usable sectors, and root has what it needs."""
    spec = evolve(SPEC, partition_table=table, boot_size=boot)
    if spare is not None:
        size = make_layout(spec, IDENTIFIERS, root).size + spare
        assume(size <= 2 * TIB or make_layout(spec, IDENTIFIERS, root).scheme is Scheme.GPT)
        spec = evolve(spec, size=size)
    layout = make_layout(spec, IDENTIFIERS, root)
    gpt = layout.scheme is Scheme.GPT
    last_usable = layout.size // SECTOR - (34 if gpt else 1)
    end = 34 if gpt else 1
    for part in layout.partitions:
        assert part.offset % MIB == 0
        assert part.size % MIB == 0
        assert part.start >= end
        assert part.sectors > 0
        end = part.start + part.sectors
    assert end - 1 <= last_usable
    assert layout.size - end * SECTOR < 2 * MIB
    assert layout.by_role("root").size >= root


@given(root=st.integers(1, 2**40))
def test_size_that_an_error_names_is_enough(root: int) -> None:
    """A disk that is too small is refused with the size that is needed, and that size is then accepted."""
    needed = make_layout(SPEC, IDENTIFIERS, root).size
    assert make_layout(evolve(SPEC, size=needed), IDENTIFIERS, root).by_role("root").size >= root
    with pytest.raises(SpecError) as caught:
        make_layout(evolve(SPEC, size=needed - MIB), IDENTIFIERS, root)
    assert caught.value.key == "image.size"


def test_small_disk_is_refused_with_the_size_needed() -> None:
    """The error names file, key, what is there, what is needed, and for what."""
    with pytest.raises(SpecError) as caught:
        make_layout(evolve(SPEC, size=GIB // 2), IDENTIFIERS, 700 * MIB)
    assert str(caught.value) == (
        "/d/image.toml: image.size: 512 MiB is too small: 965 MiB are needed, 264 MiB before the root partition "
        'and 700 MiB for the root filesystem (allowed: 965 MiB or more, or "auto")'
    )


def test_disk_of_half_a_sector_is_refused() -> None:
    """A disk is a whole number of sectors."""
    with pytest.raises(SpecError, match="whole number of sectors"):
        make_layout(evolve(SPEC, size=4 * GIB + 1), IDENTIFIERS, None)


def test_boot_partition_below_fat32_is_refused() -> None:
    """A boot partition on which FAT32 cannot be made is refused, with the reason; the smallest possible one is not."""
    with pytest.raises(SpecError, match=r"32 MiB is too small: FAT32 needs 65525 clusters .*33 MiB or more") as caught:
        make_layout(evolve(SPEC, boot_size=32 * MIB), IDENTIFIERS, MIB)
    assert caught.value.key == "image.boot-size"
    assert 32 * MIB < FAT32_MINIMUM <= 33 * MIB
    assert make_layout(evolve(SPEC, boot_size=33 * MIB), IDENTIFIERS, MIB).by_role("esp").size == 33 * MIB


def test_boot_partition_off_alignment_is_refused() -> None:
    """``boot-size`` is the size of the partition itself and is never rounded, so it must be a multiple of 1 MiB."""
    with pytest.raises(SpecError, match="a multiple of 1 MiB"):
        make_layout(evolve(SPEC, boot_size=64 * MIB + 512), IDENTIFIERS, MIB)


def test_automatic_size_needs_a_measure() -> None:
    """Without a fixed size and without the root filesystem's there is nothing to decide from."""
    with pytest.raises(ApiMisuse):
        make_layout(SPEC, IDENTIFIERS, None)
