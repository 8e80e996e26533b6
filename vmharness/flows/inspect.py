"""Look into an output folder: what was built, whether it still is that, and what its variables say now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from vmharness.disk import efivars
from vmharness.errors import VerificationFailed
from vmharness.host import cache
from vmharness.host.published import read_manifest
from vmharness.model import manifest
from vmharness.model.manifest import Manifest, OutputFile
from vmharness.model.partitions import Blocks, Ext4, Fat, Filesystem, Layout, Partition, Scheme, Squashfs, Swap
from vmharness.model.sizes import format_size
from vmharness.model.text import printable
from vmharness.model.variable_records import VariableRecord, decode, to_text

_FIRST_KINDS = {"order": 0, "entry": 1, "boot-entry": 2}


@frozen(kw_only=True)
class Inspection:
    """What an output folder holds.

    :param manifest: as it was published.
    :param variables: the variable store as it is now, or None where none was published.
    :param findings: files that are not what the manifest says, one sentence each; nothing if all are.
    """

    directory: Path
    manifest: Manifest
    variables: tuple[VariableRecord, ...] | None
    findings: tuple[str, ...]


def inspect(directory: Path) -> Inspection:
    """Read an output folder and check every file's digest. A changed file is a finding, since looking at it may help.

    :raises SpecError: the folder holds no manifest that this program can read.
    :raises VerificationFailed: files are missing, or the variable store is damaged.
    """
    described = read_manifest(directory)
    missing = [item.name for item in described.files if not (directory / item.name).is_file()]
    if missing:
        raise VerificationFailed(
            f"{directory} is not complete", findings=tuple(f"the file {name} is missing" for name in missing)
        )
    store = described.file("efi-variables")
    variables = None
    if store is not None:
        variables = tuple(decode(variable) for variable in efivars.read_store(directory / store.name).variables)
    return Inspection(
        directory=directory,
        manifest=described,
        variables=variables,
        findings=tuple(finding for item in described.files for finding in _check_file(directory, item)),
    )


def to_data(inspection: Inspection) -> dict[str, Any]:
    """The inspection as JSON data: the manifest, with the variables as they are now, and ``findings``."""
    data: dict[str, Any] = manifest.to_data(inspection.manifest)
    data["variables"] = manifest.to_data(inspection.variables)
    data["findings"] = list(inspection.findings)
    return data


def to_lines(inspection: Inspection) -> Iterator[str]:
    """The inspection as plain lines for people; what the guest wrote is shown without control characters."""
    described = inspection.manifest
    yield f"{described.name}: {described.format.value} image, {format_size(described.table.size)}"
    yield f"  built by vmharness {described.vmharness} from {described.definition.path}"
    firmware = described.firmware.description if described.firmware is not None else "BIOS"
    yield f"  bootloader {described.bootloader}, firmware {firmware}"
    if described.kernel is not None:
        yield f"  appliance with Linux {described.kernel} on {described.accelerator}"
    yield "files"
    for item in described.files:
        yield f"  {item.name}  {format_size(item.size)}  sha256 {item.sha256}"
    yield from _table_lines(described.table)
    if inspection.variables is not None:
        yield "EFI variables"
        # what is booted, and in which order, is what people look for
        records = sorted(inspection.variables, key=lambda record: _FIRST_KINDS.get(record.kind, len(_FIRST_KINDS)))
        yield from (f"  {printable(record.name)}: {to_text(record)}" for record in records)
    yield "checks"
    yield from (f"  {finding}" for finding in inspection.findings or ("every file is as it was published",))


def _check_file(directory: Path, item: OutputFile) -> Iterator[str]:
    path = directory / item.name
    size = path.stat().st_size
    if size != item.size:
        yield f"{item.name} has {size} bytes instead of {item.size}"
    elif cache.digest_of(path) != item.sha256:
        yield f"{item.name} is not the file that was published: its SHA-256 differs"


def _table_lines(table: Layout) -> Iterator[str]:
    match table.scheme:
        case Scheme.GPT:
            yield f"partitions (GPT {table.identifier})"
        case Scheme.MBR:
            yield f"partitions (MBR {table.identifier:08x})"
        case Scheme.NONE:
            yield "no partitions"
    for part in table.partitions:
        place = f"from {format_size(part.offset)}, {format_size(part.size)}"
        partuuid = f", PARTUUID {table.partuuid(part)}, type {_type(part)}" if part.number else ""
        yield f"  {part.number} {part.role}: {place}{partuuid}{', active' if part.active else ''}"
    yield from (f"  {part.role}: {_filesystem(part.filesystem)}" for part in table.partitions if part.filesystem)


def _type(part: Partition) -> str:
    return f"{part.type:02x}" if isinstance(part.type, int) else str(part.type)


def _filesystem(filesystem: Filesystem) -> str:
    match filesystem:
        case Ext4():
            return f"ext4 '{filesystem.label}' {filesystem.uuid}, {filesystem.inodes} inodes"
        case Fat():
            volume = f"{filesystem.volume_id:08X}"
            return f"FAT32 '{filesystem.label}' {volume[:4]}-{volume[4:]}"
        case Swap():
            return f"swap '{filesystem.label}' {filesystem.uuid}"
        case Blocks():
            return f"{format_size(filesystem.size)} of {filesystem.source}"
        case Squashfs():
            return f"squashfs, {filesystem.compression}"
        case _:
            return f"{type(filesystem).__name__.lower()} '{filesystem.label}' {filesystem.uuid}"
