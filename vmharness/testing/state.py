"""What a machine boots from, as a value: disks, firmware, variable store, TPM.

A state is files that somebody else owns; machines never write to them. :func:`fork` makes a state of its own for a
machine: overlays over the disks, a copy of the variable store and of the TPM's folder.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Self

import cattrs
from attrs import evolve, frozen

from vmharness.disk import image
from vmharness.errors import HostError, SpecError
from vmharness.host import cache, descriptors
from vmharness.host.published import read_manifest
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Bus, Disk
from vmharness.model.image import (
    AutoFirmware,
    DescriptorFirmware,
    FirmwareChoice,
    FirmwareFiles,
    Format,
    SecureBootFirmware,
)
from vmharness.model.manifest import FirmwareIdentity
from vmharness.plan import firmware as choice_of

STATE_NAME = "state.json"

DRIVERS = {form.driver: form for form in (Format.RAW, Format.QCOW2, Format.VDI, Format.VPC)}


@frozen(kw_only=True)
class BootState:
    """Everything of a machine that outlasts its being switched off.

    :param disks: in the order in which the machine finds them; their names are their serial numbers.
    :param firmware: UEFI firmware, or None for BIOS.
    :param variables: the variable store; None takes the firmware's blank template.
    :param tpm: folder with a TPM's state; None starts with a new TPM, where the machine has one.
    """

    disks: tuple[Disk, ...]
    firmware: Firmware | None = None
    variables: Path | None = None
    tpm: Path | None = None

    @classmethod
    def of(cls, output: Path | str) -> Self:
        """The state that a build published: its image, its firmware and its variable store; or that a machine has left.

        :param output: the output folder of a build, or the run directory of a machine that was kept.
        :raises SpecError: it is none.
        :raises HostError: the firmware is not on this host.
        """
        output = Path(output)
        if (output / STATE_NAME).is_file():
            return _CONVERTER.structure(json.loads((output / STATE_NAME).read_text("utf-8")), cls)
        made = read_manifest(output)
        base, store = made.file("image"), made.file("efi-variables")
        if base is None:
            raise SpecError(f"the manifest in {output} names no image", origin=str(output))
        return cls(
            disks=(Disk(name="disk", path=output / base.name, format=made.format.driver),),
            firmware=find_firmware(made.firmware) if made.firmware is not None else None,
            variables=output / store.name if store is not None else None,
        )

    def on(self, bus: Bus, *, disk: str = "disk", block_size: int = 512) -> Self:
        """The same with one disk on another bus, or with other sectors; everything else, the store too, is kept."""
        if disk not in {item.name for item in self.disks}:
            raise SpecError(f"there is no disk called {disk!r}", allowed=", ".join(item.name for item in self.disks))
        moved = (evolve(item, bus=bus, block_size=block_size) if item.name == disk else item for item in self.disks)
        return evolve(self, disks=tuple(moved))

    def plus(self, *disks: Disk) -> Self:
        """The same with more disks."""
        return evolve(self, disks=(*self.disks, *disks))

    def blank(self) -> Self:
        """The same with a variable store that is as new."""
        return evolve(self, variables=None)

    def with_store(self, variables: Path) -> Self:
        """The same with another variable store, such as an edited one."""
        return evolve(self, variables=variables)

    def with_firmware(self, firmware: Firmware | None) -> Self:
        """The same under another firmware, with a blank store: a store belongs to its firmware. None is BIOS."""
        return evolve(self, firmware=firmware, variables=None)


def fork(state: BootState, folder: Path) -> BootState:
    """A state of its own that begins as ``state``: overlays, and copies of the store and of the TPM's folder.

    :param folder: an existing folder that takes the files.
    :raises SpecError: the variable store is not one of this firmware's size, which boots and silently never keeps
        anything, or hangs.
    :raises HostError: a file is missing, or there is no room.
    """
    variables = None
    if state.firmware is not None:
        variables = folder / "efi-vars.fd"
        source = state.variables or state.firmware.template
        _copy_store(source, state.firmware, variables)
    elif state.variables is not None:
        raise SpecError("a variable store without UEFI firmware is of no use", hint="BootState.with_firmware()")
    tpm = folder / "tpm"
    if state.tpm is not None and state.tpm.is_dir():
        shutil.copytree(state.tpm, tpm)
    disks = tuple(_overlay(disk, folder / f"{disk.name}.qcow2") for disk in state.disks)
    own = evolve(state, disks=disks, variables=variables, tpm=tpm)
    (folder / STATE_NAME).write_text(json.dumps(_CONVERTER.unstructure(own), indent=2) + "\n", encoding="utf-8")
    return own


def moved(state: BootState, folder: Path) -> BootState:
    """The state that :func:`fork` made of ``state`` in a folder that has another name now."""
    disks = tuple(
        evolve(disk, path=folder / f"{disk.name}.qcow2", format="qcow2") if disk.writable else disk
        for disk in state.disks
    )
    variables = folder / "efi-vars.fd" if state.firmware is not None else None
    return evolve(state, disks=disks, variables=variables, tpm=folder / "tpm")


def firmware(name: str | Path | tuple[Path, Path]) -> Firmware | None:
    """A firmware of this host.

    :param name: ``bios`` (None), ``ovmf`` (the one that builds take), ``secure-boot``, a descriptor's path, or the
        paths of code image and variable store template.
    :raises HostError: there is none that fits.
    :raises SpecError: the one that was named does not fit.
    """
    choice: FirmwareChoice
    match name:
        case "bios":
            return None
        case "ovmf":
            choice = AutoFirmware()
        case "secure-boot":
            choice = SecureBootFirmware()
        case tuple():
            choice = FirmwareFiles(code=name[0], variables=name[1])
        case _:
            choice = DescriptorFirmware(path=Path(name))
    return choice_of.select(choice, descriptors.for_choice(choice))


def find_firmware(identity: FirmwareIdentity) -> Firmware:
    """The firmware that an image was built with.

    :raises HostError: it is not on this host, or another version of it is.
    """
    code, template = identity.code, identity.template
    if not code.path.is_file() or cache.remembered_digest(code.path) != code.sha256:
        there = "has another content" if code.path.is_file() else "is not there"
        raise HostError(
            f"the image was built for the firmware {code.path}, which {there} on this host",
            hint=f"install the firmware with SHA-256 {code.sha256[:16]}..., or build the image again here",
        )
    return Firmware(
        code=code.path, template=template.path, features=identity.features, description=identity.description
    )


def _copy_store(source: Path, firmware: Firmware, target: Path) -> None:
    choice_of.check_pair(descriptors.flash_file(firmware.code), descriptors.flash_file(source))
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise HostError(f"cannot copy the variable store {source}: {error.strerror}") from error


def _overlay(disk: Disk, target: Path) -> Disk:
    if disk.format not in DRIVERS:
        raise SpecError(f"the disk {disk.path} has the unknown format {disk.format!r}", allowed=", ".join(DRIVERS))
    if not disk.writable:
        return disk
    image.create_overlay(disk.path, DRIVERS[disk.format], target)
    return evolve(disk, path=target, format="qcow2")


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _type: Path(value))
    return converter


_CONVERTER = _converter()
