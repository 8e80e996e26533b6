"""The root source ``oci``: a container image, from an image layout or an archive of ``docker save``."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from vmharness.errors import HostError, SpecError
from vmharness.host import proc
from vmharness.model.results import StagedTree
from vmharness.model.sources import OciSource
from vmharness.tree.blobs import Store, open_store, plain_bytes
from vmharness.tree.images import Contents, Image, Platform, images
from vmharness.tree.layers import Layer, apply_layers
from vmharness.tree.pieces import AGAIN, BadImage, Part, verified
from vmharness.tree.staging import filled
from vmharness.tree.stream import Stream, compression_of, decompressor
from vmharness.tree.unpack import Damaged, Refused

KEY = "root.source.oci"
_PLATFORM = "root.source.platform"
_REFERENCE = "root.source.reference"
# the specification takes Go's names (OCI image index, "platform")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm", "loongarch64": "loong64"}


def stage_oci(source: OciSource, *, origin: str) -> StagedTree:
    """Lay an image's layers over each other in the cache, where the tree is found again by their digests.

    :param origin: the definition file, for messages.
    :raises SpecError: the image is missing or damaged, none or several fit, or its layers cannot be unpacked.
    :raises HostError: a decompressor is missing, or the cache cannot be written.
    """
    path = source.path
    try:
        store = _open(path)
        image = choose(list(images(store)), source, origin=origin)
        contents = image.contents()
        return filled(
            {"oci": contents.diff_ids},
            lambda data, database: apply_layers(_layers(store, contents), data, database),
            what=str(path),
            origin=origin,
            key=KEY,
        )
    except BadImage as error:
        raise SpecError(f"{path}: {error.what}", hint=error.hint, origin=origin, key=KEY) from error
    except (Damaged, Refused) as error:
        raise SpecError(f"{path}: {error}", hint=AGAIN, origin=origin, key=KEY) from error
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}", origin=origin, key=KEY) from error


def choose(found: Sequence[Image], source: OciSource, *, origin: str) -> Image:
    """The one image that is meant.

    :raises SpecError: none or several fit; it lists what there is.
    """
    wanted = _platform(source.platform, origin=origin)
    named = [image for image in found if _is_called(image, source.reference)]
    if not named:
        what = f"{source.path} holds no image '{source.reference}'" if found else f"{source.path} holds no image"
        raise SpecError(what, origin=origin, key=_REFERENCE if found else KEY, allowed=_listed(_labels(found)))
    fitting = [image for image in named if _fits(image.platform, wanted)]
    exact = [image for image in fitting if image.platform == wanted] or fitting
    if not exact:
        what = f"{source.path} has no image for {wanted}"
        allowed = _listed(str(image.platform) for image in named)
        raise SpecError(what, origin=origin, key=_PLATFORM, allowed=allowed)
    if len(exact) > 1:
        platforms = sorted({str(image.platform) for image in exact})
        key, several = (_PLATFORM, platforms) if len(platforms) > 1 else (_REFERENCE, _labels(exact))
        what = f"{source.path} holds {len(exact)} images that fit; say which one is meant"
        raise SpecError(what, origin=origin, key=key, allowed=_listed(several))
    return exact[0]


def _open(path: Path) -> Store:
    if not path.exists():
        raise BadImage("does not exist", "give the path of an OCI image layout or of an archive of 'docker save'")
    program = None if path.is_dir() else compression_of(path)
    if program is not None:
        proc.require(program)
    try:
        return open_store(path)
    except HostError as error:
        if program is not None and f": {program} " in error.what:
            raise BadImage(f"is damaged: {error.what}") from error
        raise


def _layers(store: Store, contents: Contents) -> Iterator[Layer]:
    """The layers, each checked before it is unpacked."""
    for number, (part, diff_id) in enumerate(zip(contents.layers, contents.diff_ids, strict=True), 1):
        name = f"layer {number} of {len(contents.layers)} ({part.label})"
        yield Layer(name=name, open=partial(_plain, store, part, diff_id))


@contextmanager
def _plain(store: Store, part: Part, diff_id: str) -> Iterator[Stream]:
    """A layer's plain bytes, which must have the digest that the image's configuration states."""
    blob = verified(store, part)
    algorithm, _, expected = diff_id.partition(":")
    digest = hashlib.new(algorithm)
    program = decompressor(blob.read(8))
    if program is not None:
        proc.require(program)
    try:
        with plain_bytes(blob, digest, what=f"the layer {part.label}") as stream:
            yield stream
    except HostError as error:
        if program is not None and f": {program} " in error.what:
            raise Damaged(f"is damaged: {error.what}") from error
        raise
    if digest.hexdigest() != expected:
        raise Damaged(f"has another content than the image's configuration states ({diff_id[:19]}...)")


def _platform(text: str, *, origin: str) -> Platform:
    if not text:
        machine = platform.machine()
        return Platform(system="linux", architecture=_ARCHITECTURES.get(machine, machine))
    parts = text.split("/")
    if len(parts) not in {2, 3} or not all(parts):
        allowed = "linux/amd64, linux/arm/v7 and the like"
        raise SpecError(f"{text!r} is not a platform", origin=origin, key=_PLATFORM, allowed=allowed)
    return Platform(system=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else "")


def _fits(offered: Platform, wanted: Platform) -> bool:
    if (offered.system, offered.architecture) != (wanted.system, wanted.architecture):
        return False
    # 64-bit Arm has had one variant so far, and it is often left out
    known = offered.variant or ("v8" if offered.architecture == "arm64" else "")
    return wanted.variant in {"", known}


def _is_called(image: Image, reference: str) -> bool:
    """Whether an image has a name, in full or without the registry and the folders in front, or a digest."""
    return (
        not reference
        or reference == image.digest
        or any(name == reference or name.endswith(f"/{reference}") for name in image.names)
    )


def _labels(found: Sequence[Image]) -> list[str]:
    """What to ask for to get each image: its first name that no other has, or its digest."""
    every = [name for image in found for name in image.names]
    return [next((name for name in image.names if every.count(name) == 1), image.digest) for image in found]


def _listed(items: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(sorted(set(items)))
