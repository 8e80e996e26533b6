"""The outputs of a build: image, variable store, transcript and manifest, published as one folder in one rename."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vmharness import __version__
from vmharness.disk import efivars, image
from vmharness.events import Published
from vmharness.flows import definition, hooks
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run
from vmharness.host import cache, publish
from vmharness.model import manifest
from vmharness.model.firmware import Firmware
from vmharness.model.image import Format
from vmharness.model.variable_records import decode
from vmharness.plan import identity

EXTENSIONS = {
    Format.RAW: ".img",
    Format.QCOW2: ".qcow2",
    Format.QCOW2_COMPRESSED: ".qcow2",
    Format.VDI: ".vdi",
    Format.VPC: ".vhd",
}
VARIABLES_NAME = "efi-vars.fd"
TRANSCRIPT_NAME = "transcript.log"
BUILD_PRODUCTS = Path("nix-support/hydra-build-products")


def deliver(prepared: Prepared, output: Path, inputs: str, run: Run) -> manifest.Manifest:
    """Convert, digest, and publish as one folder in one rename.

    :param inputs: content id of the build, for the manifest.
    """
    plan = prepared.plan
    name = plan.spec.stem + EXTENSIONS[plan.spec.format]
    with publish.published(output) as folder:
        with run.part(f"write the {plan.spec.format.value} image"):
            identifier = identity.image_file(prepared.seed)
            image.deliver(run.directory.finished, folder / name, plan.spec.format, identifier)
        names = {name: "image"}
        if plan.machine is not None:
            names[TRANSCRIPT_NAME] = "transcript"
            _copy_synced(run.directory.transcript, folder / TRANSCRIPT_NAME)
        if plan.spec.efi.touch_variables:
            names[VARIABLES_NAME] = "efi-variables"
            _copy_synced(run.directory.variables, folder / VARIABLES_NAME)
        for path, role in prepared.key_files.items():
            names[path.name] = role
            _copy_synced(path, folder / path.name, mode=path.stat().st_mode & 0o777)
        if prepared.repairs is None:  # in a session the definition may be a stranger's
            hooks.after_build(plan.spec, folder, name, VARIABLES_NAME if VARIABLES_NAME in names else None, run)
        names |= {path.name: "extra" for path in sorted(folder.iterdir()) if path.name not in names}
        with run.part("write the manifest"):
            files = tuple(_output_file(role, folder / file) for file, role in names.items())
            made = _manifest(prepared, _by_role(files), folder, inputs, run)
            if plan.spec.hydra_build_products:
                list_for_hydra(made, folder, output)
            _write_synced(folder / manifest.MANIFEST_NAME, manifest.to_json(made))
    run.emit(Published(directory=output.absolute(), files=(*names, manifest.MANIFEST_NAME)))
    return made


def list_for_hydra(made: manifest.Manifest, folder: Path, output: Path) -> None:
    """Write the file by which Hydra, the Nix continuous integration system, finds the image.

    It takes absolute paths only, so the file belongs to the folder's place and is not in the manifest.

    :param folder: where the outputs are now, and ``output`` where they will be.
    """
    image_file = made.file("image")
    assert image_file is not None
    path = folder / BUILD_PRODUCTS
    path.parent.mkdir()
    _write_synced(path, f'file {made.format.driver}-image "{output.resolve() / image_file.name}"\n')


def _by_role(files: tuple[manifest.OutputFile, ...]) -> tuple[manifest.OutputFile, ...]:
    return tuple(sorted(files, key=lambda file: (file.role, file.name)))


def _manifest(
    prepared: Prepared, files: tuple[manifest.OutputFile, ...], folder: Path, inputs: str, run: Run
) -> manifest.Manifest:
    plan, spec = prepared.plan, prepared.plan.spec
    store = efivars.read_store(folder / VARIABLES_NAME) if spec.efi.touch_variables else None
    variables = tuple(decode(variable) for variable in store.variables) if store is not None else None
    return manifest.Manifest(
        vmharness=__version__,
        name=spec.name,
        inputs=inputs,
        definition=manifest.SourceFile(path=spec.origin, sha256=definition.digest(spec.origin)),
        seed=prepared.seed,
        format=spec.format,
        files=files,
        table=plan.layout,
        variables=variables,
        firmware=firmware_identity(plan.firmware) if plan.firmware is not None else None,
        bootloader=spec.bootloader.install.name if spec.install is None else manifest.INSTALLER,
        media=prepared.media,
        kernel=plan.start.kernel.taken if plan.start is not None else None,
        accelerator=plan.accelerator.accelerator.value,
        tools=dict(prepared.tools),
        signed=prepared.signed,
        repaired=prepared.repairs is not None,
        repairs=prepared.repairs or (),
        steps=tuple(manifest.StepTime(step=step, seconds=round(took, 3)) for step, took in run.seconds.items()),
    )


def firmware_identity(firmware: Firmware) -> manifest.FirmwareIdentity:
    """A firmware with its files' digests."""
    return manifest.FirmwareIdentity(
        description=firmware.description,
        code=_source_file(firmware.code),
        template=_source_file(firmware.template),
        features=firmware.features,
    )


def _source_file(path: Path) -> manifest.SourceFile:
    return manifest.SourceFile(path=path, sha256=cache.digest_of(path))


def _output_file(role: str, path: Path) -> manifest.OutputFile:
    return manifest.OutputFile(role=role, name=path.name, size=path.stat().st_size, sha256=cache.digest_of(path))


def _copy_synced(source: Path, target: Path, mode: int = 0o666) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def _write_synced(target: Path, text: str) -> None:
    with target.open("x") as writer:
        writer.write(text)
        writer.flush()
        os.fsync(writer.fileno())
