"""From a TOML definition to an ``ImageSpec``, with errors that name the key and what is allowed."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import evolve, field, fields, frozen
from cattrs import ClassValidationError, Converter, IterableValidationError
from cattrs.errors import AttributeValidationNote, BaseValidationError, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from vmharness.errors import SpecError
from vmharness.model import declared, sources
from vmharness.model import image as model
from vmharness.model.bootloader import BOOTLOADERS, Argument, Bootloader
from vmharness.model.dialogue import Entry
from vmharness.model.run_steps import RunSpec
from vmharness.model.sizes import MIB
from vmharness.plan import values
from vmharness.plan.checks import check
from vmharness.plan.dialogue import EntryTable, InstallTable, check_alone, entry_of, install_of
from vmharness.plan.partition_checks import check_mixture
from vmharness.plan.partition_values import HOOKS
from vmharness.plan.problem import Problem, nearest


@frozen(kw_only=True)
class _ImageTable:
    name: str
    format: model.Format = model.Format.QCOW2
    partition_table: model.PartitionTable = model.PartitionTable.EFI
    size: int | None = None
    additional_space: int = 512 * MIB
    boot_size: int = 256 * MIB
    base_name: str | None = None
    hydra_build_products: bool = False


@frozen(kw_only=True)
class _EfiTable:
    firmware: model.FirmwareChoice = field(factory=model.AutoFirmware)
    touch_variables: bool | None = None


@frozen(kw_only=True)
class _Document:
    image: _ImageTable
    root: model.RootSpec = field(factory=lambda: model.RootSpec(source=sources.NoSource()))
    partition: tuple[declared.DeclaredPartition, ...] = ()
    contents: tuple[model.Content, ...] = ()
    bootloader: model.BootloaderSpec = field(factory=model.BootloaderSpec)
    efi: _EfiTable = field(factory=_EfiTable)
    secure_boot: model.SecureBootSpec = field(factory=model.SecureBootSpec)
    deterministic: model.DeterministicSpec = field(factory=model.DeterministicSpec)
    identifiers: model.GivenIdentifiers = field(factory=model.GivenIdentifiers)
    guest: model.GuestSpec = field(factory=model.GuestSpec)
    hooks: model.HooksSpec = field(factory=model.HooksSpec)
    nix: model.NixSpec = field(factory=model.NixSpec)
    run: tuple[RunSpec, ...] = ()
    install: InstallTable | None = None
    dialogue: tuple[EntryTable, ...] = ()


def load(text: str, origin: Path) -> model.ImageSpec:
    """The definition in ``text``.

    :param text: TOML.
    :param origin: the file that it came from; relative paths in it are relative to its folder.
    :raises SpecError: naming the file, the line or the key, and what is allowed.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"not valid TOML: {error}", origin=str(origin)) from error
    try:
        document = _converter(origin.absolute().parent).structure(data, _Document)
    except BaseValidationError as error:
        # A mistyped key is the better explanation of one that is missing.
        key, problem = min(_leaves(error, ""), key=lambda leaf: not isinstance(leaf[1], ForbiddenExtraKeysError))
        raise _spec_error(origin, key, problem) from error
    if document.install is not None or document.dialogue:
        return _installed(document, data, origin)
    if document.partition:
        check_mixture(data, str(origin))
    elif isinstance(document.root.source, sources.NoSource):
        raise SpecError(
            "the key 'root' is missing", origin=str(origin), key="root", hint="or declare partitions: [[partition]]"
        )
    document = _with_defaults(document, data)
    table = document.image.partition_table
    spec = model.ImageSpec(
        origin=origin.absolute(),
        name=document.image.name,
        base_name=document.image.base_name,
        hydra_build_products=document.image.hydra_build_products,
        format=document.image.format,
        partition_table=table,
        size=document.image.size,
        additional_space=document.image.additional_space,
        boot_size=document.image.boot_size,
        root=document.root,
        contents=document.contents,
        bootloader=document.bootloader,
        efi=model.EfiSpec(
            firmware=document.efi.firmware,
            touch_variables=table.has_esp if document.efi.touch_variables is None else document.efi.touch_variables,
        ),
        secure_boot=document.secure_boot,
        deterministic=document.deterministic,
        identifiers=document.identifiers,
        guest=document.guest,
        hooks=document.hooks,
        nix=document.nix,
        partitions=tuple(part.completed() for part in document.partition),
        run=document.run,
    )
    check(spec)
    return spec


