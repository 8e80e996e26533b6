"""Plans of every kind, made by the planner itself."""

from __future__ import annotations

from pathlib import Path

from vmharness.model.declared import DeclaredPartition, Minimize
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, AcceleratorVerdict, DirectKernel, Kernel, Uncompressed
from vmharness.model.image import BootloaderSpec, EfiSpec, ImageSpec, Installer, PartitionTable, RootSpec
from vmharness.model.partition_types import TYPES
from vmharness.model.partitions import Blocks, Subvolume
from vmharness.model.results import FatMeasure, StagedContents, StagedTree, TreeMeasure
from vmharness.model.run_steps import Inside, RunSpec
from vmharness.model.sources import MinimalSource
from vmharness.plan.declared import Held, roles
from vmharness.plan.identity import derive
from vmharness.plan.make import Plan, make, make_declared
from vmharness.plan.run_steps import step_file
from vmharness.plan.start import Bootable

MEASURE = TreeMeasure(data_blocks=100, inodes=50, directory_blocks=5, extra_blocks=0)
TREE = StagedTree(directory=Path("/tree"), index=None, owner_root=True, identity="tree", measure=MEASURE)
TCG = AcceleratorVerdict(accelerator=Accelerator.TCG, reason="TCG: /dev/kvm is not there")
FIRMWARE = Firmware(
    code=Path("/f/CODE.fd"),
    template=Path("/f/VARS.fd"),
    features=("acpi-s3", "requires-smm"),
    descriptor=Path("/q/60.json"),
    description="UEFI, of somebody's",
)


def plan_of(table: PartitionTable, filesystem: str, bootloader: str = "none") -> Plan:
    """The plan of a small image."""
    spec = ImageSpec(
        origin=Path("/d/image.toml"),
        name="x",
        root=RootSpec(
            source=MinimalSource(),
            filesystem=filesystem,
            subvolumes=(Subvolume(name="@", path="/"),) if filesystem == "btrfs" else (),
        ),
        partition_table=table,
        bootloader=BootloaderSpec(
            install=Installer(name=bootloader, arguments=("/boot/loader.efi",)), kernel_parameters=("a b", "é")
        ),
        efi=EfiSpec(touch_variables=table.has_esp),
        run=(
            RunSpec(name="a script", script=Path("/d/fix.sh"), expect="fixed"),
            RunSpec(name="a command", command=("df", "it's"), inside=Inside.APPLIANCE, parameters={"A": "1"}),
        ),
    )
    kernel = Kernel(image=Path("/k/vmlinuz"), modules=Path("/k/modules"), version="6.1", reason="the only one")
    direct = DirectKernel(image=kernel.image, initrd=Path("/k/initrd"), command_line=("console=ttyS0", "quiet"))
    plain = Uncompressed(image=Path("/k/vmlinux"), reason="")
    return make(
        spec,
        trees={"root": TREE},
        contents=StagedContents(archive=Path("/run/contents.tar"), measure=MEASURE),
        scripts={"a script": step_file("a script", b"#!/bin/sh\n")},
        identifiers=derive("seed"),
        accelerator=TCG,
        firmware=FIRMWARE if table.has_esp else None,
        bootable=Bootable(kernel=kernel, direct=direct, uncompressed=None if table.has_esp else plain),
    )


def declared_plan() -> Plan:
    """The plan of declared partitions: a FAT, a swap area, an ext4, and the bytes of a file."""
    blocks = Blocks(source=Path("/blocks"), size=5000, sha256="00")
    parts = (
        DeclaredPartition(type=TYPES["esp"], filesystem="vfat", minimize=Minimize.BEST),
        DeclaredPartition(type=TYPES["swap"], filesystem="swap"),
        DeclaredPartition(type=TYPES["root-x86-64"], filesystem="ext4"),
        DeclaredPartition(type=TYPES["linux-generic"], copy_blocks=blocks.source),
    )
    spec = ImageSpec(
        origin=Path("/d"),
        name="x",
        partition_table=PartitionTable.DECLARED,
        efi=EfiSpec(touch_variables=False),
        partitions=parts,
    )
    holding = (
        Held(tree=TREE, fat=FatMeasure(files=(), directories=(64,))),
        Held(),
        Held(tree=TREE),
        Held(blocks=blocks),
    )
    held = dict(zip(roles(parts), holding, strict=True))
    return make_declared(spec, held=held, seed="seed", accelerator=TCG, firmware=None)
