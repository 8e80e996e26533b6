"""Driven installs as definitions have them: ``[install]`` and ``[[dialogue]]``, read and checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from vmharness.errors import SpecError
from vmharness.model.dialogue import ENDED, WITHIN_SECONDS, End, Entry, InstallSpec, Network, Sight
from vmharness.model.image import AutoFirmware, ImageSpec
from vmharness.model.keys import key
from vmharness.model.partitions import SECTOR
from vmharness.plan.problem import Problem

LONGEST_NAME = 60
LONGEST_TEXT = 1000

_TABLES = frozenset({"image", "efi", "guest", "hooks", "install", "dialogue"})
_SIZES = ("partition-table", "additional-space", "boot-size")
_WAITING = ("expect", "screen", "display", "end")


@frozen(kw_only=True)
class InstallTable:
    """``[install]``, as it is written."""

    iso: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    kernel_parameters: tuple[str, ...] = ()
    display: bool = False
    network: Network = Network.NONE
    bios: bool = False
    dialogue: Path | None = None


@frozen(kw_only=True)
class EntryTable:
    """One ``[[dialogue]]``, as it is written."""

    name: str | None = None
    expect: str | None = None
    screen: str | None = None
    display: str | None = None
    end: End | None = None
    send: str = ""
    keys: tuple[str, ...] = ()
    within: float = WITHIN_SECONDS
    stop: bool = False


def check_alone(data: Mapping[str, Any], origin: str) -> None:
    """Refuse what says how an image is built in a definition that says how it is installed.

    :param data: the definition.
    :raises SpecError: naming the key.
    """
    if "install" not in data:
        raise SpecError("a dialogue needs an installer to talk to: [install]", origin=origin, key="dialogue")
    for name in data:
        if name not in _TABLES:
            raise SpecError(
                f"an installer makes what is on the disk: remove [{name}], or [install]",
                origin=origin,
                key=name,
                allowed=", ".join(sorted(_TABLES)),
            )
    for name in _SIZES:
        if name in data["image"]:
            raise SpecError("an installer divides the disk itself", origin=origin, key=f"image.{name}")


def install_of(install: InstallTable, entries: tuple[EntryTable, ...], origin: str) -> InstallSpec:
    """The driven install that the tables say.

    :raises SpecError: naming the key, and what is allowed.
    """
    found: list[Entry] = []
    for number, table in enumerate(entries):
        entry = entry_of(table, number, origin)
        names = {other.name for other in found}
        if table.name is None:
            entry = evolve(entry, name=free_name(entry.name, names))
        elif entry.name in names:
            raise SpecError("another entry has the same name", origin=origin, key=f"dialogue[{number}].name")
        found.append(entry)
    if found and found[-1].sight is not Sight.END:
        found.append(evolve(ENDED, name=free_name(ENDED.name, {entry.name for entry in found})))
    return InstallSpec(
        iso=install.iso,
        kernel=install.kernel,
        initrd=install.initrd,
        kernel_parameters=install.kernel_parameters,
        display=install.display,
        network=install.network,
        bios=install.bios,
        script=install.dialogue,
        dialogue=tuple(found),
    )


def entry_of(table: EntryTable, number: int, origin: str) -> Entry:
    """The entry that a table says.

    :param number: the table's, from 0 on.
    :raises SpecError: naming the key, and what is allowed.
    """
    try:
        return _entry(table)
    except Problem as error:
        raise SpecError(error.what, origin=origin, key=f"dialogue[{number}]", allowed=error.allowed) from error


def to_toml(entry: Entry, time_scale: float) -> str:
    """An entry as a definition has it.

    :param time_scale: what its deadline was multiplied by.
    """
    lines = ["[[dialogue]]", f"name = {_quoted(entry.name)}"]
    if entry.sight is not Sight.NOTHING:
        lines.append(f"{entry.sight.value} = {_quoted(entry.expected)}")
    if entry.send:
        lines.append(f"send = {_quoted(entry.send)}")
    if entry.keys:
        lines.append(f"keys = [{', '.join(map(_quoted, entry.keys))}]")
    lines.append(f"within = {entry.deadline / time_scale:g}")
    if entry.stop:
        lines.append("stop = true")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def free_name(name: str, taken: set[str]) -> str:
    """A name that no other entry has."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def default_name(sight: Sight, expected: str, send: str, keys: tuple[str, ...]) -> str:
    """What an entry is called that was not given a name."""
    text = expected or send or " ".join(keys)
    words = f"{sight.value or ('keys' if keys else 'send')} {text}"
    return "".join(letter if letter.isprintable() else " " for letter in words).strip()[:LONGEST_NAME].rstrip()


def check_entry(entry: Entry) -> None:
    """Refuse an entry that cannot be meant.

    :raises Problem: with a sentence.
    """
    problem = next(_problems(entry), None)
    if problem is not None:
        raise Problem(*problem)


