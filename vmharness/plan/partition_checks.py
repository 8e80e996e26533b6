"""What declared partitions must hold to beyond the form of their single values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmharness.errors import SpecError
from vmharness.model.bootloader import NO_BOOTLOADER
from vmharness.model.declared import GROW_FILE_SYSTEM, KNOWN_FLAGS, NO_AUTO, READ_ONLY, DeclaredPartition
from vmharness.model.image import GivenIdentifiers, ImageSpec
from vmharness.model.partition_types import name_of
from vmharness.plan.declared import LABEL_LIMITS, roles

_MOST_PARTITIONS = 128
_LONGEST_NAME = 36  # UTF-16 units, UEFI 2.10, table 5.6
_FLAG_KEYS = {GROW_FILE_SYSTEM: "grow_file_system", READ_ONLY: "read_only", NO_AUTO: "no_auto"}
_FILLED = {"ext4", "vfat"}


def check_mixture(data: Mapping[str, Any], origin: str) -> None:
    """Refuse what belongs to the other way of dividing a disk, in a definition that declares its partitions.

    :param data: the definition as it was written.
    :raises SpecError: naming the key.
    """
    image = data.get("image", {})
    for key in ("root", "contents"):
        if key in data:
            instead = "its source" if key == "root" else "its contents"
            raise SpecError(
                f"[[partition]] declares all partitions; give {instead} in the partition that is to have it",
                origin=origin,
                key=key,
            )
    for key in ("partition-table", "boot-size", "additional-space"):
        if key in image and image[key] != "declared":
            raise SpecError(
                "[[partition]] declares all partitions, their order and their sizes; leave this key out",
                origin=origin,
                key=f"image.{key}",
            )


def check_partitions(spec: ImageSpec) -> None:
    """Check the declared partitions of a definition.

    :raises SpecError: naming the key, and what is allowed.
    """
    if not spec.partitions:
        raise _error(spec, "partition", "no partition is declared", "[[partition]] tables")
    if len(spec.partitions) > _MOST_PARTITIONS:
        raise _error(spec, "partition", f"a table has at most {_MOST_PARTITIONS} partitions")
    _check_whole(spec)
    guids: dict[object, int] = {}
    for number, part in enumerate(spec.partitions):
        for key, what, allowed in _problems(spec, part):
            raise _error(spec, f"{part.key(number)}.{key}", what, allowed)
        first = guids.setdefault(part.uuid, number)
        if part.uuid is not None and first != number:
            raise _error(spec, f"{part.key(number)}.uuid", f"{spec.partitions[first].key(first)} has the same UUID")


def _check_whole(spec: ImageSpec) -> None:
    """What goes with partition tables that have a root partition of ours, and not with declared partitions."""
    if spec.bootloader.install.name != NO_BOOTLOADER:
        raise _error(
            spec,
            "bootloader.install",
            "declared partitions are made without a machine in which an installer could run",
            "none, with the bootloader's files in a partition's contents; or [root] and image.partition-table",
        )
    if spec.efi.touch_variables:
        raise _error(spec, "efi.touch-variables", "without an installer nothing writes EFI variables", "false")
    if spec.identifiers != GivenIdentifiers(disk_guid=spec.identifiers.disk_guid):
        raise _error(spec, "identifiers", "of declared partitions are given in [[partition]] itself", "disk-guid")


def _problems(spec: ImageSpec, part: DeclaredPartition) -> Iterator[tuple[str, str, str]]:
    """Key, sentence and what is allowed, of everything that is wrong with one partition."""
    yield from _label_problems(part)
    yield from _size_problems(part)
    yield from _filesystem_problems(part)
    yield from _content_problems(spec, part)
    for bit, attribute in _FLAG_KEYS.items():
        if getattr(part, attribute) and part.designator not in KNOWN_FLAGS[bit]:
            known = ", ".join(sorted(KNOWN_FLAGS[bit]))
            yield attribute.replace("_", "-"), f"means nothing for the type '{name_of(part.type)}'", f"with {known}"


def _label_problems(part: DeclaredPartition) -> Iterator[tuple[str, str, str]]:
    if len(part.name.encode("utf-16-le")) > 2 * _LONGEST_NAME:
        yield "label", "is too long for a GPT", f"at most {_LONGEST_NAME} characters"
    if not part.name.isprintable() or set(part.name) & set('"\\'):
        yield "label", f"{part.name!r} is not printable, or has a quotation mark or backslash", ""
    label = part.filesystem_label
    if label is None:
        return
    limit = LABEL_LIMITS.get(part.filesystem)
    if limit is None:
        yield "filesystem-label", "there is no filesystem to label", "with a filesystem"
    elif len(label.encode()) > limit:
        yield "filesystem-label", f"a label of {part.filesystem} has at most {limit} bytes", ""
    if part.filesystem == "vfat" and not (
        label.isascii() and label.isprintable() and label == label.upper() and label.strip()
    ):
        yield "filesystem-label", f"{label!r} is not a label of a FAT", "capital letters, digits, '-' and '_'"


def _size_problems(part: DeclaredPartition) -> Iterator[tuple[str, str, str]]:
    if part.size_min is not None and part.size_max is not None and part.size_min > part.size_max:
        yield "size-min", "is more than size-max", ""
    if part.padding_max is not None and part.padding_min > part.padding_max:
        yield "padding-min", "is more than padding-max", ""
    if part.size_max == 0:
        yield "size-max", "a partition has at least 1 MiB", ""


def _filesystem_problems(part: DeclaredPartition) -> Iterator[tuple[str, str, str]]:
    if part.copy_blocks is not None and (part.is_filled or part.filesystem):
        yield "copy-blocks", "a partition has either copied blocks or a filesystem with files", ""
    if part.filesystem and part.filesystem not in LABEL_LIMITS:
        yield "filesystem", f"{part.filesystem!r} is not supported in declared partitions", " | ".join(LABEL_LIMITS)
    if part.is_filled and part.filesystem not in _FILLED:
        yield "filesystem", "files need a filesystem", " | ".join(sorted(_FILLED))
    if part.volume_id is not None and part.filesystem != "vfat":
        yield "volume-id", "only a FAT has one", 'with filesystem = "vfat"'
    if part.filesystem_uuid is not None and part.filesystem not in {"ext4", "swap"}:
        yield "filesystem-uuid", "there is no filesystem with a UUID", "with ext4 or swap"


def _content_problems(spec: ImageSpec, part: DeclaredPartition) -> Iterator[tuple[str, str, str]]:
    for number, content in enumerate(part.contents):
        if (content.user is None) != (content.group is None):
            yield f"contents[{number}]", "user and group go together: give both or neither", ""
        if not content.target.startswith("/"):
            yield f"contents[{number}].target", f"{content.target!r} is not an absolute path in the partition", ""
        if content.tree is not None and content.tree not in _with_source(spec):
            known = " | ".join(_with_source(spec)) or "a partition with a source"
            yield f"contents[{number}].tree", f"no partition '{content.tree}' has a source", known
    for key, paths in (("directories", part.directories), ("contents", tuple(copy.target for copy in part.copies))):
        for path in paths:
            if not path.startswith("/") or ".." in path.split("/"):
                yield key, f"{path!r} is not an absolute path without '..'", ""


def _with_source(spec: ImageSpec) -> list[str]:
    named = zip(roles(spec.partitions), spec.partitions, strict=True)
    return [role for role, part in named if part.source is not None]


def _error(spec: ImageSpec, key: str, what: str, allowed: str = "") -> SpecError:
    return SpecError(what, origin=str(spec.origin), key=key, allowed=allowed)
