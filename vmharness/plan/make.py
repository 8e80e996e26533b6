"""The plan: everything that a build will do, decided before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from vmharness.model.bootloader import BOOTLOADERS
from vmharness.model.dialogue import Entry, InstallSpec
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import AcceleratorVerdict, DirectKernel, MachineSpec
from vmharness.model.image import ImageSpec
from vmharness.model.partitions import Ext4, Fat, Layout, Partition, Scheme
from vmharness.model.results import StagedContents, StagedTree, TreeMeasure
from vmharness.model.sources import DirectorySource
from vmharness.model.steps import Action, Step, StepFile
from vmharness.plan.checks import check_disk
from vmharness.plan.declared import Held, declared_layout
from vmharness.plan.identity import Identifiers
from vmharness.plan.layout import make_layout
from vmharness.plan.rootfs import kind_of, root_bytes, root_filesystem, scratch_filesystem
from vmharness.plan.start import Bootable, Start, appliance_firmware, choose_start
from vmharness.plan.steps import guest_steps

_BOOT_SECONDS = 30.0
_ROOT_PORTS = 4


@frozen(kw_only=True)
class Population:
    """How the root filesystem gets its files: the way's name, and why it was taken."""

    way: str
    reason: str


@frozen(kw_only=True)
class Filling:
    """What a partition is filled with on the host.

    :param role: the partition's.
    :param tree: identity of the staged tree.
    :param measure: the cost of the tree, with that of the files that are grafted later.
    """

    role: str
    tree: str
    measure: TreeMeasure
    population: Population


@frozen(kw_only=True)
class Plan:
    """One build.

    :param spec: the definition.
    :param fillings: of the partitions that get files on the host.
    :param accelerator: the accelerator and why.
    :param firmware: the firmware that the image is made for, or None where its partition table has no ESP.
    :param layout: the partition table, to the sector, with the filesystems.
    :param scratch: the filesystem on a disk of its own on which the host lays the tree, where the root filesystem is
        made in the guest.
    :param machine: the appliance's machine, without this run's disks and variable store: the same for every build that
        shares kernel, initramfs, firmware and memory. None where no machine is needed.
    :param start: how the machine comes up when it boots cold, and why.
    :param boot_deadline: seconds that the appliance may take to answer.
    :param steps: what runs in it.
    :param dialogue: what is said to the installer, where one makes the image; there are no steps then.
    """

    spec: ImageSpec
    fillings: tuple[Filling, ...]
    accelerator: AcceleratorVerdict
    firmware: Firmware | None
    layout: Layout
    scratch: Ext4 | None
    machine: MachineSpec | None
    start: Start | None
    boot_deadline: float
    steps: tuple[Step, ...]
    dialogue: tuple[Entry, ...] = ()

    @property
    def actions(self) -> tuple[Action, ...]:
        """The numbered parts of the run in the machine."""
        return self.dialogue or self.steps


def make(  # noqa: PLR0913 -- each is a fact of another kind
    spec: ImageSpec,
    *,
    trees: Mapping[str, StagedTree],
    contents: StagedContents | None,
    scripts: Mapping[str, StepFile],
    identifiers: Identifiers,
    accelerator: AcceleratorVerdict,
    firmware: Firmware | None,
    bootable: Bootable | None,
) -> Plan:
    """Decide everything.

    :param trees: what goes into partitions, by their roles.
    :param contents: the files that are grafted into the root filesystem in the guest.
    :param scripts: of the steps that the definition declares, by the steps' names.
    :param bootable: what the appliance can be started with, or None where the image needs no machine.
    :raises SpecError: the sizes do not fit.
    """
    measure = trees["root"].measure + contents.measure if contents else trees["root"].measure
    free = spec.additional_space if spec.size is None else 0
    installed = BOOTLOADERS[spec.bootloader.install.name].bytes_in_root
    layout = make_layout(spec, identifiers, root_bytes(spec, measure, free + installed))
    check_disk(spec, layout.size)
    root = root_filesystem(spec, layout.by_role("root").size, measure, free + installed, identifiers)
    layout = layout.with_filesystem("root", root)
    machine = start = None
    steps: tuple[Step, ...] = ()
    if bootable is not None:
        machine, start = choose_start(_machine(spec, accelerator, firmware), bootable)
        steps = guest_steps(spec, layout, accelerator.accelerator, contents=contents is not None, scripts=scripts)
    return Plan(
        spec=spec,
        fillings=(_filling(spec, "root", trees["root"], measure),),
        accelerator=accelerator,
        firmware=firmware,
        layout=layout,
        scratch=scratch_filesystem(spec, measure, free + installed, identifiers),
        machine=machine,
        start=start,
        boot_deadline=_BOOT_SECONDS * accelerator.accelerator.time_scale,
        steps=steps,
    )


