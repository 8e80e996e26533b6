"""Nothing twice: what a build would make may be there, at its place or where an earlier build published it."""

from __future__ import annotations

import hashlib
import json
from functools import cache as once
from pathlib import Path

from attrs import evolve

from vmharness.disk import image
from vmharness.errors import SpecError
from vmharness.events import Published
from vmharness.flows import hooks
from vmharness.flows.outputs import BUILD_PRODUCTS, list_for_hydra
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run
from vmharness.host import cache, publish
from vmharness.host.published import read_manifest
from vmharness.model import manifest
from vmharness.model.image import ImageSpec
from vmharness.model.key_folder import NAMES, KeyFolder
from vmharness.plan import stored

_KIND = "image"
_PACKAGE = Path(__file__).resolve().parent.parent


def inputs_of(prepared: Prepared) -> str:
    """The content id of everything that decides what a build makes."""
    plan = prepared.plan
    facts = {
        "plan": stored.to_json(evolve(plan, accelerator=evolve(plan.accelerator, reason=""))),
        "seed": prepared.seed,
        "contents": cache.digest_of(prepared.contents.archive) if prepared.contents else "",
        "appliance": prepared.appliance.identity if prepared.appliance is not None else "",
        "firmware": [
            cache.remembered_digest(path)
            for path in ((plan.firmware.code, plan.firmware.template) if plan.firmware is not None else ())
        ],
        "hooks": hooks.inputs(plan.spec),
        "keys": _keys(plan.spec),
        "media": [file.sha256 for file in prepared.media],
        "tools": dict(prepared.tools),
        "vmharness": _own_digest(),
    }
    return cache.key_of(facts)


def current(output: Path, inputs: str) -> manifest.Manifest | None:
    """The manifest of ``output`` if it was made from these inputs and its files look untouched; None otherwise.

    Files are known by size and by not being newer than the manifest, which is written last; ``inspect`` reads them.
    """
    try:
        made = read_manifest(output)
        written = (output / manifest.MANIFEST_NAME).stat().st_mtime_ns
        for file in made.files:
            status = (output / file.name).stat()
            if status.st_size != file.size or status.st_mtime_ns > written:
                return None
    except (SpecError, OSError):
        return None
    return made if made.inputs == inputs else None


def remember(output: Path, inputs: str) -> None:
    """Note where the image of these inputs was published."""

    def note(folder: Path) -> None:
        (folder / "published").write_text(json.dumps({"output": str(output.absolute())}))

    place = cache.root() / _KIND / inputs
    if published_at(inputs) != output.absolute():
        cache.discard(place)
        cache.entry(_KIND, inputs, note)


def published_at(inputs: str) -> Path | None:
    """Where an earlier build published the image of these inputs, or None."""
    place = cache.existing(cache.root() / _KIND / inputs)
    return Path(json.loads((place / "published").read_text())["output"]) if place is not None else None


def copied(inputs: str, output: Path, run: Run) -> manifest.Manifest | None:
    """Publish a copy of what an earlier build made from the same inputs; None if there is none that is intact."""
    source = published_at(inputs)
    made = current(source, inputs) if source is not None else None
    if source is None or made is None or source == output.absolute():
        return None
    with run.part("copy the image that is there already"), publish.published(output) as folder:
        for file in made.files:
            image.clone(source / file.name, folder / file.name)
            if cache.digest_of(folder / file.name) != file.sha256:
                run.note(f"{source / file.name} is not what was published there; the image is built anew")
                return None
        if (source / BUILD_PRODUCTS).is_file():
            list_for_hydra(made, folder, output)
        image.clone(source / manifest.MANIFEST_NAME, folder / manifest.MANIFEST_NAME)
    run.emit(Published(directory=output.absolute(), files=tuple(file.name for file in made.files)))
    return made


def _keys(spec: ImageSpec) -> list[str]:
    """What given keys decide about an image: their certificates' digests."""
    if spec.secure_boot.keys is None:
        return []
    folder = KeyFolder(path=spec.secure_boot.keys)
    return [cache.digest_of(folder.certificate(name)) for name in NAMES]


@once
def _own_digest() -> str:
    """Digest of the program itself: another version may make another image."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(_PACKAGE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
