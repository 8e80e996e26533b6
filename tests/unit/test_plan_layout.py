"""The layout of partition table ``efi``, to the sector."""

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from vmharness.errors import ApiMisuse, SpecError
from vmharness.model.image import ImageSpec, MinimalSource, RootSpec
from vmharness.model.partitions import ESP_TYPE, ROOT_X86_64_TYPE, SECTOR
from vmharness.model.sizes import GIB, MIB
from vmharness.plan.identity import derive
from vmharness.plan.layout import FAT32_MINIMUM, efi_layout

SPEC = ImageSpec(origin=Path("/d/image.toml"), name="x", root=RootSpec(source=MinimalSource()))
IDENTIFIERS = derive("x")


def test_geometry_is_the_reference_s() -> None:
    """The ESP has just ``boot-size`` from 8 MiB, the root partition follows, types and identifiers are as planned."""
    layout = efi_layout(SPEC, IDENTIFIERS, 700 * MIB)
    esp, root = layout.by_role("esp"), layout.by_role("root")
    assert (esp.number, esp.start, esp.sectors) == (1, 0x4000, 0x80000)
    assert (esp.type_guid, esp.guid) == (ESP_TYPE, IDENTIFIERS.esp_guid)
    assert (root.number, root.offset, root.size) == (2, 264 * MIB, 700 * MIB)
    assert (root.type_guid, root.guid) == (ROOT_X86_64_TYPE, IDENTIFIERS.root_guid)
    assert layout.disk_guid == IDENTIFIERS.disk_guid
    assert layout.size == 965 * MIB


def test_fixed_size_gives_the_rest_to_the_root_partition() -> None:
    """With a fixed size the root partition ends at the last multiple of 1 MiB before the backup table."""
    layout = efi_layout(evolve(SPEC, size=4 * GIB), IDENTIFIERS, 700 * MIB)
    assert layout.size == 4 * GIB
    assert layout.by_role("root").size == 4 * GIB - 265 * MIB


@given(
    boot=st.integers(33, 4096).map(lambda count: count * MIB),
    root=st.integers(1, 2**42),
    spare=st.none() | st.integers(0, 2**33).map(lambda count: count * SECTOR),
)
def test_every_layout_is_sound(boot: int, root: int, spare: int | None) -> None:
    """Partitions are aligned, sorted, apart from each other, inside the usable sectors, and root has what it needs."""
    spec = evolve(SPEC, boot_size=boot)
    if spare is not None:
        spec = evolve(spec, size=efi_layout(spec, IDENTIFIERS, root).size + spare)
    layout = efi_layout(spec, IDENTIFIERS, root)
    last_usable = layout.size // SECTOR - 34
    end = 34
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
    needed = efi_layout(SPEC, IDENTIFIERS, root).size
    assert efi_layout(evolve(SPEC, size=needed), IDENTIFIERS, root).by_role("root").size >= root
    with pytest.raises(SpecError) as caught:
        efi_layout(evolve(SPEC, size=needed - MIB), IDENTIFIERS, root)
    assert caught.value.key == "image.size"


def test_small_disk_is_refused_with_the_size_needed() -> None:
    """The error names file, key, what is there, what is needed, and for what."""
    with pytest.raises(SpecError) as caught:
        efi_layout(evolve(SPEC, size=GIB // 2), IDENTIFIERS, 700 * MIB)
    assert str(caught.value) == (
        "/d/image.toml: image.size: 512 MiB is too small: 965 MiB are needed, of which 256 MiB for the boot partition "
        'and 700 MiB for the root filesystem (allowed: 965 MiB or more, or "auto")'
    )


def test_disk_of_half_a_sector_is_refused() -> None:
    """A disk is a whole number of sectors."""
    with pytest.raises(SpecError, match="whole number of sectors"):
        efi_layout(evolve(SPEC, size=4 * GIB + 1), IDENTIFIERS, None)


def test_boot_partition_below_fat32_is_refused() -> None:
    """A boot partition on which FAT32 cannot be made is refused, with the reason; the smallest possible one is not."""
    with pytest.raises(SpecError, match=r"32 MiB is too small: FAT32 needs 65525 clusters .*33 MiB or more") as caught:
        efi_layout(evolve(SPEC, boot_size=32 * MIB), IDENTIFIERS, MIB)
    assert caught.value.key == "image.boot-size"
    assert 32 * MIB < FAT32_MINIMUM <= 33 * MIB
    assert efi_layout(evolve(SPEC, boot_size=33 * MIB), IDENTIFIERS, MIB).by_role("esp").size == 33 * MIB


def test_boot_partition_off_alignment_is_refused() -> None:
    """``boot-size`` is the size of the partition itself and is never rounded, so it must be a multiple of 1 MiB."""
    with pytest.raises(SpecError, match="a multiple of 1 MiB"):
        efi_layout(evolve(SPEC, boot_size=64 * MIB + 512), IDENTIFIERS, MIB)


def test_automatic_size_needs_a_measure() -> None:
    """Without a fixed size and without the root filesystem's there is nothing to decide from."""
    with pytest.raises(ApiMisuse):
        efi_layout(SPEC, IDENTIFIERS, None)
