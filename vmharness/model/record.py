"""The record of a build that was stopped: what is needed to go on from where it stood. ``record.json`` in its folder.

A record may come from a stranger with a failure bundle: what is read is bounded, and its texts are made harmless.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import Attribute, field, frozen

from vmharness.model import serial
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, AcceleratorVerdict
from vmharness.model.manifest import FirmwareIdentity, SignedFile, SourceFile, StepTime
from vmharness.model.text import harmless

RECORD_NAME = "record.json"
SCHEMA = 1
"""Another number wherever a guest that was saved before would not understand this vmharness."""

_NONCE = re.compile(r"[0-9a-f]{8,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FEATURE = re.compile(r"[a-z0-9-]{1,64}")
_MOST_LINES = 1000


@frozen(kw_only=True)
class ProgramIdentity:
    """A program: its version, and the SHA-256 of its file."""

    version: str
    sha256: str


@frozen(kw_only=True)
class ProcessorIdentity:
    """A processor as guests under KVM see it: its model's name, and the SHA-256 of what it says that it can do."""

    name: str
    sha256: str


def _lines(text: str) -> str:
    return "\n".join(harmless(line) for line in text.split("\n"))


def _harmless(text: str | None) -> str | None:
    return None if text is None else harmless(text)


def _all_harmless(lines: Any) -> tuple[str, ...]:
    return tuple(harmless(line) for line in lines)


@frozen(kw_only=True)
class Failure:
    """How a build failed. Its texts come from the guest and are made harmless.

    :param step: the part of the build that failed, as a person reads it.
    :param index: its number among the plan's steps, from 0; None for a part that the host does.
    :param sentence: what went wrong.
    :param status: exit status of the step's script, where that is what went wrong.
    :param last_lines: the last lines that the step wrote.
    :param kernel_line: the first line of the guest's console that looks like trouble.
    :param hint: what can be done.
    """

    step: str = field(converter=harmless)
    index: int | None = None
    sentence: str = field(converter=_lines)
    status: int | None = None
    last_lines: tuple[str, ...] = field(default=(), converter=_all_harmless)
    kernel_line: str | None = field(default=None, converter=_harmless)
    hint: str | None = field(default=None, converter=_harmless)


def check_name(_instance: object, _attribute: Attribute[str], name: str) -> None:
    """A validator: the name of an image, which files and folders are called after."""
    if not name or "/" in name or name.startswith(".") or not name.isprintable() or len(name) > 255:
        raise ValueError(f"{name[:40]!r} cannot be a file name")


def _check_nonce(_record: object, _attribute: Attribute[str], nonce: str) -> None:
    if _NONCE.fullmatch(nonce) is None:
        raise ValueError("the nonce is no hexadecimal number")


def _check_firmware(_record: object, _attribute: Attribute[Any], firmware: FirmwareIdentity | None) -> None:
    if firmware is None:
        return
    if not all(_DIGEST.fullmatch(file.sha256) for file in (firmware.code, firmware.template)):
        raise ValueError("the firmware has no digest")
    if not all(_FEATURE.fullmatch(feature) for feature in firmware.features):
        raise ValueError("the firmware has a feature that no firmware has")


def _check_failure(_record: object, _attribute: Attribute[Any], failure: Failure | None) -> None:
    if failure is not None and (len(failure.last_lines) > _MOST_LINES or (failure.index or 0) < 0):
        raise ValueError("the failure is none that a build can have")


@frozen(kw_only=True)
class Record:
    """One build that was stopped, beyond its plan and its definition.

    :param schema: version of this format.
    :param vmharness: version of the program.
    :param name: the image's name.
    :param inputs: content id of everything that decided what is built.
    :param seed: what the identifiers were derived from.
    :param nonce: the word that the agent in the saved guest puts before its answers.
    :param tools: versions of the programs used, by name.
    :param accelerator: what ran the guest.
    :param processor: the host's, under KVM; None where the processor is emulated.
    :param qemu: the emulator.
    :param firmware: the firmware of the image, or None where no UEFI boots from it.
    :param kernel: version of the appliance's kernel, or None if no machine was needed.
    :param appliance: content id of the appliance, or None alike.
    :param contents: whether files are grafted from ``contents.tar``.
    :param media: what an installer was started from.
    :param signed: what was signed for Secure Boot so far.
    :param times: how long the finished parts took, in their order.
    :param failure: how it failed; None where it was stopped on purpose.
    """

    schema: int = SCHEMA
    vmharness: str
    name: str = field(validator=check_name)
    inputs: str
    seed: str
    nonce: str = field(validator=_check_nonce)
    tools: dict[str, str]
    accelerator: Accelerator
    processor: ProcessorIdentity | None = None
    qemu: ProgramIdentity
    firmware: FirmwareIdentity | None = field(validator=_check_firmware)
    kernel: str | None
    appliance: str | None
    contents: bool
    media: tuple[SourceFile, ...] = ()
    signed: tuple[SignedFile, ...] = ()
    times: tuple[StepTime, ...] = ()
    failure: Failure | None = field(default=None, validator=_check_failure)


@frozen(kw_only=True)
class Here:
    """What this host has of what a record names.

    :param accelerator: the one that this host offers.
    :param processor: what guests under KVM would see, or None if that cannot be told.
    :param firmware: its firmware with the recorded digests, or None.
    """

    qemu: ProgramIdentity
    accelerator: AcceleratorVerdict
    processor: ProcessorIdentity | None
    firmware: Firmware | None


def to_json(record: Record) -> str:
    """The record as text: keys in a fixed order, one field a line, a final newline."""
    return json.dumps(_CONVERTER.unstructure(record), indent=2, ensure_ascii=True) + "\n"


def from_json(text: str) -> Record:
    """The record that ``text`` holds.

    :raises ValueError: with a sentence, if it is no record of this format.
    """
    data = serial.document(text, what="a record of a build", schema=SCHEMA)
    return serial.structured(data, Record, _CONVERTER)


_CONVERTER = serial.make_converter()
