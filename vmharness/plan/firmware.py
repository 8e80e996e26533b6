"""Which firmware a machine gets, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from vmharness.errors import HostError, SpecError
from vmharness.model.firmware import Descriptor, Firmware, FirmwareVerdict, FlashFile
from vmharness.model.image import AutoFirmware, FirmwareChoice, FirmwareFiles, SecureBootFirmware
from vmharness.model.sizes import MIB

_MACHINE = "pc-q35-*"
"""Our machine type, whatever its version: descriptors name it with this pattern."""

_FLASH_SIZES = (2 * MIB, 4 * MIB)
"""What code image and variable store fill together (OVMF's FD_SIZE_2MB and FD_SIZE_4MB layouts)."""

_STORE_SIZES = {2 * MIB: 131_072, 4 * MIB: 540_672}
"""Size of the variable store in each layout."""


def select(choice: FirmwareChoice, descriptors: Iterable[Descriptor], *, origin: str = "") -> Firmware:
    """The firmware for ``choice``.

    :param descriptors: those that the choice leaves, in order of preference (``host.descriptors.for_choice``).
    :param origin: the definition file, for errors about what the user named.
    :raises HostError: none of the host's firmwares fits; each refusal is listed.
    :raises SpecError: the one that the user named does not fit.
    """
    verdicts = judge_all(choice, descriptors)
    for verdict in verdicts:
        if verdict.firmware is not None:
            return verdict.firmware
    if isinstance(choice, AutoFirmware | SecureBootFirmware):
        which = "with Secure Boot " if isinstance(choice, SecureBootFirmware) else ""
        refusals = "".join(f"\n  {verdict.descriptor}: {verdict.refusal}" for verdict in verdicts)
        raise HostError(
            f"no UEFI firmware {which}fits{refusals or ': the host has no firmware descriptors'}",
            hint="install OVMF (Debian and Ubuntu: ovmf), or name the two files in the definition's efi.firmware",
        )
    named = "" if isinstance(choice, FirmwareFiles) else f"the descriptor {choice.path}: "
    raise SpecError(
        f"{named}{'; '.join(verdict.refusal for verdict in verdicts)}",
        hint="`vmharness doctor` lists the firmware of this host",
        origin=origin,
        key="efi.firmware",
    )


def check_pair(code: FlashFile, store: FlashFile) -> None:
    """Refuse a code image and a variable store that do not belong together, before a machine is started with them.

    :raises SpecError: naming both, and what would fit. Such a machine boots and silently keeps no variable, or hangs.
    """
    refusal = _refuse_files(code, store)
    if refusal:
        raise SpecError(refusal, hint="give the machine a store made from this firmware's own template")


def judge_all(choice: FirmwareChoice, descriptors: Iterable[Descriptor]) -> tuple[FirmwareVerdict, ...]:
    """A verdict for each descriptor."""
    return tuple(judge(choice, descriptor) for descriptor in descriptors)


def judge(choice: FirmwareChoice, descriptor: Descriptor) -> FirmwareVerdict:
    """Whether ``descriptor`` fits ``choice``; a refusal says the first thing that is in the way."""
    refusal = descriptor.problem
    if not refusal and not isinstance(choice, FirmwareFiles):
        refusal = _refuse_kind(descriptor)
    if not refusal and isinstance(choice, AutoFirmware):
        refusal = _refuse_features(descriptor.features)
    if not refusal and isinstance(choice, SecureBootFirmware):
        refusal = _refuse_without_secure_boot(descriptor.features)
    if not refusal:
        refusal = _refuse_files(descriptor.code, descriptor.template)
    firmware = None
    if not refusal:
        assert descriptor.code is not None and descriptor.template is not None
        firmware = Firmware(
            code=descriptor.code.path,
            template=descriptor.template.path,
            features=descriptor.features,
            descriptor=descriptor.path,
            description=descriptor.description,
        )
    return FirmwareVerdict(
        descriptor=descriptor.path, description=descriptor.description, refusal=refusal, firmware=firmware
    )


def _refuse_kind(descriptor: Descriptor) -> str:
    """What the descriptor itself rules out."""
    if "uefi" not in descriptor.interfaces:
        return f"it is not UEFI but {', '.join(descriptor.interfaces) or 'nothing'}"
    machines = [
        machine for target in descriptor.targets if target.architecture == "x86_64" for machine in target.machines
    ]
    if not machines:
        architectures = ", ".join(target.architecture for target in descriptor.targets) or "nothing"
        return f"it is for {architectures}, not for x86_64"
    if not any(fnmatchcase(_MACHINE, pattern) for pattern in machines):
        return f"it is for the machines {', '.join(machines)}, not for q35"
    if descriptor.device != "flash":
        return f"it is mapped as {descriptor.device}, not as flash"
    if descriptor.mode != "split" or descriptor.template is None:
        return "it has no variable store of its own file"
    return ""


def _refuse_features(features: tuple[str, ...]) -> str:
    """What nobody wants without having asked for it."""
    if "enrolled-keys" in features:
        return "it enforces Secure Boot with enrolled keys, which is taken only when named"
    if "requires-smm" in features:
        return "it needs System Management Mode (Secure Boot build), which is taken only when named"
    return ""


def _refuse_without_secure_boot(features: tuple[str, ...]) -> str:
    """What cannot enforce Secure Boot, or would do it with somebody's keys."""
    if "secure-boot" not in features:
        return "it has no Secure Boot"
    if "enrolled-keys" in features:
        return "it has keys enrolled already, and is taken only when named"
    return ""


def _refuse_files(code: FlashFile | None, template: FlashFile | None) -> str:
    """What the files on the disk rule out."""
    if code is None or template is None:
        return "it names no code image or no variable store"
    for file in (code, template):
        if file.size is None:
            return f"{file.path} is not there or cannot be read"
        if file.format != "raw":
            return f"{file.path} has the format {file.format}; only raw files are used"
    if code.is_variable_store:
        return f"{code.path} is a variable store, not a code image"
    if not template.is_variable_store:
        return f"{template.path} is not an EFI variable store"
    return _refuse_sizes(code, template)


def _refuse_sizes(code: FlashFile, template: FlashFile) -> str:
    """Code image and store of different layouts boot, and silently never keep a variable, or hang."""
    assert code.size is not None and template.size is not None
    if code.size + template.size in _FLASH_SIZES:
        return ""
    if code.size in _FLASH_SIZES:
        return f"{code.path} is code image and variable store in one file; take the code image alone (OVMF_CODE*)"
    wanted = next((size for flash, size in _STORE_SIZES.items() if code.size + size == flash), None)
    if wanted is None:
        return f"{code.path} has {code.size:,} bytes, which is no OVMF code image of the 2M or 4M layout"
    return (
        f"the variable store {template.path} has {template.size:,} bytes, but the code image {code.path} "
        f"needs one of {wanted:,}"
    )
