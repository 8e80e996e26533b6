"""Which steps run in the guest, in what order, with which parameters and deadlines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from vmharness.model.bootloader import BOOTLOADERS, NO_BOOTLOADER, Argument
from vmharness.model.hardware import Accelerator
from vmharness.model.image import ImageSpec
from vmharness.model.partitions import (
    Btrfs,
    Ext4,
    Fat,
    Filesystem,
    GuestMade,
    Layout,
    Partition,
    ReadOnly,
    label_of,
    uuid_of,
)
from vmharness.model.run_steps import When
from vmharness.model.steps import Step, StepFile
from vmharness.plan import step_names as names
from vmharness.plan.run_steps import declared_steps

TARGET_DISK = "target"
CONTENTS_DISK = "contents"
TREE_DISK = "tree"

_SHORT = 15.0
_INSTALLER = 120.0
_COPY = 300.0
_PACK = 1200.0


def guest_steps(
    spec: ImageSpec, layout: Layout, accelerator: Accelerator, *, contents: bool, scripts: Mapping[str, StepFile]
) -> tuple[Step, ...]:
    """The steps of one build.

    :param layout: with its filesystems.
    :param contents: whether there are grafted files.
    :param scripts: those of the steps that the definition declares, by the steps' names.
    """

    def step(name: str, script: str, seconds: float, parameters: Mapping[str, str], *, foreign: bool = False) -> Step:
        scaled = seconds * accelerator.time_scale
        return Step(name=name, script=script, parameters=parameters, foreign=foreign, deadline=scaled)

    def declared(when: When) -> list[Step]:
        return declared_steps(spec, when, scripts, _install(spec, layout), accelerator.time_scale)

    fats = [part for part in layout.partitions if isinstance(part.filesystem, Fat)]
    root = layout.by_role("root").filesystem
    steps = [step(names.IDENTIFY, "identify", _SHORT, _identify(spec, layout))]
    if isinstance(root, GuestMade) and not isinstance(root, ReadOnly):
        steps.append(step(names.MAKE_ROOT, "format-root", _COPY, _root(layout)))
        steps.append(step(names.COPY_TREE, "copy-tree", _COPY, _root(layout)))
    steps += [step(names.FORMAT[part.role], "format-fat", _SHORT, _format(part)) for part in fats]
    steps.append(step(names.MOUNT, "mount-target", _COPY, _mount(spec, layout)))
    if contents:
        steps.append(step(names.GRAFT, "graft", _COPY, {"SERIAL": CONTENTS_DISK}))
    steps += declared(When.BEFORE_BOOTLOADER)
    bootloader = BOOTLOADERS[spec.bootloader.install.name]
    if bootloader.name != NO_BOOTLOADER:
        install = f"install-{bootloader.name}"
        steps.append(step(bootloader.step, install, _INSTALLER, _install(spec, layout), foreign=True))
    steps += declared(When.AFTER_BOOTLOADER)
    places = {"ESP_PATH": esp_mount_point(spec), "BOOT_PATH": _boot_path(spec)}
    seal = {**places, "MACHINE_ID": spec.root.machine_id.value}
    steps.append(step(names.SEAL, "seal", _SHORT, seal))
    steps.append(step(names.UNMOUNT, "unmount", _COPY, {}))
    if isinstance(root, ReadOnly):
        steps.append(step(names.PACK_ROOT, "pack-root", _PACK, _root(layout)))
    if isinstance(root, GuestMade):
        steps.append(step(names.CHECK_ROOT, "check-root", _COPY, _root(layout)))
    return tuple(steps)


def esp_mount_point(spec: ImageSpec) -> str:
    """Where the target has its ESP, as its bootloader wants it; empty if there is none."""
    if not spec.partition_table.has_esp:
        return ""
    wanted = BOOTLOADERS[spec.bootloader.install.name].esp_path
    return "/efi" if wanted == _boot_path(spec) else wanted


def entry_token(spec: ImageSpec) -> str:
    """The name of the boot entries: the image's name as far as firmware and file systems take it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", spec.name).strip("-")[:32] or "linux"


def _identify(spec: ImageSpec, layout: Layout) -> dict[str, str]:
    root = layout.by_role("root")
    return {
        "SERIAL": TARGET_DISK,
        "PARTITIONS": " ".join(str(part.number) for part in layout.partitions if part.number),
        "ROOT_NUMBER": _number(root),
        "ROOT_UUID": _uuid(root.filesystem) if isinstance(root.filesystem, Ext4) else "",
        "ALIAS": spec.bootloader.device,
    }


def _root(layout: Layout) -> dict[str, str]:
    """What the scripts need that make and fill the root filesystem in the guest."""
    root = layout.by_role("root")
    filesystem = root.filesystem
    assert isinstance(filesystem, GuestMade)
    compression = filesystem.compression if isinstance(filesystem, Btrfs | ReadOnly) else "none"
    return {
        "SERIAL": TARGET_DISK,
        "PARTITION": _number(root),
        "TREE_SERIAL": TREE_DISK,
        "FILESYSTEM": _type(filesystem),
        "UUID": _uuid(filesystem),
        "LABEL": label_of(filesystem) or "",
        "OPTIONS": shlex.join(filesystem.options),
        "COMPRESSION": "" if compression == "none" else compression,
        "MOUNT_OPTIONS": _mount_options(filesystem),
        "SUBVOLUMES": _subvolumes(filesystem),
    }