def load_entry(text: str, origin: Path) -> Entry:
    """The one entry of a dialogue in ``text``.

    :param text: TOML, as :func:`vmharness.plan.dialogue.to_toml` gives it.
    :raises SpecError: it is none.
    """
    try:
        data = tomllib.loads(text)
        kind = _tables_of(_converter(origin.absolute().parent), "dialogue", EntryTable)
        tables = kind(data.get("dialogue"), None)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"not valid TOML: {error}", origin=str(origin)) from error
    except BaseValidationError as error:
        raise _spec_error(origin, *next(_leaves(error, "dialogue"))) from error
    except Problem as error:
        raise SpecError(error.what, origin=str(origin), key="dialogue", allowed=error.allowed) from error
    if len(tables) != 1:
        raise SpecError(f"one entry is wanted, and {len(tables)} are given", origin=str(origin), key="dialogue")
    return entry_of(tables[0], 0, str(origin))


def _installed(document: _Document, data: Mapping[str, Any], origin: Path) -> model.ImageSpec:
    """The definition of an image that an installer makes."""
    check_alone(data, str(origin))
    assert document.install is not None
    efi = document.efi
    touched = not document.install.bios if efi.touch_variables is None else efi.touch_variables
    spec = model.ImageSpec(
        origin=origin.absolute(),
        name=document.image.name,
        base_name=document.image.base_name,
        hydra_build_products=document.image.hydra_build_products,
        format=document.image.format,
        partition_table=model.PartitionTable.NONE,
        size=document.image.size,
        efi=model.EfiSpec(firmware=efi.firmware, touch_variables=touched),
        guest=document.guest,
        hooks=document.hooks,
        install=install_of(document.install, document.dialogue, str(origin)),
    )
    check(spec)
    return spec


def _with_defaults(document: _Document, data: Mapping[str, Any]) -> _Document:
    """What follows from the rest: a Nix closure's label is NixOS' own, a store alone has no partitions."""
    root, image, nix = document.root, document.image, document.nix
    if isinstance(root.source, sources.NixSource) and "label" not in data["root"]:
        root = evolve(root, label="nix-store" if nix.store_only else "nixos")
    if nix.store_only and "partition-table" not in data["image"]:
        image = evolve(image, partition_table=model.PartitionTable.NONE)
    if document.partition:
        image = evolve(image, partition_table=model.PartitionTable.DECLARED)
    return evolve(document, root=root, image=image)