def make_declared(
    spec: ImageSpec, *, held: Mapping[str, Held], seed: str, accelerator: AcceleratorVerdict, firmware: Firmware | None
) -> Plan:
    """Decide everything about an image of declared partitions, which needs no machine.

    :param held: what goes into each partition, by role.
    :param seed: what identifiers are derived from.
    :raises SpecError: the sizes do not fit.
    """
    layout = declared_layout(spec, seed, held)
    check_disk(spec, layout.size)
    fillings = (_declared_filling(part, held[part.role].tree) for part in layout.partitions)
    return Plan(
        spec=spec,
        fillings=tuple(filling for filling in fillings if filling is not None),
        accelerator=accelerator,
        firmware=firmware,
        layout=layout,
        scratch=None,
        machine=None,
        start=None,
        boot_deadline=0.0,
        steps=(),
    )


def make_install(
    spec: ImageSpec, install: InstallSpec, *, accelerator: AcceleratorVerdict, firmware: Firmware | None
) -> Plan:
    """Decide everything about a driven install, whose disk is empty and is divided by the installer.

    :raises SpecError: the disk is too large for its format.
    """
    assert spec.size is not None
    check_disk(spec, spec.size)
    scale = accelerator.accelerator.time_scale
    kernel = None
    if install.kernel is not None and install.initrd is not None:
        kernel = DirectKernel(image=install.kernel, initrd=install.initrd, command_line=install.kernel_parameters)
    return Plan(
        spec=spec,
        fillings=(),
        accelerator=accelerator,
        firmware=firmware,
        layout=Layout(scheme=Scheme.NONE, size=spec.size, partitions=()),
        scratch=None,
        machine=MachineSpec(
            accelerator=accelerator.accelerator,
            memory=spec.guest.memory,
            cpu="max",
            firmware=firmware,
            kernel=kernel,
            display=install.display,
        ),
        start=None,
        boot_deadline=0.0,
        steps=(),
        dialogue=tuple(evolve(entry, deadline=entry.deadline * scale) for entry in install.dialogue),
    )


def _machine(spec: ImageSpec, accelerator: AcceleratorVerdict, firmware: Firmware | None) -> MachineSpec:
    return MachineSpec(
        accelerator=accelerator.accelerator,
        memory=spec.guest.memory,
        firmware=appliance_firmware(spec, firmware),
        root_ports=_ROOT_PORTS,
        command_console=True,
        terminal=True,
    )


def _filling(spec: ImageSpec, role: str, tree: StagedTree, measure: TreeMeasure) -> Filling:
    population = _population(spec, tree.huge_directories)
    return Filling(role=role, tree=tree.identity, measure=measure, population=population)


def _declared_filling(part: Partition, tree: StagedTree | None) -> Filling | None:
    if tree is None:
        return None
    way = "mtools on the host" if isinstance(part.filesystem, Fat) else "mke2fs on the host"
    if tree.huge_directories and not isinstance(part.filesystem, Fat):
        way += ", huge directories joined"
    population = Population(way=way, reason="declared partitions are made without a machine")
    return Filling(role=part.role, tree=tree.identity, measure=tree.measure, population=population)


def _population(spec: ImageSpec, huge_directories: int) -> Population:
    way = "mke2fs on the host"
    reason = "no guest and no second copy; owners are set in the image's inodes"
    if huge_directories:
        way += ", huge directories joined"
        copied = (
            "; the source was copied into the cache for that" if isinstance(spec.root.source, DirectorySource) else ""
        )
        reason = (
            f"mke2fs's time grows with the square of a directory's entries: those of huge directories "
            f"({huge_directories} here) are laid in chunks and joined in the image{copied}"
        )
    if kind_of(spec).made_in_guest:
        kind = kind_of(spec)
        how, why = f"{kind.programs[0]}", "is packed when everything is in it"
        if not kind.read_only:
            how, why = "tar", "is written by a kernel"
        way += f", then {how} in the guest"
        reason += f"; {kind.name} {why}"
    return Population(way=way, reason=reason)
