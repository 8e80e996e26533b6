"""The choice of firmware: a pure function over what was read, with a sentence for each refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from vmharness.errors import HostError, SpecError
from vmharness.model.firmware import Descriptor, FlashFile, Target
from vmharness.model.image import AutoFirmware, DescriptorFirmware, FirmwareFiles, SecureBootFirmware
from vmharness.plan.firmware import check_pair, judge, select

AUTO = AutoFirmware()
CODE_4M = FlashFile(path=Path("/fw/CODE_4M.fd"), size=3_653_632)
CODE_2M = FlashFile(path=Path("/fw/CODE.fd"), size=1_966_080)
STORE_4M = FlashFile(path=Path("/fw/VARS_4M.fd"), size=540_672, is_variable_store=True)
STORE_2M = FlashFile(path=Path("/fw/VARS.fd"), size=131_072, is_variable_store=True)
PLAIN = Descriptor(
    path=Path("/fw/60-plain.json"),
    description="plain",
    interfaces=("uefi",),
    device="flash",
    code=CODE_4M,
    template=STORE_4M,
    targets=(Target(architecture="x86_64", machines=("pc-i440fx-*", "pc-q35-*")),),
    features=("acpi-s3", "verbose-dynamic"),
)
SECURE = evolve(PLAIN, path=Path("/fw/50-secure.json"), features=("requires-smm", "secure-boot"))
ENROLLED = evolve(PLAIN, path=Path("/fw/40-enrolled.json"), features=("enrolled-keys", "requires-smm"))


def test_the_first_that_fits_is_taken() -> None:
    """Order counts; a Secure Boot build before it is passed over."""
    other = evolve(PLAIN, path=Path("/fw/70-other.json"), code=CODE_2M, template=STORE_2M)
    firmware = select(AUTO, [ENROLLED, SECURE, PLAIN, other])
    assert (firmware.code, firmware.template) == (CODE_4M.path, STORE_4M.path)
    assert firmware.descriptor == PLAIN.path
    assert firmware.features == PLAIN.features
    assert select(AUTO, [other, PLAIN]).code == CODE_2M.path


@pytest.mark.parametrize(
    ("descriptor", "words"),
    [
        (evolve(PLAIN, problem="it is not JSON"), "it is not JSON"),
        (evolve(PLAIN, interfaces=("bios",)), "not UEFI but bios"),
        (evolve(PLAIN, targets=(Target(architecture="aarch64", machines=("virt-*",)),)), "aarch64, not for x86_64"),
        (evolve(PLAIN, targets=(Target(architecture="x86_64", machines=("microvm",)),)), "microvm, not for q35"),
        (evolve(PLAIN, device="memory", code=None, template=None), "mapped as memory"),
        (evolve(PLAIN, mode="stateless", template=None), "no variable store of its own"),
        (evolve(PLAIN, mode="combined"), "no variable store of its own"),
        (ENROLLED, "enrolled keys"),
        (SECURE, "System Management Mode"),
        (evolve(PLAIN, code=evolve(CODE_4M, size=None)), "CODE_4M.fd is not there"),
        (evolve(PLAIN, template=evolve(STORE_4M, size=None)), "VARS_4M.fd is not there"),
        (evolve(PLAIN, code=evolve(CODE_4M, format="qcow2")), "format qcow2"),
        (evolve(PLAIN, template=evolve(STORE_4M, is_variable_store=False)), "VARS_4M.fd is not an EFI variable store"),
        (evolve(PLAIN, code=evolve(STORE_4M)), "is a variable store, not a code image"),
        (evolve(PLAIN, template=STORE_2M), "131,072 bytes, but the code image /fw/CODE_4M.fd needs one of 540,672"),
        (evolve(PLAIN, code=CODE_2M), "540,672 bytes, but the code image /fw/CODE.fd needs one of 131,072"),
        (evolve(PLAIN, code=evolve(CODE_4M, size=4_194_304)), "in one file"),
        (evolve(PLAIN, code=evolve(CODE_4M, size=1000)), "1,000 bytes, which is no OVMF code image"),
    ],
)
def test_each_refusal_has_its_sentence(descriptor: Descriptor, words: str) -> None:
    """What does not fit is refused for its own reason."""
    verdict = judge(AUTO, descriptor)
    assert verdict.firmware is None
    assert words in verdict.refusal


def test_nothing_that_fits_lists_every_refusal() -> None:
    """The error names each descriptor with its reason, and what to install."""
    with pytest.raises(HostError) as refusal:
        select(AUTO, [ENROLLED, SECURE])
    text = str(refusal.value)
    assert "/fw/40-enrolled.json: it enforces Secure Boot" in text
    assert "/fw/50-secure.json: it needs System Management Mode" in text
    assert "ovmf" in text
    with pytest.raises(HostError, match="no firmware descriptors"):
        select(AUTO, [])


def test_secure_boot_asked_for_takes_the_one_without_keys() -> None:
    """Asked for Secure Boot, firmware that has it is taken, but neither one without nor one with somebody's keys."""
    enrolled = evolve(ENROLLED, features=(*ENROLLED.features, "secure-boot"))
    assert select(SecureBootFirmware(), [PLAIN, enrolled, SECURE]).descriptor == SECURE.path
    with pytest.raises(HostError, match="no UEFI firmware with Secure Boot fits") as caught:
        select(SecureBootFirmware(), [PLAIN, enrolled])
    assert "it has no Secure Boot" in str(caught.value)
    assert "it has keys enrolled already" in str(caught.value)


def test_a_pair_must_fit() -> None:
    """A 4M code image with a 2M store, or a store in place of the code, is refused before a machine has them."""
    check_pair(CODE_4M, STORE_4M)
    with pytest.raises(SpecError, match=r"has 131,072 bytes, but the code image .* needs one of 540,672"):
        check_pair(CODE_4M, STORE_2M)
    with pytest.raises(SpecError, match="is a variable store, not a code image"):
        check_pair(STORE_4M, STORE_4M)
    with pytest.raises(SpecError, match="is not an EFI variable store"):
        check_pair(CODE_4M, evolve(STORE_4M, is_variable_store=False))


def test_a_named_descriptor_may_be_a_secure_boot_build() -> None:
    """What the user names is taken with its features, which the machine follows."""
    assert SECURE.path is not None
    firmware = select(DescriptorFirmware(path=SECURE.path), [SECURE])
    assert firmware.needs_smm


def test_a_named_descriptor_that_does_not_fit_is_the_users_error() -> None:
    """The refusal carries the definition's file and key."""
    choice = DescriptorFirmware(path=Path("/fw/bios.json"))
    with pytest.raises(SpecError, match=r"image\.toml: efi\.firmware: the descriptor /fw/bios\.json: it is not UEFI"):
        select(choice, [evolve(PLAIN, path=choice.path, interfaces=("bios",))], origin="image.toml")


def test_files_given_by_path_need_only_to_fit_each_other() -> None:
    """No descriptor is asked for; a store of another size class is refused before anything starts."""
    choice = FirmwareFiles(code=CODE_4M.path, variables=STORE_4M.path)
    firmware = select(choice, [Descriptor(path=None, code=CODE_4M, template=STORE_4M)])
    assert (firmware.code, firmware.template, firmware.descriptor) == (CODE_4M.path, STORE_4M.path, None)
    with pytest.raises(SpecError, match="needs one of 540,672"):
        select(choice, [Descriptor(path=None, code=CODE_4M, template=STORE_2M)])
    with pytest.raises(SpecError, match="not there"):
        select(choice, [Descriptor(path=None, code=CODE_4M, template=evolve(STORE_4M, size=None))])
