"""The manifest: what was built, from what, with what, and every digest. ``manifest.json`` lies beside the image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import field, frozen

from vmharness.model import serial
from vmharness.model.image import Format
from vmharness.model.partitions import Layout
from vmharness.model.variable_records import VariableRecord

MANIFEST_NAME = "manifest.json"
SCHEMA = 3

INSTALLER = "by the installer"
"""What stands for the bootloader of an image that an installer made."""


@frozen(kw_only=True)
class OutputFile:
    """A published file.

    :param role: ``image``, ``efi-variables``, ``transcript``, ``secure-boot-key`` and ``secure-boot-certificate`` for
        test keys that were made, or ``extra`` for what a hook left beside them.
    :param name: its name in the output folder.
    :param size: bytes.
    """

    role: str
    name: str
    size: int
    sha256: str


@frozen(kw_only=True)
class SourceFile:
    """A file of the host that the build used: its path there, and its digest."""

    path: Path
    sha256: str


@frozen(kw_only=True)
class FirmwareIdentity:
    """The firmware that the variable store belongs to; ``features`` are its descriptor's, such as ``requires-smm``."""

    description: str
    code: SourceFile
    template: SourceFile
    features: tuple[str, ...] = ()


@frozen(kw_only=True)
class SignedFile:
    """A file that was signed for Secure Boot.

    :param partition: its role: ``esp`` or ``boot``.
    :param path: on that partition.
    :param digest: its Authenticode digest, by which ``dbx`` would revoke it.
    :param certificate: subject of the certificate that it was signed with.
    :param fingerprint: SHA-256 of that certificate.
    """

    partition: str
    path: str
    digest: str
    certificate: str
    fingerprint: str


@frozen(kw_only=True)
class StepTime:
    """How long a step took."""

    step: str
    seconds: float


def _by_name(tools: dict[str, str]) -> dict[str, str]:
    return dict(sorted(tools.items()))


@frozen(kw_only=True)
class Manifest:
    """One build.

    :param schema: version of this format.
    :param vmharness: version of the program.
    :param name: the image's name.
    :param inputs: content id of everything that decided what was built.
    :param definition: the image definition.
    :param seed: what the identifiers were derived from.
    :param table: the partition table, with the filesystems.
    :param variables: the EFI variables as published, or None when they were not touched.
    :param firmware: the firmware that it was made for, or None where no UEFI boots from it.
    :param signed: what was signed for Secure Boot.
    :param bootloader: its name, as the definition has it; :data:`INSTALLER` where an installer made the image.
    :param media: what that installer was started from, and its dialogue where that is a file.
    :param kernel: version of the appliance's kernel, or None if no machine was needed.
    :param accelerator: ``kvm`` or ``tcg``.
    :param tools: versions of the programs used, by name.
    :param steps: in the order in which they ran.
    :param repaired: whether the build was ended by hand, in a session.
    :param repairs: what was done there, as lines: edited scripts as differences, files put in, what shells showed.
    """

    schema: int = SCHEMA
    vmharness: str
    name: str
    inputs: str
    definition: SourceFile
    seed: str
    format: Format
    files: tuple[OutputFile, ...]
    table: Layout
    variables: tuple[VariableRecord, ...] | None
    firmware: FirmwareIdentity | None
    bootloader: str
    kernel: str | None
    accelerator: str
    tools: dict[str, str] = field(converter=_by_name)
    steps: tuple[StepTime, ...]
    signed: tuple[SignedFile, ...] = ()
    media: tuple[SourceFile, ...] = ()
    repaired: bool = False
    repairs: tuple[str, ...] = ()

    def file(self, role: str) -> OutputFile | None:
        """The published file of that role, or None."""
        return next((item for item in self.files if item.role == role), None)


def to_json(manifest: Manifest) -> str:
    """The manifest as text: keys in a fixed order, one field a line, a final newline."""
    return json.dumps(to_data(manifest), indent=2, ensure_ascii=True) + "\n"


def to_data(value: Any) -> Any:
    """Any value of the manifest as JSON data: keys are the fields' names, in their order."""
    return _CONVERTER.unstructure(value)


def from_json(text: str) -> Manifest:
    """The manifest that ``text`` holds.

    :raises ValueError: with a sentence, if it is no manifest of this format.
    """
    data = serial.document(text, what="a manifest", schema=SCHEMA)
    return serial.structured(data, Manifest, _CONVERTER)


_CONVERTER = serial.make_converter()
