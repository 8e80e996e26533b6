"""From a folder of systemd-repart's definition files to an ``ImageSpec`` (repart.d(5), systemd.syntax(7)).

Each file describes one partition; their names give the order. A folder ``NAME.conf.d`` holds drop-ins, which are read
after the file, sorted by name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from vmharness.errors import SpecError
from vmharness.model.declared import Copy, DeclaredPartition
from vmharness.model.image import EfiSpec, ImageSpec, PartitionTable
from vmharness.plan import partition_values as values
from vmharness.plan.checks import check
from vmharness.plan.problem import Problem, nearest

_TRUE, _FALSE = {"1", "yes", "y", "true", "t", "on"}, {"0", "no", "n", "false", "f", "off"}
_UNITS = {"": 1} | {unit: 1024 ** (power + 1) for power, unit in enumerate("KMGTPE")}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPE]?)B?")
_ONCE = {
    "Type", "Label", "UUID", "Priority", "Weight", "PaddingWeight", "SizeMinBytes", "SizeMaxBytes", "PaddingMinBytes",
    "PaddingMaxBytes", "CopyBlocks", "Format", "Minimize", "Flags", "NoAuto", "ReadOnly", "GrowFileSystem",
}  # fmt: skip
_SEVERAL = {"CopyFiles", "MakeDirectories"}
# Known to systemd-repart, and what they would need that is not done here; the value that asks for nothing.
_NOT_DONE = {
    "Encrypt": ("partitions are not encrypted here", "off"),
    "Verity": ("no Verity data are made here", "off"),
    "VerityMatchKey": ("no Verity data are made here", ""),
    "VerityDataBlockSizeBytes": ("no Verity data are made here", ""),
    "VerityHashBlockSizeBytes": ("no Verity data are made here", ""),
    "EncryptedVolume": ("partitions are not encrypted here", ""),
    "EncryptKDF": ("partitions are not encrypted here", ""),
    "KeyFile": ("partitions are not encrypted here", ""),
    "TPM2PCRs": ("partitions are not encrypted here", ""),
    "Integrity": ("no integrity data are made here", "off"),
    "IntegrityAlgorithm": ("no integrity data are made here", ""),
    "ExcludeFiles": ("files cannot be left out: copy what is wanted", ""),
    "ExcludeFilesTarget": ("files cannot be left out: copy what is wanted", ""),
    "MakeSymlinks": ("links are not made here: put them into a tree that is copied", ""),
    "Subvolumes": ("subvolumes are not made in declared partitions", ""),
    "DefaultSubvolume": ("subvolumes are not made in declared partitions", ""),
    "Compression": ("filesystems are not compressed in declared partitions", ""),
    "CompressionLevel": ("filesystems are not compressed in declared partitions", ""),
    "MountPoint": ("no fstab is made here", ""),
    "SupplementFor": ("partitions are not merged here", ""),
    "AddValidateFS": ("no such attributes are made here", "off"),
    "FileSystemSectorSizeBytes": ("sectors have 512 bytes here", ""),
}
# They matter to a running system or to other outputs; an image is the same with them.
_WITHOUT_EFFECT = {"FactoryReset", "SplitName"}
_KNOWN = _ONCE | _SEVERAL | _NOT_DONE.keys() | _WITHOUT_EFFECT
_FORMATS = {"fat": "vfat"}


@frozen(kw_only=True)
class DefinitionFile:
    """One definition file, or a drop-in of one: its path and text."""

    path: Path
    text: str


def load_repart(files: Mapping[str, list[DefinitionFile]], folder: Path, root: Path) -> ImageSpec:
    """The image that a folder of definition files declares.

    Its name is the folder's, without ``.d``; the disk is as large as the partitions need.

    :param files: by name, each with its drop-ins behind it.
    :param root: the directory that the files' absolute paths are relative to.
    :raises SpecError: naming the file, the line and the key, and what is allowed.
    """
    partitions = tuple(_partition(files[name], root) for name in sorted(files))
    folder = folder.absolute()
    name = folder.name.removesuffix(".d") or folder.name
    spec = ImageSpec(
        origin=folder,
        name=name,
        partition_table=PartitionTable.DECLARED,
        efi=EfiSpec(touch_variables=False),
        partitions=partitions,
    )
    check(spec)
    return spec


def _partition(files: list[DefinitionFile], root: Path) -> DeclaredPartition:
    settings: dict[str, list[str]] = {}
    for file in files:
        _read(file, settings)
    try:
        declared = _declared({key: given for key, given in settings.items() if given}, root)
    except _At as error:
        problem, origin = error.problem, str(files[0].path)
        raise SpecError(problem.what, origin=origin, key=error.key, allowed=problem.allowed) from error
    return evolve(declared, declared_in=files[0].path.name).completed()


class _At(Exception):
    """A problem with the value of a key."""

    def __init__(self, key: str, problem: Problem) -> None:
        super().__init__(key)
        self.key = key
        self.problem = problem


def _read(file: DefinitionFile, settings: dict[str, list[str]]) -> None:
    """Add the settings of one file to those before; an empty value takes them back."""
    section = ""
    for number, line in enumerate(_lines(file.text), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped.startswith("["):
            section = stripped
            if section != "[Partition]":
                raise _error(file, number, f"{section} is not a section of these files", "[Partition]")
            continue
        key, separator, value = (part.strip() for part in stripped.partition("="))
        if not separator or not section:
            raise _error(file, number, f"{stripped!r} is no setting of a section", "[Partition], then KEY=VALUE")
        if key not in _KNOWN:
            allowed = ", ".join(sorted(_ONCE | _SEVERAL))
            raise _error(file, number, f"unknown key '{key}'{nearest(key, _KNOWN)}", allowed)
        if key in _NOT_DONE and value.lower() not in {"", *_off(_NOT_DONE[key][1])}:
            raise _error(file, number, f"{key}={value}: {_NOT_DONE[key][0]}", f"{key} left out")
        if not value:
            settings[key] = []
        elif key in _SEVERAL:
            settings.setdefault(key, []).append(value)
        else:
            settings[key] = [value]


def _off(word: str) -> set[str]:
    return {word, *_FALSE} if word else set()


def _lines(text: str) -> list[str]:
    """The lines, with those joined that a backslash continues; their numbers stay right."""
    lines: list[str] = []
    pending, extra = "", 0
    for line in text.splitlines():
        if line.endswith("\\") and not line.lstrip().startswith(("#", ";")):
            pending, extra = pending + line[:-1] + " ", extra + 1
            continue
        lines += [pending + line, *[""] * extra]
        pending, extra = "", 0
    return [*lines, pending] if pending else lines


def _declared(given: Mapping[str, list[str]], root: Path) -> DeclaredPartition:
    def one(key: str, read: Any, default: Any = None) -> Any:
        if key not in given:
            return default
        try:
            return read(given[key][-1])
        except Problem as problem:
            raise _At(key, problem) from problem

    def each(key: str, read: Any) -> tuple[Any, ...]:
        try:
            return tuple(item for text in given.get(key, ()) for item in read(text))
        except Problem as problem:
            raise _At(key, problem) from problem

    return DeclaredPartition(
        type=one("Type", values.partition_type, values.partition_type("linux-generic")),
        label=one("Label", _plain),
        uuid=one("UUID", values.plain_uuid),
        filesystem=one("Format", lambda text: _FORMATS.get(text, text), ""),
        size_min=one("SizeMinBytes", _size),
        size_max=one("SizeMaxBytes", _size),
        weight=one("Weight", lambda text: values.weight(_number(text)), 1000),
        padding_min=one("PaddingMinBytes", _size, 0),
        padding_max=one("PaddingMaxBytes", _size),
        padding_weight=one("PaddingWeight", lambda text: values.weight(_number(text)), 0),
        priority=one("Priority", lambda text: values.priority(_number(text)), 0),
        minimize=one("Minimize", _minimize, values.minimize(value=False)),
        copies=each("CopyFiles", lambda text: [_copy(text, root)]),
        directories=each("MakeDirectories", lambda text: shlex.split(_plain(text))),
        copy_blocks=one("CopyBlocks", lambda text: root / _absolute(text).lstrip("/")),
        flags=one("Flags", lambda text: values.flags(_number(text)), 0),
        no_auto=one("NoAuto", _boolean),
        read_only=one("ReadOnly", _boolean),
        grow_file_system=one("GrowFileSystem", _boolean),
    )


def _copy(text: str, root: Path) -> Copy:
    source, _, rest = _plain(text).partition(":")
    target, _, options = rest.partition(":")
    if options:
        raise Problem(f"the options {options!r} are not supported", "SOURCE:TARGET")
    return Copy(root=root, source=_absolute(source), target=_absolute(target or source))


def _absolute(text: str) -> str:
    if not _plain(text).startswith("/"):
        raise Problem(f"{text!r} is not an absolute path", "a path that begins with '/'")
    return text


def _plain(text: str) -> str:
    """A text without specifiers, which stand for facts about the machine that runs systemd-repart."""
    if re.search(r"%[^%]", text):
        raise Problem(f"{text!r} has a specifier", "the text that it stands for; %% is a percent sign")
    return text.replace("%%", "%")


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise Problem(f"{text!r} is neither yes nor no", "yes | no")
    return text.lower() in _TRUE


def _minimize(text: str) -> Any:
    return values.minimize(_boolean(text) if text.lower() in _TRUE | _FALSE - {"off"} else text)


def _number(text: str) -> Any:
    try:
        return int(text, 0)
    except ValueError:
        return text


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = float(match[1]) * _UNITS[match[2]] if match else 0.5
    if not size.is_integer():
        raise Problem(f"{text!r} is not a size", "a number of bytes, or 512M, 4G and the like")
    return int(size)


def _error(file: DefinitionFile, line: int, what: str, allowed: str) -> SpecError:
    return SpecError(what, origin=f"{file.path}:{line}", allowed=allowed)