def check_install(spec: ImageSpec) -> None:
    """Check a driven install.

    :raises SpecError: naming the key, and what is allowed.
    """
    install, origin = spec.install, str(spec.origin)
    assert install is not None
    for name, what, allowed in _install_problems(spec, install):
        raise SpecError(what, origin=origin, key=name, allowed=allowed)
    for number, entry in enumerate(install.dialogue):
        if entry.sight is Sight.END and number + 1 < len(install.dialogue):
            raise SpecError("the machine's end is the last entry", origin=origin, key=f"dialogue[{number}].end")
        if entry.sight is Sight.DISPLAY and not install.display:
            raise SpecError(
                "the machine has no display to look at",
                origin=origin,
                key=f"dialogue[{number}].display",
                allowed="with install.display = true",
            )


def _entry(table: EntryTable) -> Entry:
    given = [name for name in _WAITING if getattr(table, name) is not None]
    if len(given) > 1:
        raise Problem(f"an entry waits for one thing; given: {', '.join(given)}", " | ".join(_WAITING))
    sight = Sight(given[0]) if given else Sight.NOTHING
    expected = getattr(table, given[0]) if given else ""
    if isinstance(expected, End):
        expected = expected.value
    elif given and not expected:
        raise Problem(f"what is to be seen is empty: {given[0]}")
    entry = Entry(
        name=default_name(sight, expected, table.send, table.keys) if table.name is None else table.name,
        sight=sight,
        expected=expected,
        send=table.send,
        keys=table.keys,
        deadline=table.within,
        stop=table.stop,
    )
    check_entry(entry)
    return entry


def _problems(entry: Entry) -> Iterator[tuple[str, str]]:
    name = entry.name
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > LONGEST_NAME + 10:
        yield f"{name!r} cannot be a name", f"a line of text, at most {LONGEST_NAME} characters"
    if entry.send and entry.keys:
        yield "an entry does one thing; given: send, keys", "send | keys"
    if len(entry.expected) > LONGEST_TEXT or len(entry.send) > LONGEST_TEXT:
        yield "a text is too long", f"at most {LONGEST_TEXT} characters"
    yield from _key_problems(entry.keys)
    acts = bool(entry.send or entry.keys or entry.stop)
    if entry.sight is Sight.NOTHING and not acts:
        yield "the entry waits for nothing and does nothing", " | ".join((*_WAITING, "send", "keys", "stop"))
    elif entry.sight is Sight.END:
        yield from _end_problems(entry.expected, acts=acts)
    elif entry.sight is not Sight.NOTHING:
        yield from _pattern_problems(entry.expected)


def _end_problems(expected: str, *, acts: bool) -> Iterator[tuple[str, str]]:
    ends = [end.value for end in End]
    if acts:
        yield "there is nothing to do when the machine has ended", "end with a name and within"
    if expected not in ends:
        yield f"{expected!r} is no end of a machine", " | ".join(ends)


def _key_problems(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            key(name)
        except ValueError as error:
            yield str(error), ""


def _pattern_problems(pattern: str) -> Iterator[tuple[str, str]]:
    try:
        found = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        meant = "a backslash before each of ()[]{}?*+.^$| that is meant as itself"
        yield f"{pattern!r} is no regular expression: {error}", meant
        return
    if found.search(""):
        yield f"{pattern!r} matches where there is nothing, so it would wait for nothing", ""


def _install_problems(spec: ImageSpec, install: InstallSpec) -> Iterator[tuple[str, str, str]]:
    """Key, sentence and what is allowed, of everything that is wrong."""
    if (install.iso is None) == (install.kernel is None):
        given = "neither is given" if install.iso is None else "both are given"
        yield "install", f"an installer is an ISO image or a kernel, and {given}", "iso | kernel with initrd"
    if (install.kernel is None) != (install.initrd is None):
        yield "install", "kernel and initrd go together: give both or neither", ""
    if install.kernel_parameters and install.kernel is None:
        yield "install.kernel-parameters", "an ISO image starts its kernel itself", "with install.kernel"
    if bool(install.dialogue) == (install.script is not None):
        given = "both are given" if install.dialogue else "there is none"
        yield "install", f"an install is driven by one dialogue, and {given}", "[[dialogue]] | dialogue = a Python file"
    if spec.size is None:
        yield "image.size", "an installer needs a disk of a size that is given", '"4G" and the like'
    elif spec.size % SECTOR or spec.size < SECTOR:
        yield "image.size", f"{spec.size} bytes are no whole number of sectors", f"multiples of {SECTOR}"
    if install.bios and not isinstance(spec.efi.firmware, AutoFirmware):
        yield "efi.firmware", "a machine with a BIOS has no UEFI firmware", "without install.bios"
    if install.bios and spec.efi.touch_variables:
        yield "efi.touch-variables", "a machine with a BIOS has no EFI variables", "without install.bios"
