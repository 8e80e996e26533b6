"""Firmware descriptors: which UEFI firmware the host has.

QEMU's convention (``docs/interop/firmware.json``): JSON files in three folders, the user's, the administrator's and
the distribution's. All are sorted by file name; of equal names the file in the earlier folder counts, and an empty one
masks. Our own descriptors come last, for hosts whose distribution ships firmware without describing it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from vmharness.host.data import data_directory
from vmharness.model.firmware import Descriptor, FlashFile, Target
from vmharness.model.image import AutoFirmware, DescriptorFirmware, FirmwareChoice, SecureBootFirmware

_NVRAM_GUID = bytes.fromhex("8d2bf1ff 9676 8b4c a985 2747075b4f50")
"""EFI_SYSTEM_NV_DATA_FV_GUID: bytes 16 to 32 of a firmware volume's header (UEFI PI specification, volume 3, 3.2.1)."""


def directories() -> tuple[Path, ...]:
    """The folders that hold descriptors, the most particular one first."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return (
        Path(config) / "qemu/firmware",
        Path("/etc/qemu/firmware"),
        Path("/usr/share/qemu/firmware"),
        data_directory("firmware"),
    )


def installed(folders: tuple[Path, ...] | None = None) -> tuple[Descriptor, ...]:
    """Every descriptor that counts, in order of preference; unreadable ones with their problem."""
    chosen: dict[str, Path] = {}
    for folder in directories() if folders is None else folders:
        for file in sorted(folder.glob("*.json")):
            chosen.setdefault(file.name, file)
    return tuple(read(chosen[name]) for name in sorted(chosen) if not _is_mask(chosen[name]))


def for_choice(choice: FirmwareChoice) -> tuple[Descriptor, ...]:
    """The descriptors that ``choice`` leaves to choose from: all installed ones, or exactly the one it names."""
    if isinstance(choice, AutoFirmware | SecureBootFirmware):
        return installed()
    if isinstance(choice, DescriptorFirmware):
        return (read(choice.path),)
    code, template = flash_file(choice.code), flash_file(choice.variables)
    return (Descriptor(path=None, description="given by path", code=code, template=template),)


def read(path: Path) -> Descriptor:
    """One descriptor; what is wrong with it becomes its ``problem``."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return _descriptor(path, said)
    except OSError as error:
        return Descriptor(path=path, problem=f"it cannot be read: {error.strerror}")
    except ValueError as error:
        return Descriptor(path=path, problem=f"it is not JSON: {error}")
    except (KeyError, TypeError, AttributeError) as error:
        return Descriptor(path=path, problem=f"it is not a firmware descriptor ({type(error).__name__}: {error})")


def flash_file(path: Path, format_: str = "raw") -> FlashFile:
    """What lies at ``path``."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return FlashFile(path=path, format=format_)
    return FlashFile(
        path=path,
        format=format_,
        size=size,
        is_variable_store=head[16:32] == _NVRAM_GUID and head[40:44] == b"_FVH",
    )


def _is_mask(path: Path) -> bool:
    """Whether the file only hides others of its name: it is empty, or a link to ``/dev/null``."""
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def _descriptor(path: Path, said: dict[str, Any]) -> Descriptor:
    mapping = said["mapping"]
    return Descriptor(
        path=path,
        description=str(said.get("description", "")),
        interfaces=tuple(said["interface-types"]),
        device=mapping["device"],
        mode=mapping.get("mode", "split"),
        code=_mapped(mapping, "executable"),
        template=_mapped(mapping, "nvram-template"),
        targets=tuple(
            Target(architecture=target["architecture"], machines=tuple(target["machines"]))
            for target in said["targets"]
        ),
        features=tuple(said["features"]),
    )


def _mapped(mapping: dict[str, Any], role: str) -> FlashFile | None:
    """The file of one role; memory and kernel mappings have other roles, and are refused for their device."""
    if role not in mapping:
        return None
    return flash_file(Path(mapping[role]["filename"]), mapping[role]["format"])
