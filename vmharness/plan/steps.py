"""Which steps run in the guest, in what order, with which parameters and deadlines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import assert_never

from vmharness.model.hardware import Accelerator
from vmharness.model.image import CommandInstaller, Grub, ImageSpec, NoBootloader, SystemdBoot
from vmharness.model.partitions import Ext4, Fat, Layout
from vmharness.model.steps import Step

TARGET_DISK = "target"
CONTENTS_DISK = "contents"

_SHORT = 15.0
_INSTALLER = 120.0
_COPY = 300.0


def guest_steps(  # noqa: PLR0913 -- the whole of what decides them
    spec: ImageSpec, layout: Layout, ext4: Ext4, fat: Fat, accelerator: Accelerator, *, contents: bool
) -> tuple[Step, ...]:
    """The steps of one build.

    :param contents: whether there are grafted files.
    """
    esp_path = esp_mount_point(spec)
    numbers = {
        "SERIAL": TARGET_DISK,
        "ROOT_NUMBER": str(layout.by_role("root").number),
        "ESP_NUMBER": str(layout.by_role("esp").number),
    }

    def step(name: str, script: str, seconds: float, parameters: Mapping[str, str]) -> Step:
        return Step(name=name, script=script, parameters=parameters, deadline=seconds * accelerator.time_scale)

    identify = step("identify the target disk", "identify", _SHORT, {**numbers, "ROOT_UUID": str(ext4.uuid)})
    esp_bytes = str(layout.by_role("esp").size)
    volume = {**numbers, "BYTES": esp_bytes, "VOLUME_ID": f"{fat.volume_id:08x}", "LABEL": fat.label}
    steps = [
        identify,
        step("format the EFI system partition", "format-esp", _SHORT, volume),
        step("mount the target", "mount-target", _SHORT, {**numbers, "ESP_PATH": esp_path}),
    ]
    if contents:
        steps.append(step("graft the contents", "graft", _COPY, {"SERIAL": CONTENTS_DISK}))
    bootloader = _bootloader(spec, layout, esp_path)
    if bootloader is not None:
        name, script, parameters = bootloader
        steps.append(step(name, script, _INSTALLER, parameters))
    seal = {"ESP_PATH": esp_path, "MACHINE_ID": spec.root.machine_id.value}
    steps.append(step("remove what machines must not share", "seal", _SHORT, seal))
    steps.append(step("unmount the target", "unmount", _COPY, {}))
    return tuple(steps)


def esp_mount_point(spec: ImageSpec) -> str:
    """Where the target has its ESP: systemd's own place for systemd-boot, the distributions' habit for all others."""
    return "/efi" if isinstance(spec.bootloader.install, SystemdBoot) else "/boot/efi"


def entry_token(spec: ImageSpec) -> str:
    """The name of the boot entries: the image's name as far as firmware and file systems take it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", spec.name).strip("-")[:32] or "linux"


def _bootloader(spec: ImageSpec, layout: Layout, esp_path: str) -> tuple[str, str, dict[str, str]] | None:
    parameters = " ".join(spec.bootloader.kernel_parameters)
    # Without a line for it in the target's fstab nothing makes the root filesystem writable later.
    if not {"rw", "ro"} & set(spec.bootloader.kernel_parameters):
        parameters = f"rw {parameters}".strip()
    common = {
        "ESP_PATH": esp_path,
        "ROOT_ARGUMENT": f"root=PARTUUID={layout.by_role('root').guid}",
        "KERNEL_PARAMETERS": parameters,
        "TOUCH_VARIABLES": "1" if spec.efi.touch_variables else "0",
    }
    match spec.bootloader.install:
        case SystemdBoot():
            names = {"TITLE": spec.bootloader.title or spec.name, "ENTRY_TOKEN": entry_token(spec)}
            return "install systemd-boot", "install-systemd-boot", {**common, **names}
        case Grub():
            return "install GRUB", "install-grub", {**common, "ENTRY_TOKEN": entry_token(spec)}
        case CommandInstaller(argv=argv):
            return (
                "run the bootloader command",
                "install-command",
                {
                    **common,
                    "COMMAND": shlex.join(argv),
                    "SERIAL": TARGET_DISK,
                },
            )
        case NoBootloader():
            return None
        case unknown:
            assert_never(unknown)
