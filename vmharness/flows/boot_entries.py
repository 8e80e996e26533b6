"""Boot entries made for a partition of an image."""

from __future__ import annotations

import tempfile
from pathlib import Path

from attrs import frozen

from vmharness.disk import efivars, image, partitioning
from vmharness.disk.partitioning import FoundPartition
from vmharness.errors import SpecError
from vmharness.flows.efivars import boot_order
from vmharness.flows.outputs import EXTENSIONS
from vmharness.host.published import read_manifest
from vmharness.model import devicepath
from vmharness.model.image import Format
from vmharness.model.variable_values import ATTRIBUTES, from_text
from vmharness.model.variables import GLOBAL, EfiVariable, LoadOption

_ORIGIN = "<command line>"


@frozen(kw_only=True)
class NewEntry:
    r"""A boot entry to be made.

    :param title: what the boot menu shows.
    :param disk: the disk that it boots from: an image file (raw unless its name ends with ``.qcow2``, ``.vdi`` or
        ``.vhd``), or the folder of a build's output.
    :param partition: number of the partition, 1-based.
    :param file: the file on it, such as ``\EFI\BOOT\BOOTX64.EFI``.
    :param arguments: what the file is handed as its command line.
    :param first: whether it comes first in ``BootOrder``, otherwise last.
    """

    title: str
    disk: Path
    partition: int
    file: str
    arguments: str = ""
    first: bool = True


def add_entry(path: Path, entry: NewEntry) -> int:
    """Make a boot entry ``Boot####`` of the first free number and put it into ``BootOrder``.

    :returns: its number.
    :raises SpecError: there is no such disk or partition.
    :raises: as :func:`set_text`, besides.
    """
    found = _partition(entry.disk, entry.partition)
    store = efivars.read_store(path)
    order = boot_order(path, store)
    number = next(free for free in range(0x10000) if store.get(f"Boot{free:04X}") is None)
    target = devicepath.to_file(found.number, found.start, found.sectors, found.identity, entry.file)
    option = LoadOption(
        attributes=1,  # active
        description=entry.title,
        path=(target,),
        optional_data=f"{entry.arguments}\0".encode("utf-16-le") if entry.arguments else b"",
    )
    others = [other for other in order if other != number]
    numbers = [number, *others] if entry.first else [*others, number]
    made = EfiVariable(name=f"Boot{number:04X}", guid=GLOBAL, attributes=ATTRIBUTES, data=option.to_bytes())
    efivars.edit(path, put=[made, from_text("BootOrder", ",".join(f"{item:04X}" for item in numbers))])
    return number


def _partition(disk: Path, number: int) -> FoundPartition:
    if disk.is_dir():
        made = read_manifest(disk)
        base = made.file("image")
        if base is None:
            raise SpecError(f"the manifest in {disk} names no image", origin=str(disk))
        found = _partitions(disk / base.name, made.format)
    else:
        suffixes = {suffix: form for form, suffix in EXTENSIONS.items()}
        found = _partitions(disk, suffixes.get(disk.suffix, Format.RAW))
    for part in found:
        if part.number == number:
            return part
    there = ", ".join(str(part.number) for part in found) or "there are none"
    raise SpecError(f"{disk} has no partition {number}", origin=_ORIGIN, key="--partition", allowed=there)


def _partitions(disk: Path, form: Format) -> tuple[FoundPartition, ...]:
    if not disk.is_file():
        raise SpecError(f"there is no image {disk}", origin=_ORIGIN, key="--disk")
    if form is Format.RAW:
        return partitioning.read_partitions(disk)
    with tempfile.TemporaryDirectory(prefix="vmharness-") as folder:
        head = Path(folder) / "head.raw"
        image.copy_head(disk, form, head)
        return partitioning.read_partitions(head)