def _format(part: Partition) -> dict[str, str]:
    assert isinstance(part.filesystem, Fat)
    return {
        "SERIAL": TARGET_DISK,
        "PARTITION": _number(part),
        "BYTES": str(part.size),
        "VOLUME_ID": f"{part.filesystem.volume_id:08x}",
        "LABEL": part.filesystem.label,
    }


def _mount(spec: ImageSpec, layout: Layout) -> dict[str, str]:
    return {
        "SERIAL": TARGET_DISK,
        **_mounted_root(layout.by_role("root")),
        "BOOT_NUMBER": _number(layout.find("boot")),
        "ESP_NUMBER": _number(layout.find("esp")),
        "ESP_PATH": esp_mount_point(spec),
    }


def _mounted_root(part: Partition) -> dict[str, str]:
    """What is mounted as the target's root: the partition, or the tree's own disk where the root is packed later."""
    assert part.filesystem is not None
    if isinstance(part.filesystem, ReadOnly):
        return {
            "ROOT_SERIAL": TREE_DISK,
            "ROOT_NUMBER": "",
            "ROOT_TYPE": "ext4",
            "ROOT_OPTIONS": "",
            "SUBVOLUMES": "",
            # installers may look for the identifier that the root filesystem is going to have
            "FUTURE_UUID": _uuid(part.filesystem),
            "FUTURE_NUMBER": _number(part),
        }
    return {
        "ROOT_SERIAL": TARGET_DISK,
        "ROOT_NUMBER": _number(part),
        "ROOT_TYPE": _type(part.filesystem),
        "ROOT_OPTIONS": _mount_options(part.filesystem),
        "SUBVOLUMES": _subvolumes(part.filesystem),
        "FUTURE_UUID": "",
        "FUTURE_NUMBER": "",
    }


def _mount_options(filesystem: Filesystem) -> str:
    if isinstance(filesystem, Btrfs) and filesystem.compression != "none":
        return f"compress={filesystem.compression}"
    return ""


def _subvolumes(filesystem: Filesystem) -> str:
    """Words NAME=PATH, in the order in which they are mounted."""
    subvolumes = filesystem.subvolumes if isinstance(filesystem, Btrfs) else ()
    return " ".join(f"{subvolume.name}={subvolume.path}" for subvolume in subvolumes)


def _install(spec: ImageSpec, layout: Layout) -> dict[str, str]:
    """What every installer's script is told."""
    kernel_parameters = spec.bootloader.kernel_parameters
    root = layout.by_role("root")
    filesystem = root.filesystem
    # Without a line for it in the target's fstab nothing makes the root filesystem writable later.
    access = "ro" if isinstance(filesystem, ReadOnly) else "rw"
    first = [] if {"rw", "ro"} & set(kernel_parameters) else [access]
    if isinstance(filesystem, GuestMade):
        # an initramfs loads the module by this word
        first.append(f"rootfstype={_type(filesystem)}")
    partuuid = layout.partuuid(root)
    table = spec.partition_table
    return {
        "SERIAL": TARGET_DISK,
        "ALIAS": spec.bootloader.device,
        "FIRMWARES": " ".join([*(["bios"] if table.boots_bios else []), *(["efi"] if table.has_esp else [])]),
        "ESP_PATH": esp_mount_point(spec),
        "ESP_NUMBER": _number(layout.find("esp")),
        "BOOT_PATH": _boot_path(spec),
        "ROOT_ARGUMENT": f"root=PARTUUID={partuuid}" if partuuid else f"root=UUID={_uuid(root.filesystem)}",
        "KERNEL_PARAMETERS": " ".join([*first, *kernel_parameters]),
        "TITLE": spec.bootloader.title or spec.name,
        "ENTRY_TOKEN": entry_token(spec),
        "TOUCH_VARIABLES": "1" if spec.efi.touch_variables else "0",
        **_argument(spec),
    }


def _argument(spec: ImageSpec) -> dict[str, str]:
    install = spec.bootloader.install
    match BOOTLOADERS[install.name].argument:
        case Argument.NOTHING:
            return {}
        case Argument.PATH:
            return {"ARGUMENT": install.arguments[0]}
        case Argument.COMMAND:
            return {"COMMAND": shlex.join(install.arguments)}


def _boot_path(spec: ImageSpec) -> str:
    return "/boot" if spec.partition_table.has_boot else ""


def _number(part: Partition | None) -> str:
    """A partition's number for the scripts: empty for the whole disk, and where there is no such partition."""
    return str(part.number) if part is not None and part.number else ""


def _type(filesystem: Filesystem | None) -> str:
    """What ``mount`` calls it."""
    assert filesystem is not None
    return type(filesystem).__name__.lower()


def _uuid(filesystem: Filesystem | None) -> str:
    """A filesystem's UUID as text; empty where its kind has none."""
    assert filesystem is not None
    return str(uuid_of(filesystem) or "")
