"""From a TOML definition to an ``ImageSpec``, with errors that name the key and what is allowed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, fields
from cattrs import ClassValidationError, IterableValidationError
from cattrs.errors import AttributeValidationNote, BaseValidationError, ForbiddenExtraKeysError, IterableValidationNote

from vmharness.errors import SpecError
from vmharness.model import image as model
from vmharness.model import sources
from vmharness.model.dialogue import Entry
from vmharness.plan.checks import check
from vmharness.plan.dialogue import EntryTable, check_alone, entry_of, install_of
from vmharness.plan.document import Document, converter_for, key_of, tables_of
from vmharness.plan.partition_checks import check_mixture
from vmharness.plan.problem import Problem, nearest


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
        document = converter_for(origin.absolute().parent).structure(data, Document)
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
        kind = tables_of(converter_for(origin.absolute().parent), "dialogue", EntryTable)
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


def _installed(document: Document, data: Mapping[str, Any], origin: Path) -> model.ImageSpec:
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


def _with_defaults(document: Document, data: Mapping[str, Any]) -> Document:
    """What follows from the rest: a Nix closure's label is NixOS' own, a store alone has no partitions."""
    root, image, nix = document.root, document.image, document.nix
    if isinstance(root.source, sources.NixSource) and "label" not in data["root"]:
        root = evolve(root, label="nix-store" if nix.store_only else "nixos")
    if nix.store_only and "partition-table" not in data["image"]:
        image = evolve(image, partition_table=model.PartitionTable.NONE)
    if document.partition:
        image = evolve(image, partition_table=model.PartitionTable.DECLARED)
    return evolve(document, root=root, image=image)


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
            return f".{key_of(outer.cl, note.name)}"
    return ""


def _spec_error(origin: Path, key: str, problem: BaseException) -> SpecError:
    key = key.lstrip(".")
    if isinstance(problem, ForbiddenExtraKeysError):
        known = [key_of(problem.cl, attribute.name) for attribute in fields(problem.cl)]
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
