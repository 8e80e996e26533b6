"""The root filesystem that a definition asks for: what is allowed, how large it is, how it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from vmharness.errors import SpecError
from vmharness.model.hardware import Accelerator
from vmharness.model.image import (
    BootloaderSpec,
    EfiSpec,
    GivenIdentifiers,
    ImageSpec,
    Installer,
    PartitionTable,
    RootSpec,
)
from vmharness.model.partitions import Ext4, Subvolume
from vmharness.model.results import TreeMeasure
from vmharness.model.rootfs import ROOT_FILESYSTEMS, RootFilesystem
from vmharness.model.sizes import MIB
from vmharness.model.sources import MinimalSource
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


def test_ext4_takes_the_options_that_leave_its_inodes_alone() -> None:
    """Reserved blocks, behaviour on errors, mount point and no journal are the user's; layout and size are planned."""
    check(spec_of("ext4", filesystem_options=("-m", "1.5", "-e", "panic", "-M", "/", "-O", "^has_journal")))
    for words in (("-O", "inline_data"), ("-I", "128"), ("-m",), ("-m", "x"), ("-N", "10"), ("-E", "offset=0"), ("",)):
        assert "root.filesystem-options" in refusal(spec_of("ext4", filesystem_options=words))


@pytest.mark.parametrize("kind", GUEST_MADE)
@pytest.mark.parametrize("measure", [SMALL, LARGE])
def test_sizes_grow_with_what_is_asked_for(kind: RootFilesystem, measure: TreeMeasure) -> None:
    """Sizes are whole MiB, never below the tool's smallest, and have room for the data and for what shall be free."""
    spec = spec_of(kind.name)
    size = root_bytes(spec, measure, 0)
    assert size % MIB == 0
    assert size >= kind.smallest
    assert size >= measure.data_blocks * 4096
    if kind.read_only:
        assert root_bytes(evolve(spec, size=1024 * MIB), measure, 0) == MIB
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
    steps = {step.script: step for step in guest_steps(spec, layout, Accelerator.KVM, contents=False, scripts={})}
    scratch = scratch_filesystem(spec, SMALL, 0, IDENTIFIERS)
    if isinstance(root, Ext4):
        assert scratch is None
        assert not {"format-root", "copy-tree", "check-root"} & set(steps)
        assert steps["identify"].parameters["ROOT_UUID"] == str(IDENTIFIERS.root_uuid)
        return
    assert scratch is not None
    assert scratch.uuid != IDENTIFIERS.root_uuid
    number = str(layout.by_role("root").number or "")
    order = ["identify", "mount-target", "unmount", "pack-root", "check-root"]
    mounted = {"ROOT_SERIAL": "tree", "ROOT_NUMBER": "", "ROOT_TYPE": "ext4", "FUTURE_NUMBER": number}
    if not kind.read_only:
        order = ["identify", "format-root", "copy-tree", "mount-target", "unmount", "check-root"]
        mounted = {"ROOT_SERIAL": "target", "ROOT_NUMBER": number, "ROOT_TYPE": name, "FUTURE_NUMBER": ""}
    assert [script for script in steps if script not in {"format-fat", "seal"}] == order
    assert mounted.items() <= steps["mount-target"].parameters.items()
    made = {"SERIAL": "target", "PARTITION": number, "FILESYSTEM": name, "TREE_SERIAL": "tree"}
    assert made.items() <= steps["check-root"].parameters.items()
    assert steps["check-root"].parameters["UUID"] == (str(IDENTIFIERS.root_uuid) if kind.has_uuid else "")
    assert steps["identify"].parameters["ROOT_UUID"] == ""


@pytest.mark.parametrize(
    ("root", "key"),
    [
        ({"filesystem": "xfs", "subvolumes": (Subvolume(name="@", path="/"),)}, "root.subvolumes"),
        ({"filesystem": "btrfs", "subvolumes": (Subvolume(name="@home", path="/home"),)}, "root.subvolumes"),
        ({"filesystem": "btrfs", "subvolumes": (Subvolume(name="@", path="no"),)}, "root.subvolumes"),
        ({"filesystem": "btrfs", "subvolumes": (Subvolume(name="a b", path="/"),)}, "root.subvolumes"),
        ({"filesystem": "btrfs", "subvolumes": (Subvolume(name="../x", path="/"),)}, "root.subvolumes"),
        ({"filesystem": "btrfs", "subvolumes": (Subvolume(name="@", path="/"),) * 2}, "root.subvolumes"),
        ({"filesystem": "squashfs", "label": "data"}, "root.label"),
        ({"filesystem": "squashfs", "compression": "brotli"}, "root.compression"),
        ({"filesystem": "xfs", "compression": "zstd"}, "root.compression"),
    ],
)
def test_what_a_filesystem_does_not_have_is_refused(root: dict[str, object], key: str) -> None:
    """Subvolumes, labels and compressions are those that the kind has, and one subvolume is the root."""
    assert key in refusal(spec_of(str(root["filesystem"]), **{k: v for k, v in root.items() if k != "filesystem"}))


@pytest.mark.parametrize(
    ("name", "bootloader", "table", "key"),
    [
        ("erofs", "grub", PartitionTable.HYBRID, "bootloader.install"),
        ("squashfs", "command", PartitionTable.NONE, "image.partition-table"),
    ],
)
def test_what_cannot_boot_from_a_read_only_root_is_refused(
    name: str, bootloader: str, table: PartitionTable, key: str
) -> None:
    """A bootloader whose installer asks the running system, or a root that nothing identifies."""
    spec = evolve(
        spec_of(name),
        partition_table=table,
        bootloader=BootloaderSpec(install=Installer(name=bootloader, arguments=("x",))),
        efi=EfiSpec(touch_variables=table.has_esp),
    )
    assert key in refusal(spec)
    check(evolve(spec, bootloader=BootloaderSpec()))


def test_a_squashfs_has_no_identifier_to_give() -> None:
    """An identifier that the definition gives and the filesystem cannot have is refused."""
    given = GivenIdentifiers(root_filesystem_uuid=IDENTIFIERS.root_uuid)
    assert "identifiers.root-filesystem-uuid" in refusal(evolve(spec_of("squashfs"), identifiers=given))


@pytest.mark.parametrize(
    ("name", "words"), [("ext4", "rw"), ("xfs", "rw rootfstype=xfs"), ("erofs", "ro rootfstype=erofs")]
)
def test_the_kernel_is_told_how_to_mount_the_root(name: str, words: str) -> None:
    """Read-only roots are mounted so, and the initramfs hears which module to load; the user's word comes last."""
    install = BootloaderSpec(install=Installer(name="systemd-boot"), kernel_parameters=("quiet",))
    spec = evolve(spec_of(name), bootloader=install)
    layout = make_layout(spec, IDENTIFIERS, 512 * MIB)
    layout = layout.with_filesystem("root", root_filesystem(spec, 512 * MIB, SMALL, 0, IDENTIFIERS))
    steps = {step.script: step for step in guest_steps(spec, layout, Accelerator.KVM, contents=False, scripts={})}
    assert steps["install-systemd-boot"].parameters["KERNEL_PARAMETERS"] == f"{words} quiet"
