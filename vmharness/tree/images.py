"""What a store of container images holds: from its index to the pieces of each image, every digest checked.

Two forms are read: the OCI image layout (``index.json``, indexes in it, manifests), and what ``docker save`` writes
(``manifest.json``). Newer ``docker save`` writes both; the layout says more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen

from vmharness.tree.blobs import Store
from vmharness.tree.pieces import BadImage, Part, checked_digest, descriptor, find, list_in, read_json

_INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFESTS = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_CONFIGS = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
# what packed them is seen in their bytes
_LAYER = re.compile(
    r"application/vnd\.(oci\.image\.layer\.(?P<elsewhere>nondistributable\.)?v1\.tar(\+gzip|\+zstd)?"
    r"|docker\.image\.rootfs\.(?P<foreign>foreign\.)?diff\.tar(\.gzip|\.zstd)?)"
)
_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
_SAVED_CONFIG = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")
_DEEPEST = 8  # indexes in indexes


@frozen(kw_only=True)
class Platform:
    """What an image runs on, in the specification's words."""

    system: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.system, self.architecture, self.variant) if part)


@frozen(kw_only=True)
class Contents:
    """What makes an image's tree: its layers, the lowest first, and the digest of the plain bytes of each."""

    layers: tuple[Part, ...]
    diff_ids: tuple[str, ...]


@frozen(kw_only=True)
class Image:
    """One image of a store; ``contents`` reads more of it.

    :param names: under which it can be asked for.
    :param digest: of its manifest, or of its configuration where there is no manifest.
    """

    names: tuple[str, ...]
    digest: str
    platform: Platform
    contents: Callable[[], Contents]


def images(store: Store) -> Iterator[Image]:
    """Every image in a store, once each.

    :raises BadImage: the store is none, or is damaged.
    :raises OSError: it cannot be read.
    """
    found: dict[str, Image] = {}
    unknown: list[str] = []
    for image in _images(store, unknown):
        known = found.get(image.digest)
        names = (*known.names, *image.names) if known else image.names
        found[image.digest] = Image(
            names=tuple(dict.fromkeys(names)), digest=image.digest, platform=image.platform, contents=image.contents
        )
    if unknown and not found:
        raise BadImage(
            f"holds no container image, only {unknown[0]!r}", "export the image as an OCI image or with 'docker save'"
        )
    yield from found.values()


def _images(store: Store, unknown: list[str]) -> Iterator[Image]:
    if find(store, "index.json") is not None:
        index = read_json(store, Part(name="index.json"), dict)
        yield from _Indexes(store, unknown).images(index, "index.json", (), depth=0)
    elif find(store, "manifest.json") is not None:
        for entry in read_json(store, Part(name="manifest.json"), list):
            yield _saved(store, entry)
    else:
        old = find(store, "repositories") is not None
        raise BadImage(
            "has neither index.json nor manifest.json: it is no container image",
            "it was saved by a Docker before 1.10; save it again with a newer one"
            if old
            else "an OCI image layout or an archive of 'docker save' is wanted; for a plain tree use { tar = ... }",
        )


@frozen
class _Indexes:
    """The images of an index, and of the indexes in it; media types that are no images' go to ``unknown``."""

    store: Store
    unknown: list[str]

    def images(self, index: dict[str, Any], place: str, names: tuple[str, ...], *, depth: int) -> Iterator[Image]:
        if depth > _DEEPEST:
            raise BadImage(f"{place} is an index in an index, {_DEEPEST} deep")
        for entry in list_in(index, "manifests", place):
            part, kind = descriptor(entry, place)
            known = (*names, *_names(entry, place))
            if kind in _INDEXES:
                yield from self.images(read_json(self.store, part, dict), part.label, known, depth=depth + 1)
            elif kind in _MANIFESTS:
                image = _image(self.store, entry, part, known)
                if image is not None:
                    yield image
            else:
                self.unknown.append(kind)  # the specification: not an error by itself


def _names(entry: dict[str, Any], place: str) -> tuple[str, ...]:
    annotations = entry.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise BadImage(f"{place}: 'annotations' is not an object")
    return tuple(str(annotations[key]) for key in _NAMES if annotations.get(key))


def _image(store: Store, entry: dict[str, Any], part: Part, names: tuple[str, ...]) -> Image | None:
    """The image of a manifest; None for what is attached to one (signatures, attestations)."""
    stated = entry.get("platform")
    if isinstance(stated, dict):
        platform = _platform(stated)
    else:
        manifest = read_json(store, part, dict)
        config, kind = descriptor(manifest.get("config"), part.label)
        if kind not in _CONFIGS:
            return None
        platform = _platform(read_json(store, config, dict))
    if "unknown" in {platform.system, platform.architecture}:
        return None
    return Image(names=names, digest=part.digest, platform=platform, contents=lambda: _manifest_contents(store, part))


def _manifest_contents(store: Store, part: Part) -> Contents:
    manifest = read_json(store, part, dict)
    config, _kind = descriptor(manifest.get("config"), part.label)
    layers = tuple(_layer(entry, part.label) for entry in list_in(manifest, "layers", part.label))
    return _contents(store, config, layers)


def _saved(store: Store, entry: Any) -> Image:
    """An image of ``docker save``'s manifest.json."""
    place = "manifest.json"
    if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
        raise BadImage(f"{place}: an image without 'Config'")
    name = entry["Config"]
    match = _SAVED_CONFIG.fullmatch(name)
    config = Part(name=name, digest=f"sha256:{match[1]}" if match else "")
    layers = tuple(Part(name=str(layer)) for layer in list_in(entry, "Layers", place))
    tags = entry.get("RepoTags") or []
    return Image(
        names=tuple(map(str, tags)) if isinstance(tags, list) else (),
        digest=config.digest or name,
        platform=_platform(read_json(store, config, dict)),
        contents=lambda: _contents(store, config, layers),
    )


def _contents(store: Store, config: Part, layers: tuple[Part, ...]) -> Contents:
    values = read_json(store, config, dict)
    rootfs = values.get("rootfs")
    place = f"the configuration {config.label}"
    diff_ids = list_in(rootfs if isinstance(rootfs, dict) else {}, "diff_ids", place)
    if len(diff_ids) != len(layers) or not layers:
        raise BadImage(f"the manifest has {len(layers)} layers, and the configuration {len(diff_ids)}")
    return Contents(layers=layers, diff_ids=tuple(checked_digest(value, place) for value in diff_ids))


def _layer(entry: Any, place: str) -> Part:
    part, kind = descriptor(entry, place)
    match = _LAYER.fullmatch(kind)
    if match is None:
        raise BadImage(
            f"{place}: a layer has the media type {kind!r}, which is not known",
            "export the image with tar layers, plain or packed by gzip or zstd, and not encrypted",
        )
    return Part(
        name=part.name, digest=part.digest, size=part.size, elsewhere=bool(match["elsewhere"] or match["foreign"])
    )


def _platform(values: dict[str, Any]) -> Platform:
    return Platform(
        system=str(values.get("os") or "unknown"),
        architecture=str(values.get("architecture") or "unknown"),
        variant=str(values.get("variant") or ""),
    )