def _converter(folder: Path) -> Converter:
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
    converter.register_structure_hook(model.Installer, _installer)
    converter.register_structure_hook(model.FirmwareChoice, lambda value, _: _firmware(converter, folder, value))
    root = {
        "source": lambda value, _: _source(converter, value),
        "filesystem_options": values.texts,
        "subvolumes": values.subvolumes,
    }
    _register(converter, model.RootSpec, root)
    outer: tuple[type[Any], ...] = (
        _ImageTable, _EfiTable, model.SecureBootSpec, model.Content, model.BootloaderSpec, model.DeterministicSpec,
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
    _register(converter, _Document, {key: _tables_of(converter, key, kind) for key, kind in tables.items()})
    return converter


def _partition_hooks(converter: Converter, folder: Path, sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **sizes,
        **HOOKS,
        "volume_id": values.hex32,
        "directories": values.texts,
        "store_paths": lambda value, kind: tuple(_path(folder, path) for path in values.texts(value, kind)),
        "contents": _tables_of(converter, "partition.contents", declared.DeclaredContent),
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
        name = _key(kind, attribute.name)
        hook = special.get(attribute.name)
        overrides[attribute.name] = override(rename=name) if hook is None else override(rename=name, struct_hook=hook)
    structure = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **overrides)

    def checked(value: Any, target: type[Any]) -> Any:
        if not isinstance(value, dict):
            raise Problem(f"{value!r} is not a table")
        return structure(value, target)

    converter.register_structure_hook(kind, checked)


def _key(kind: type[Any], attribute: str) -> str:
    """The key in the file for an attribute: a root source has its first one under the source's own name."""
    if attribute in {"path", "suite"}:
        return next((name for name, source in _SOURCES.items() if source is kind), attribute)
    return attribute.replace("_", "-")


def _path(folder: Path, value: Any) -> Path:
    return folder / values.exactly(value, str)


def _tables_of(converter: Converter, key: str, kind: type[Any]) -> Callable[[Any, Any], tuple[Any, ...]]:
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


def _installer(value: Any, _kind: Any) -> model.Installer:
    """``"grub"``, or a table of one bootloader's name and what it has to be told: ``{ command = ["install"] }``."""
    allowed = " | ".join(_installer_forms())
    if isinstance(value, dict):
        if len(value) != 1:
            raise Problem("an installer that is a table has one key, the bootloader's name", allowed)
        name, argument = next(iter(value.items()))
    else:
        name, argument = value, None
    known = BOOTLOADERS.get(name) if isinstance(name, str) else None
    if known is None:
        raise Problem(f"{name!r} is not known{nearest(str(name), list(BOOTLOADERS))}", allowed)
    return model.Installer(name=known.name, arguments=_arguments(known, argument))


def _arguments(bootloader: Bootloader, value: Any) -> tuple[str, ...]:
    if bootloader.argument is Argument.NOTHING and value is None:
        return ()
    if bootloader.argument is Argument.PATH and isinstance(value, str) and value.startswith("/"):
        return (value,)
    if bootloader.argument is Argument.COMMAND and isinstance(value, list):
        return values.texts(value, None)
    raise Problem(f"'{bootloader.name}' is given {bootloader.argument.value} besides", _installer_form(bootloader))


def _installer_forms() -> list[str]:
    return [_installer_form(bootloader) for bootloader in BOOTLOADERS.values()]


def _installer_form(bootloader: Bootloader) -> str:
    examples = {Argument.PATH: '"/path"', Argument.COMMAND: '["..."]'}
    example = examples.get(bootloader.argument)
    return f"{{ {bootloader.name} = {example} }}" if example else bootloader.name


def _firmware(converter: Converter, folder: Path, value: Any) -> model.FirmwareChoice:
    if value == "auto":
        return model.AutoFirmware()
    if value == "secure-boot":
        return model.SecureBootFirmware()
    if isinstance(value, str):
        return model.DescriptorFirmware(path=folder / value)
    files: model.FirmwareFiles = converter.structure(value, model.FirmwareFiles)
    return files


def _leaves(error: BaseException, path: str) -> Iterator[tuple[str, BaseException]]:
    """Each innermost error with its key path, in the order of the keys."""
    if not isinstance(error, BaseExceptionGroup):
        yield path, error
        return
    for inner in error.exceptions:
        yield from _leaves(inner, path + _step(inner, error))


def _step(inner: BaseException, outer: BaseException) -> str:
    for note in getattr(inner, "__notes__", ()):
        if isinstance(note, IterableValidationNote) and isinstance(outer, IterableValidationError):
            return f"[{note.index}]"
        if isinstance(note, AttributeValidationNote) and isinstance(outer, ClassValidationError):
            return f".{_key(outer.cl, note.name)}"
    return ""


def _spec_error(origin: Path, key: str, problem: BaseException) -> SpecError:
    key = key.lstrip(".")
    if isinstance(problem, ForbiddenExtraKeysError):
        known = [_key(problem.cl, attribute.name) for attribute in fields(problem.cl)]
        extra = min(problem.extra_fields)
        where = f"{key}.{extra}" if key else extra
        what = f"unknown key '{extra}'{nearest(extra, known)}"
        return SpecError(what, origin=str(origin), key=where, allowed=", ".join(known))
    if isinstance(problem, KeyError):
        missing = str(problem.args[0])
        return SpecError(f"the key '{missing}' is missing", origin=str(origin), key=key)
    if isinstance(problem, Problem):
        return SpecError(problem.what, origin=str(origin), key=key, allowed=problem.allowed)
    return SpecError(str(problem), origin=str(origin), key=key)
