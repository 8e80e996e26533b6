"""The pieces of a container image: named by descriptors, checked before they are used."""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import frozen

from vmharness.tree.blobs import Blob, Store

AGAIN = "export the image again; this copy is damaged"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_LARGEST_JSON = 16 << 20


class BadImage(Exception):
    """The image cannot be used: a sentence, and what to do."""

    def __init__(self, what: str, hint: str = AGAIN) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@frozen(kw_only=True)
class Part:
    """A piece of an image: its name in the store, and the digest and size that it must have where they are known."""

    name: str
    digest: str = ""
    size: int | None = None
    elsewhere: bool = False

    @property
    def label(self) -> str:
        """A short name for messages."""
        return f"{self.digest[:19]}..." if self.digest else repr(self.name)


def verified(store: Store, part: Part) -> Blob:
    """A piece of an image that has the size and the digest that it must have.

    :raises BadImage: it has not, or is not there.
    :raises OSError: it cannot be read.
    """
    blob = find(store, part.name)
    if blob is None and part.elsewhere:
        raise BadImage(
            f"the layer {part.label} is not in the image, since it may not be distributed (a foreign layer)",
            "export the image with a tool that fetches such layers too, or build it on a base without them",
        )
    if blob is None:
        raise BadImage(f"the blob {part.label} is missing", "export the image again, with all of its layers")
    if part.size is not None and blob.size != part.size:
        raise BadImage(f"the blob {part.label} has {blob.size} bytes, and {part.size} are announced")
    algorithm, _, expected = part.digest.partition(":")
    if expected and blob.digest(algorithm) != expected:
        raise BadImage(f"the blob {part.label} has another digest than its name says")
    return blob


def descriptor(value: Any, place: str) -> tuple[Part, str]:
    """A descriptor's blob and media type.

    :param place: what holds the descriptor, for messages.
    :raises BadImage: it is none.
    """
    if not isinstance(value, dict):
        raise BadImage(f"{place}: a descriptor is not an object")
    size, kind = value.get("size"), value.get("mediaType")
    digest = checked_digest(value.get("digest"), place)
    if type(size) is not int or size < 0 or not isinstance(kind, str):
        raise BadImage(f"{place}: the descriptor of {digest[:19]}... lacks a size or a media type")
    algorithm, _, text = digest.partition(":")
    return Part(name=f"blobs/{algorithm}/{text}", digest=digest, size=size), kind


def checked_digest(value: Any, place: str) -> str:
    """A digest that ``place`` holds.

    :raises BadImage: it is none, or by an algorithm that is not known.
    """
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise BadImage(f"{place}: {value!r} is not a digest by sha256 or sha512", "export the image with such digests")
    return value


def list_in(values: dict[str, Any], key: str, place: str) -> list[Any]:
    """The list under a key of the JSON object ``place``.

    :raises BadImage: there is none.
    """
    found = values.get(key)
    if not isinstance(found, list):
        raise BadImage(f"{place}: '{key}' is not a list")
    return found


def read_json(store: Store, part: Part, kind: type[Any]) -> Any:
    """A piece's JSON value, which must be a ``dict`` or a ``list``, as ``kind`` says.

    :raises BadImage: it is not, or not what its digest says.
    :raises OSError: it cannot be read.
    """
    blob = verified(store, part)
    if blob.size > _LARGEST_JSON:
        raise BadImage(f"{part.label} has {blob.size} bytes, too many for what it should be")
    try:
        value = json.loads(blob.read(blob.size))
    except (ValueError, RecursionError) as error:
        raise BadImage(f"{part.label} is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise BadImage(f"{part.label} is not a JSON {'object' if kind is dict else 'list'}")
    return value


def find(store: Store, name: str) -> Blob | None:
    """The piece of a name that an image gives it; None if it is not there.

    :raises BadImage: the name leads outside.
    """
    try:
        return store.find(name)
    except ValueError as error:
        raise BadImage(f"the name {name!r} {error}") from error
