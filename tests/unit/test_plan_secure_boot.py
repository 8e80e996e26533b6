"""Definitions of signed images: what goes together, and what would be signed in vain."""

from pathlib import Path

import pytest
from attrs import evolve

from vmharness.errors import SpecError
from vmharness.model.bootloader import BOOTLOADERS
from vmharness.model.firmware import Firmware
from vmharness.model.image import DescriptorFirmware, SecureBootFirmware, SecureBootSpec
from vmharness.plan.load import load
from vmharness.plan.secure_boot import check_firmware

DEFINITION = """
[image]
name = "x"
{image}
[root]
source = {{ minimal = true }}
[bootloader]
install = {install}
[efi]
firmware = "secure-boot"
{efi}
[secure-boot]
{keys}
"""
ORIGIN = Path("/d/image.toml")


def definition(install: str = '"systemd-boot"', keys: str = "generate = true", image: str = "", efi: str = "") -> str:
    """A definition of a signed image."""
    return DEFINITION.format(install=install, keys=keys, image=image, efi=efi)


def test_keys_are_given_or_generated() -> None:
    """A folder is relative to the definition; without the table nothing is signed."""
    given = load(definition(keys='keys = "my/keys"'), ORIGIN)
    assert given.secure_boot == SecureBootSpec(keys=Path("/d/my/keys"))
    assert isinstance(given.efi.firmware, SecureBootFirmware)
    generated = load(definition(), ORIGIN)
    assert generated.secure_boot == SecureBootSpec(generate=True)
    assert generated.secure_boot.wanted
    assert not load(definition(keys=""), ORIGIN).secure_boot.wanted


@pytest.mark.parametrize("install", ['"systemd-boot"', '{ efi-binary = "/x.efi" }', '{ command = ["x"] }'])
@pytest.mark.parametrize("table", ["efi", "efixbootldr"])
def test_what_can_be_signed(install: str, table: str) -> None:
    """Loaders that start kernels through the firmware, and unified kernel images, can be signed as they lie there."""
    assert load(definition(install, image=f'partition-table = "{table}"'), ORIGIN).secure_boot.wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (definition('"grub"'), r"bootloader.install: grub does not boot with Secure Boot: it loads .*: systemd-boot"),
        (definition('"refind"'), "refind does not boot with Secure Boot: it starts kernels from the root filesystem"),
        (definition('"none"'), "none does not boot with Secure Boot: it brings nothing"),
        (definition(keys='keys = "a"\ngenerate = true'), "secure-boot: keys are given, or generated, not both"),
        (definition(efi="touch-variables = false"), "efi.touch-variables: without variables"),
        (definition().replace('"secure-boot"', '"auto"'), 'efi.firmware: .* ignores Secure Boot .*"secure-boot"'),
        (definition(keys="generate = 1"), "secure-boot.generate: 1 has the wrong type"),
        (definition(keys="key = 1"), "unknown key 'key'; did you mean 'keys'"),
        (definition(image='partition-table = "legacy"'), 'the table "legacy" has no EFI system partition'),
    ],
)
def test_what_would_be_signed_in_vain_is_refused(text: str, message: str) -> None:
    """Each refusal names the key, and what would work."""
    with pytest.raises(SpecError, match=message):
        load(text, ORIGIN)


def test_declared_partitions_are_not_signed() -> None:
    """Files on declared partitions come signed, or not."""
    text = """
[image]
name = "x"
[[partition]]
type = "esp"
filesystem = "vfat"
size-min = "64M"
[efi]
firmware = "secure-boot"
[secure-boot]
generate = true
"""
    with pytest.raises(SpecError, match="declared partitions are not signed here"):
        load(text, ORIGIN)


def test_named_firmware_must_have_secure_boot() -> None:
    """A descriptor that says that its firmware has no Secure Boot is refused; one that has it is taken."""
    spec = evolve(load(definition(), ORIGIN))
    spec = evolve(spec, efi=evolve(spec.efi, firmware=DescriptorFirmware(path=Path("/fw.json"))))
    plain = Firmware(code=Path("/c"), template=Path("/v"), description="plain OVMF")
    with pytest.raises(SpecError, match="the firmware plain OVMF has no Secure Boot"):
        check_firmware(spec, plain)
    check_firmware(spec, evolve(plain, features=("secure-boot",)))
    check_firmware(evolve(spec, secure_boot=SecureBootSpec()), plain)


def test_every_bootloader_says_whether_it_can_be_signed() -> None:
    """Those that a definition may sign are exactly those that need nothing but signatures."""
    able = {name for name, entry in BOOTLOADERS.items() if not entry.unsigned}
    assert able == {"systemd-boot", "efi-binary", "command"}
