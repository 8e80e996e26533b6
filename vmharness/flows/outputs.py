"""The outputs of a build: image, variable store, transcript and manifest, published as one folder in one rename."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from attrs import frozen

from vmharness import __version__
from vmharness.disk import efivars, image
from vmharness.events import Published
from vmharness.flows.run import Run
from vmharness.host import cache, publish
from vmharness.host.appliance import Appliance
from vmharness.model import manifest
from vmharness.model.facts import HostFacts
from vmharness.model.image import CommandInstaller, Format, Grub, ImageSpec, SystemdBoot
from vmharness.model.results import StagedContents, StagedTree
from vmharness.model.variables import decode
from vmharness.plan.make import Plan

EXTENSIONS = {Format.RAW: ".img", Format.QCOW2: ".qcow2"}
VARIABLES_NAME = "efi-vars.fd"
TRANSCRIPT_NAME = "transcript.log"


@frozen(kw_only=True)
class Prepared:
    """Everything that is known once nothing is left to decide."""

    plan: Plan
    seed: str
    facts: HostFacts
    tree: StagedTree
    contents: StagedContents | None
    appliance: Appliance
    resume: bool


def deliver(prepared: Prepared, output: Path, inputs: str, run: Run) -> manifest.Manifest:
    """Convert, digest, and publish as one folder in one rename.

    :param inputs: content id of the build, for the manifest.
    """
    plan = prepared.plan
    name = plan.spec.name + EXTENSIONS[plan.spec.format]
    with publish.published(output) as folder:
        with run.part(f"write the {plan.spec.format.value} image"):
            image.deliver(run.directory.disk, folder / name, plan.spec.format)
        names = {"image": name, "transcript": TRANSCRIPT_NAME}
        _copy_synced(run.directory.transcript, folder / TRANSCRIPT_NAME)
        if plan.spec.efi.touch_variables:
            names["efi-variables"] = VARIABLES_NAME
            _copy_synced(run.directory.variables, folder / VARIABLES_NAME)
        with run.part("write the manifest"):
            files = tuple(_output_file(role, folder / file) for role, file in sorted(names.items()))
            made = _manifest(prepared, files, inputs, run)
            _write_synced(folder / manifest.MANIFEST_NAME, manifest.to_json(made))
    run.emit(Published(directory=output.absolute(), files=(*names.values(), manifest.MANIFEST_NAME)))
    return made


def _manifest(prepared: Prepared, files: tuple[manifest.OutputFile, ...], inputs: str, run: Run) -> manifest.Manifest:
    plan, spec = prepared.plan, prepared.plan.spec
    store = efivars.read_store(run.directory.variables) if spec.efi.touch_variables else None
    variables = tuple(decode(variable) for variable in store.variables) if store is not None else None
    firmware = plan.firmware
    return manifest.Manifest(
        vmharness=__version__,
        name=spec.name,
        inputs=inputs,
        definition=_source_file(spec.origin),
        seed=prepared.seed,
        format=spec.format,
        files=files,
        table=plan.layout,
        root=plan.ext4,
        esp=plan.fat,
        variables=variables,
        firmware=manifest.FirmwareIdentity(
            description=firmware.description,
            code=_source_file(firmware.code),
            template=_source_file(firmware.template),
        ),
        bootloader=_bootloader_name(spec),
        kernel=prepared.appliance.kernel.version,
        accelerator=plan.accelerator.accelerator.value,
        tools=prepared.facts.versions,
        steps=tuple(manifest.StepTime(step=step, seconds=round(took, 3)) for step, took in run.seconds.items()),
    )


def _bootloader_name(spec: ImageSpec) -> str:
    install = spec.bootloader.install
    names = {SystemdBoot: "systemd-boot", Grub: "grub", CommandInstaller: "command"}
    return names.get(type(install), "none")


def _source_file(path: Path) -> manifest.SourceFile:
    return manifest.SourceFile(path=path, sha256=cache.digest_of(path))


def _output_file(role: str, path: Path) -> manifest.OutputFile:
    return manifest.OutputFile(role=role, name=path.name, size=path.stat().st_size, sha256=cache.digest_of(path))


def _copy_synced(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def _write_synced(target: Path, text: str) -> None:
    with target.open("x") as writer:
        writer.write(text)
        writer.flush()
        os.fsync(writer.fileno())
