"""What an image that is signed for Secure Boot must hold to."""

from __future__ import annotations

from vmharness.errors import SpecError
from vmharness.model.bootloader import BOOTLOADERS
from vmharness.model.firmware import Firmware
from vmharness.model.image import AutoFirmware, DescriptorFirmware, ImageSpec, PartitionTable


def check_secure_boot(spec: ImageSpec) -> None:
    """Refuse what would be signed in vain.

    :raises SpecError: naming the key, and what is allowed.
    """
    asked = spec.secure_boot
    if not asked.wanted:
        return
    origin = str(spec.origin)
    if asked.keys is not None and asked.generate:
        raise SpecError("keys are given, or generated, not both", origin=origin, key="secure-boot")
    if spec.partition_table is PartitionTable.DECLARED:
        raise SpecError(
            "declared partitions are not signed here: give them files that are signed", origin=origin, key="secure-boot"
        )
    if not spec.efi.touch_variables:
        raise SpecError(
            "without variables there is nothing to enroll keys in",
            origin=origin,
            key="efi.touch-variables",
            allowed="true, with a partition table that has an EFI system partition",
        )
    if isinstance(spec.efi.firmware, AutoFirmware):
        raise SpecError(
            "the firmware that is taken by itself ignores Secure Boot",
            origin=origin,
            key="efi.firmware",
            allowed='"secure-boot", or one that is named',
        )
    bootloader = BOOTLOADERS[spec.bootloader.install.name]
    if bootloader.unsigned:
        able = " | ".join(name for name, entry in BOOTLOADERS.items() if not entry.unsigned)
        raise SpecError(
            f"{bootloader.name} does not boot with Secure Boot: it {bootloader.unsigned}",
            origin=origin,
            key="bootloader.install",
            allowed=able,
        )


def check_firmware(spec: ImageSpec, firmware: Firmware | None) -> None:
    """Refuse firmware that was named and says that it has no Secure Boot; of two plain files nobody knows.

    :raises SpecError: with what is allowed.
    """
    if not spec.secure_boot.wanted or not isinstance(spec.efi.firmware, DescriptorFirmware) or firmware is None:
        return
    if "secure-boot" not in firmware.features:
        raise SpecError(
            f"the firmware {firmware.description} has no Secure Boot",
            origin=str(spec.origin),
            key="efi.firmware",
            allowed='"secure-boot", or a descriptor with the feature secure-boot',
        )
