"""Firmware as values: a code image with the template of its variable store."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen(kw_only=True)
class Firmware:
    """A UEFI firmware for a machine.

    :param code: the code image, read-only flash.
    :param template: the variable store that a new machine starts from.
    :param features: the descriptor's features, such as ``requires-smm`` or ``secure-boot``.
    :param descriptor: the descriptor file it came from, or None when given by path.
    :param description: the descriptor's own words.
    """

    code: Path
    template: Path
    features: tuple[str, ...] = ()
    descriptor: Path | None = None
    description: str = ""

    @property
    def needs_smm(self) -> bool:
        """Whether the machine needs ``q35,smm=on`` and secure flash."""
        return "requires-smm" in self.features


@frozen(kw_only=True)
class FlashFile:
    """One file of a firmware, as it lies on the host.

    :param path: where it is.
    :param format: ``raw`` or ``qcow2``.
    :param size: bytes, or None where there is no readable file.
    :param is_variable_store: whether it begins as an EFI variable store does.
    """

    path: Path
    format: str = "raw"
    size: int | None = None
    is_variable_store: bool = False


@frozen(kw_only=True)
class Target:
    """A machine that a firmware is for: architecture and machine type patterns such as ``pc-q35-*``."""

    architecture: str
    machines: tuple[str, ...]


@frozen(kw_only=True)
class Descriptor:
    """What a firmware descriptor says (QEMU, ``docs/interop/firmware.json``), with what lies at its paths.

    :param path: the descriptor file, or None for two files that were given by path.
    :param description: its own words.
    :param problem: why it cannot be read; empty when it can.
    :param interfaces: such as ``uefi`` or ``bios``.
    :param device: how it is mapped: ``flash``, ``memory`` or ``kernel``.
    :param mode: of flash: ``split``, ``combined`` or ``stateless``.
    :param code: the code image.
    :param template: the template of the variable store.
    :param targets: the machines it is for.
    :param features: such as ``secure-boot``.
    """

    path: Path | None
    description: str = ""
    problem: str = ""
    interfaces: tuple[str, ...] = ()
    device: str = ""
    mode: str = "split"
    code: FlashFile | None = None
    template: FlashFile | None = None
    targets: tuple[Target, ...] = ()
    features: tuple[str, ...] = ()


@frozen(kw_only=True)
class FirmwareVerdict:
    """Why one descriptor was taken (``refusal`` is empty) or not."""

    descriptor: Path | None
    description: str
    refusal: str
    firmware: Firmware | None
