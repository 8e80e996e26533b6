"""What a failure bundle holds: the files of a build that was stopped, with their sizes and digests.

``bundle.json`` is the first file of the archive and says all that follows. A bundle may come from a stranger, so it is
taken at its word in nothing: names are those of a fixed list, and sizes are bounds that the reader keeps to.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import Attribute, field, frozen

from vmharness.model import serial
from vmharness.model.record import RECORD_NAME, check_name
from vmharness.model.sizes import MIB, TIB

INDEX_NAME = "bundle.json"
SUFFIX = ".vmbundle"
SCHEMA = 1
LARGEST_INDEX = 4 * MIB
"""Bytes that ``bundle.json`` has at most."""
PLAN_NAME = "plan.json"

_WORD = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}"
_NAMES = re.compile(
    "|".join(
        (
            r"(?:record|plan)\.json",
            r"definition\.toml",
            r"(?:console|steps|qmp)\.log",
            r"(?:commands?|terminal)\.raw",
            r"events\.jsonl",
            r"qemu\.(?:argv|stderr)",
            r"appliance/(?:kernel|initramfs)",
            r"(?:disk|tree)\.raw",
            r"contents\.tar",
            r"installer\.iso",
            r"efi-vars\.fd",
            rf"layers/{_WORD}\.qcow2",
            rf"guest-scripts/{_WORD}",
            # called as the definition's steps are, which is as people like it
            r"scripts/(?!\.{1,2}\Z)[^/]{1,80}",
            rf"checkpoints/{_WORD}/(?:checkpoint\.json|state|console\.log|unread\.json|devices|memory|efi-vars\.fd|tpm/{_WORD})",
        )
    )
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST_FILE = 64 * TIB
_LARGEST_TEXT = 64 * MIB
"""Of what is read as a whole."""
_MOST_FILES = 10_000


def is_bundled(name: str) -> bool:
    """Whether a file of a run directory goes into a bundle; ``name`` is its path there, with slashes."""
    return _NAMES.fullmatch(name) is not None and name.isprintable()


def _check_name(_file: object, _attribute: Attribute[str], name: str) -> None:
    if not is_bundled(name):
        raise ValueError(f"{name[:80]!r} is no file of a bundle")


def _check_digest(_file: object, _attribute: Attribute[str], digest: str) -> None:
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError("a digest is none")


def _check_data(file: BundledFile, _attribute: Attribute[int], data: int) -> None:
    largest = _LARGEST_TEXT if file.name.endswith((".json", ".toml")) else _LARGEST_FILE
    if not 0 <= data <= file.size <= largest:
        raise ValueError(f"{file.name} has a size that no file has")


@frozen(kw_only=True)
class BundledFile:
    """One file of a bundle.

    :param name: its path in the run directory.
    :param size: bytes, with its holes.
    :param data: bytes that it takes without its holes, at most.
    :param digest: of its content, as :func:`vmharness.host.sparse.digest` makes it.
    """

    name: str = field(validator=_check_name)
    size: int
    data: int = field(validator=_check_data)
    digest: str = field(validator=_check_digest)


def _check_files(_bundle: object, _attribute: Attribute[Any], files: tuple[BundledFile, ...]) -> None:
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise ValueError("a file is there twice")
    if len(names) > _MOST_FILES:
        raise ValueError("it has too many files")
    missing = {RECORD_NAME, PLAN_NAME} - set(names)
    if missing:
        raise ValueError(f"it has no {min(missing)}")


@frozen(kw_only=True)
class Bundle:
    """What a bundle holds, in the order in which it follows.

    :param name: the image's name.
    :param vmharness: version of the program that packed it.
    """

    schema: int = SCHEMA
    name: str = field(validator=check_name)
    vmharness: str
    files: tuple[BundledFile, ...] = field(validator=_check_files)

    @property
    def data(self) -> int:
        """Bytes that its files take on a disk, at most."""
        return sum(file.data for file in self.files)


def to_json(bundle: Bundle) -> str:
    """The index as text: keys in a fixed order, a final newline."""
    return json.dumps(_CONVERTER.unstructure(bundle), indent=1) + "\n"


def from_json(text: str) -> Bundle:
    """The index that ``text`` holds.

    :raises ValueError: with a sentence, if it is none of this format.
    """
    data = serial.document(text, what="the index of a failure bundle", schema=SCHEMA)
    return serial.structured(data, Bundle, _CONVERTER)


_CONVERTER = serial.make_converter()
