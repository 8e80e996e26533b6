"""The root filesystem that a definition asks for: what is allowed, how large it is, how it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from vmharness.errors import SpecError
from vmharness.model.hardware import Accelerator
from vmharness.model.image import EfiSpec, ImageSpec, MinimalSource, PartitionTable, RootSpec
from vmharness.model.partitions import Ext4
from vmharness.model.results import TreeMeasure
from vmharness.model.rootfs import ROOT_FILESYSTEMS, RootFilesystem
from vmharness.model.sizes import MIB
from vmharness.plan.checks import check
from vmharness.plan.identity import derive
from vmharness.plan.layout import make_layout
from vmharness.plan.rootfs import root_bytes, root_filesystem, scratch_filesystem
from vmharness.plan.steps import guest_steps

KINDS = [pytest.param(kind, id=kind.name) for kind in ROOT_FILESYSTEMS.values()]
GUEST_MADE = [pytest.param(kind, id=kind.name) for kind in ROOT_FILESYSTEMS.values() if kind.made_in_guest]
IDENTIFIERS = derive("test")
SMALL = TreeMeasure(data_blocks=100, inodes=50, directory_blocks=5, extra_blocks=0)
LARGE = TreeMeasure(data_blocks=1_000_000, inodes=200_000, directory_blocks=20_000, extra_blocks=1_000)


def spec_of(filesystem: str, **root: object) -> ImageSpec:
    """A definition with that root filesystem."""
    return ImageSpec(
        origin=Path("/d/image.toml"),
        name="x",
        root=RootSpec(source=MinimalSource(), filesystem=filesystem, **root),  # type: ignore[arg-type] -- any field
    )


def refusal(spec: ImageSpec) -> str:
    """Why a definition is refused."""
    with pytest.raises(SpecError) as error:
        check(spec)
    return str(error.value)


def test_unknown_filesystems_are_refused() -> None:
    """What there is no entry for is refused, and what there is is named."""
    text = refusal(spec_of("ntfs"))
    assert "root.filesystem" in text
    assert "ext4 | xfs" in text


@pytest.mark.parametrize("kind", [kind for kind in ROOT_FILESYSTEMS.values() if kind.longest_label])
def test_a_label_is_as_long_as_its_filesystem_takes(kind: RootFilesystem) -> None:
    """The longest label passes, one byte more is refused, and bytes count, not letters."""
    name, longest = kind.name, kind.longest_label
    check(spec_of(name, label="x" * longest))
    assert "root.label" in refusal(spec_of(name, label="x" * (longest + 1)))
    assert "root.label" in refusal(spec_of(name, label="é" * (longest // 2 + 1)))
    assert "none can print" in refusal(spec_of(name, label="a\nb"))


def test_options_are_words_without_control_characters() -> None:
    """Options go to the program that makes the filesystem, word by word."""
    check(spec_of("xfs", filesystem_options=("-i", "size=1024")))
    assert "filesystem-options[1]" in refusal(spec_of("xfs", filesystem_options=("-i", "a\nb")))


def test_ext4_takes_no_option_that_moves_what_is_set_in_it() -> None:
    """The host sets ext4's inodes and knows one set of features."""
    assert "root.filesystem-options" in refusal(spec_of("ext4", filesystem_options=("-O", "inline_data")))


@pytest.mark.parametrize("kind", GUEST_MADE)
@pytest.mark.parametrize("measure", [SMALL, LARGE])
def test_sizes_grow_with_what_is_asked_for(kind: RootFilesystem, measure: TreeMeasure) -> None:
    """Sizes are whole MiB, never below the tool's smallest, and have room for the data and for what shall be free."""
    spec = spec_of(kind.name)
    size = root_bytes(spec, measure, 0)
    assert size % MIB == 0
    assert size >= kind.smallest
    assert size >= measure.data_blocks * 4096
    assert root_bytes(spec, measure, 1024 * MIB) >= max(size, 1024 * MIB + measure.data_blocks * 4096)


@pytest.mark.parametrize("table", [table for table in PartitionTable if table is not PartitionTable.DECLARED])
@pytest.mark.parametrize("kind", KINDS)
def test_every_filesystem_goes_on_every_table(kind: RootFilesystem, table: PartitionTable) -> None:
    """The steps make, fill and check what the host does not, on the right partition, before anything is mounted."""
    name = kind.name
    spec = evolve(spec_of(name), partition_table=table, efi=EfiSpec(touch_variables=table.has_esp))
    check(spec)
    layout = make_layout(spec, IDENTIFIERS, root_bytes(spec, SMALL, 0))
    root = root_filesystem(spec, layout.by_role("root").size, SMALL, 0, IDENTIFIERS)
    layout = layout.with_filesystem("root", root)
    steps = {step.script: step for step in guest_steps(spec, layout, Accelerator.KVM, contents=False)}
    scratch = scratch_filesystem(spec, SMALL, IDENTIFIERS)
    if isinstance(root, Ext4):
        assert scratch is None
        assert not {"format-root", "copy-tree", "check-root"} & set(steps)
        assert steps["identify"].parameters["ROOT_UUID"] == str(IDENTIFIERS.root_uuid)
        return
    assert scratch is not None
    assert scratch.uuid != IDENTIFIERS.root_uuid
    order = list(steps)
    number = layout.by_role("root").number
    assert order.index("identify") < order.index("mount-target") < order.index("unmount") < order.index("check-root")
    assert steps["check-root"].parameters["PARTITION"] == (str(number) if number else "")
    assert steps["check-root"].parameters["FILESYSTEM"] == name
    assert steps["identify"].parameters["ROOT_UUID"] == ""
