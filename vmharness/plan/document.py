"""A definition as its TOML file has it: its tables, and how each of their keys is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import field, fields, frozen
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, override

from vmharness.model import declared, sources
from vmharness.model import image as model
from vmharness.model.run_steps import RunSpec
from vmharness.model.sizes import MIB
from vmharness.plan import bootloader_values, values
from vmharness.plan.dialogue import EntryTable, InstallTable
from vmharness.plan.partition_values import HOOKS
from vmharness.plan.problem import Problem, nearest


@frozen(kw_only=True)
class ImageTable:
    """``[image]``."""

    name: str
    format: model.Format = model.Format.QCOW2
    partition_table: model.PartitionTable = model.PartitionTable.EFI
    size: int | None = None
    additional_space: int = 512 * MIB
    boot_size: int = 256 * MIB
    base_name: str | None = None
    hydra_build_products: bool = False


@frozen(kw_only=True)
class EfiTable:
    """``[efi]``; what is not given is decided by the rest."""

    firmware: model.FirmwareChoice = field(factory=model.AutoFirmware)
    touch_variables: bool | None = None


@frozen(kw_only=True)
class Document:
    """A whole definition."""

    image: ImageTable
    root: model.RootSpec = field(factory=lambda: model.RootSpec(source=sources.NoSource()))
    partition: tuple[declared.DeclaredPartition, ...] = ()
    contents: tuple[model.Content, ...] = ()
    bootloader: model.BootloaderSpec = field(factory=model.BootloaderSpec)
    efi: EfiTable = field(factory=EfiTable)
    secure_boot: model.SecureBootSpec = field(factory=model.SecureBootSpec)
    deterministic: model.DeterministicSpec = field(factory=model.DeterministicSpec)
    identifiers: model.GivenIdentifiers = field(factory=model.GivenIdentifiers)
    guest: model.GuestSpec = field(factory=model.GuestSpec)
    hooks: model.HooksSpec = field(factory=model.HooksSpec)
    nix: model.NixSpec = field(factory=model.NixSpec)
    run: tuple[RunSpec, ...] = ()
    install: InstallTable | None = None
    dialogue: tuple[EntryTable, ...] = ()


def converter_for(folder: Path) -> Converter:
    """What makes a :class:`Document` of the values in a TOML file, and refuses keys that it does not know.

    :param folder: to which relative paths in the file are relative.
    """
    converter = Converter(forbid_extra_keys=True)
    for plain in (str, bool):
        converter.register_structure_hook(plain, values.exactly)
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, Enum), values.one_of
    )
    converter.register_structure_hook(Path, lambda value, _: _path(folder, value))
    converter.register_structure_hook(UUID, values.guid)
    numbers = dict.fromkeys(("disk_signature", "esp_volume_id", "boot_volume_id", "volume_id"), values.hex32)
    sizes = {
        "size": values.size_or_auto,
        "additional_space": values.size,
        "boot_size": values.size,
        "memory": values.size,
    }
    sizes |= dict.fromkeys(("size_min", "size_max", "padding_min", "padding_max"), values.size)
    special = {
        **sizes,
        **numbers,
        "mode": values.mode,
        "directory_mode": values.mode,
        "include": values.texts,
        "kernel_parameters": values.texts,
        "after_build": values.command,
        "additional_paths": lambda value, _: tuple(folder / text for text in values.texts(value, _)),
        "user": values.identity,
        "group": values.identity,
        "source": lambda value, _: str(_path(folder, value)),
    }
    inner: tuple[type[Any], ...] = (
        sources.DirectorySource, sources.TarSource, sources.OciSource, sources.DebianSource, sources.NixSource,
        model.FirmwareFiles,
    )  # fmt: skip
    for kind in inner:
        _register(converter, kind, special)
    converter.register_structure_hook(sources.RootSource, lambda value, _: _source(converter, value))
    converter.register_structure_hook(model.Installer, bootloader_values.installer)
    converter.register_structure_hook(model.FirmwareChoice, lambda value, _: _firmware(converter, folder, value))
    root = {
        "source": lambda value, _: _source(converter, value),
        "filesystem_options": values.texts,
        "subvolumes": values.subvolumes,
    }
    _register(converter, model.RootSpec, root)
    outer: tuple[type[Any], ...] = (
        ImageTable, EfiTable, model.SecureBootSpec, model.Content, model.BootloaderSpec, model.DeterministicSpec,
        model.GivenIdentifiers, model.GuestSpec, model.HooksSpec, model.NixSpec,
    )  # fmt: skip
    for kind in outer:
        _register(converter, kind, special)
    _register(converter, declared.DeclaredContent, special)
    _register(
        converter,
        declared.DeclaredPartition,
        _partition_hooks(converter, folder, sizes),
        hidden=("copies", "declared_in"),
    )
    _register(
        converter,
        RunSpec,
        {"command": values.texts, "deadline": values.seconds, "parameters": values.parameters},
    )
    _register(converter, InstallTable, special)
    _register(converter, EntryTable, {"within": values.seconds, "keys": values.texts})
    tables = {
        "contents": model.Content,
        "partition": declared.DeclaredPartition,
        "run": RunSpec,
        "dialogue": EntryTable,
    }
    _register(converter, Document, {key: tables_of(converter, key, kind) for key, kind in tables.items()})
    return converter


def _partition_hooks(converter: Converter, folder: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **sizes,
        **HOOKS,
        "volume_id": values.hex32,
        "directories": values.texts,
        "store_paths": lambda value, kind: tuple(_path(folder, path) for path in values.texts(value, kind)),
        "contents": tables_of(converter, "partition.contents", declared.DeclaredContent),
        "source": lambda value, _: _source(converter, value),
    }


def _register(
    converter: Converter, kind: type[Any], special: Mapping[str, Any], *, hidden: tuple[str, ...] = ()
) -> None:
    """Say how a table is read.

    :param special: what reads the values of some attributes.
    :param hidden: attributes that no definition gives.
    """
    overrides: dict[str, Any] = {name: override(omit=True) for name in hidden}
    for attribute in fields(kind):
        if attribute.name in hidden:
            continue
        name = key_of(kind, attribute.name)
        hook = special.get(attribute.name)
        overrides[attribute.name] = override(rename=name) if hook is None else override(rename=name, struct_hook=hook)
    structure = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **overrides)

    def checked(value: Any, target: type[Any]) -> Any:
        if not isinstance(value, dict):
            raise Problem(f"{value!r} is not a table")
        return structure(value, target)

    converter.register_structure_hook(kind, checked)


def key_of(kind: type[Any], attribute: str) -> str:
    """The key in the file for an attribute: a root source has its first one under the source's own name."""
    if attribute in {"path", "suite"}:
        return next((name for name, source in _SOURCES.items() if source is kind), attribute)
    return attribute.replace("_", "-")


