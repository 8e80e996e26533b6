"""Container images made by plain tarfile and json code, in every form in which they are found."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from attrs import field, frozen

Member = tuple[tarfile.TarInfo, bytes]
Descriptor = dict[str, Any]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **facts: Any) -> Member:
    """A member and its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **facts: Any) -> Member:
    """A directory's member."""
    return member(name, tarfile.DIRTYPE, **{"mode": 0o755, **facts})


def layer(*members: Member) -> bytes:
    """A layer's plain bytes."""
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, BytesIO(data))
    return file.getvalue()


def zstd(data: bytes) -> bytes:
    """Data packed by the program zstd."""
    return subprocess.run(["zstd", "-c"], input=data, check=True, capture_output=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "+gzip": lambda data: gzip.compress(data, mtime=0),
    "+zstd": zstd,
}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """A digest as images write it."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@frozen(kw_only=True)
class Blobs:
    """An image layout under construction: files by name."""

    files: dict[str, bytes] = field(factory=lambda: {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'})

    def add(self, data: bytes, kind: str, *, algorithm: str = "sha256", **more: Any) -> Descriptor:
        """Add a blob; gives its descriptor."""
        digest = digest_of(data, algorithm)
        self.files[f"blobs/{digest.replace(':', '/')}"] = data
        return {"mediaType": kind, "digest": digest, "size": len(data), **more}

    def add_json(self, value: Any, kind: str, **more: Any) -> Descriptor:
        """Add a blob of JSON."""
        return self.add(json.dumps(value).encode(), kind, **more)

    def image(
        self, layers: Sequence[bytes], *, packing: str = "", platform: str = "linux/amd64", algorithm: str = "sha256"
    ) -> Descriptor:
        """Add an image of plain layers; gives its manifest's descriptor, without a platform."""
        system, architecture, *variant = platform.split("/")
        config: dict[str, Any] = {"os": system, "architecture": architecture}
        config |= {"variant": variant[0]} if variant else {}
        config["rootfs"] = {"type": "layers", "diff_ids": [digest_of(data, algorithm) for data in layers]}
        manifest = {
            "schemaVersion": 2,
            "config": self.add_json(config, CONFIG, algorithm=algorithm),
            "layers": [self.add(PACKERS[packing](data), LAYER + packing, algorithm=algorithm) for data in layers],
        }
        return self.add_json(manifest, MANIFEST, algorithm=algorithm)

    def index(self, *manifests: Descriptor) -> None:
        """Write the index of the whole."""
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()

    def to_folder(self, place: Path) -> Path:
        """Write everything as files."""
        for name, data in self.files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
        return place

    def to_archive(self, place: Path, *, pack: Callable[[bytes], bytes] = PACKERS[""]) -> Path:
        """Write everything as an archive."""
        place.write_bytes(pack(layer(*(member(name, data=data) for name, data in self.files.items()))))
        return place


def layout(place: Path, *layers: bytes, packing: str = "", archive: bool = False) -> Path:
    """A layout of one image."""
    blobs = Blobs()
    blobs.index(blobs.image(layers, packing=packing))
    return blobs.to_archive(place) if archive else blobs.to_folder(place)


def saved(*images: tuple[str, Sequence[bytes]]) -> list[Member]:
    """What ``docker save`` wrote before its version 25: names and layers; a layer seen before is a link."""
    members: dict[str, Member] = {}
    entries = []
    for tag, layers in images:
        diff_ids = [digest_of(data) for data in layers]
        config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        members[name] = member(name, data=config)
        names = []
        for number, data in enumerate(layers):
            first = f"{hashlib.sha256(data).hexdigest()}/layer.tar"
            if first not in members:
                members[first] = member(first, data=data)
                names.append(first)
            else:
                link = f"{tag.replace(':', '-')}-{number}/layer.tar"
                members[link] = member(link, tarfile.SYMTYPE, linkname=f"../{first}")
                names.append(link)
        entries.append({"Config": name, "RepoTags": [tag], "Layers": names})
    return [*members.values(), member("manifest.json", data=json.dumps(entries).encode())]