def _path(folder: Path, value: Any) -> Path:
    return folder / values.exactly(value, str)


def tables_of(converter: Converter, key: str, kind: type[Any]) -> Callable[[Any, Any], tuple[Any, ...]]:
    """What reads an array of tables.

    :param key: its name, for the error.
    """

    def structure(value: Any, _kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Problem(f"{value!r} is not a list of tables", f"[[{key}]]")
        tables: list[Any] = converter.structure(value, _list_of(kind))
        return tuple(tables)

    return structure


def _list_of(kind: type[Any]) -> Any:
    return list[kind]  # type: ignore[valid-type]  # a type that is only known here


_SOURCES: dict[str, Any] = {
    "directory": sources.DirectorySource,
    "tar": sources.TarSource,
    "oci": sources.OciSource,
    "debian": sources.DebianSource,
    "minimal": sources.MinimalSource,
    "nix": sources.NixSource,
}


def _source(converter: Converter, value: Any) -> sources.RootSource:
    if not isinstance(value, dict):
        raise Problem(f"{value!r} is not a root source", '{ tar = "root.tar" } and the like')
    kinds = [kind for kind in _SOURCES if kind in value]
    if len(kinds) != 1:
        given = ", ".join(value) or "nothing"
        suggestion = "" if kinds else nearest(next(iter(value), ""), list(_SOURCES))
        raise Problem(f"a root source has exactly one kind; given: {given}{suggestion}", " | ".join(_SOURCES))
    kind = kinds[0]
    if kind == "minimal":
        if value != {"minimal": True}:
            raise Problem("the minimal source takes no settings", "{ minimal = true }")
        return sources.MinimalSource()
    source: sources.RootSource = converter.structure(value, _SOURCES[kind])
    return source


def _firmware(converter: Converter, folder: Path, value: Any) -> model.FirmwareChoice:
    if value == "auto":
        return model.AutoFirmware()
    if value == "secure-boot":
        return model.SecureBootFirmware()
    if isinstance(value, str):
        return model.DescriptorFirmware(path=folder / value)
    files: model.FirmwareFiles = converter.structure(value, model.FirmwareFiles)
    return files
