"""A build: from a definition to a published image with its variable store. :func:`build` is the straight walk."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path

from attrs import evolve, frozen

from vmharness import __version__
from vmharness.disk import efivars, image, partitioning, verify
from vmharness.disk.filesystems import make_ext4
from vmharness.errors import BuildFailed, GuestError, QemuDied, SpecError, VerificationFailed
from vmharness.events import Emit, Published, nobody
from vmharness.flows.run import Run, recorded
from vmharness.host import appliance, cache, kernel, publish
from vmharness.host.appliance import Appliance
from vmharness.host.probe import BUILD_TOOLS, probe
from vmharness.model import manifest
from vmharness.model.facts import HostFacts
from vmharness.model.hardware import DirectKernel, Disk
from vmharness.model.image import CommandInstaller, DebianSource, Format, Grub, ImageSpec, SystemdBoot
from vmharness.model.results import StagedContents, StagedTree
from vmharness.model.sizes import MIB
from vmharness.model.variables import SECRETS, decode
from vmharness.plan import identity
from vmharness.plan import make as planning
from vmharness.plan.firmware import select
from vmharness.plan.load import load
from vmharness.plan.make import Plan
from vmharness.plan.steps import CONTENTS_DISK, TARGET_DISK
from vmharness.tree.contents import stage_contents
from vmharness.tree.sources import stage
from vmharness.vm.guest import Agent
from vmharness.vm.machine import Machine

EXTENSIONS = {Format.RAW: ".img", Format.QCOW2: ".qcow2"}
VARIABLES_NAME = "efi-vars.fd"
TRANSCRIPT_NAME = "transcript.log"


@frozen(kw_only=True)
class Options:
    """What the caller chooses besides the definition.

    :param accel: ``auto``, ``kvm`` or ``tcg``.
    :param kernel: the appliance's kernel image, with ``modules``; None takes the distribution's cloud kernel.
    :param modules: its ``lib/modules/VERSION``.
    """

    accel: str = "auto"
    kernel: Path | None = None
    modules: Path | None = None


@frozen(kw_only=True)
class Prepared:
    """Everything that is known once nothing is left to decide."""

    plan: Plan
    seed: str
    facts: HostFacts
    tree: StagedTree
    contents: StagedContents | None
    appliance: Appliance


def build(definition: Path, output: Path, options: Options | None = None, emit: Emit = nobody) -> manifest.Manifest:
    """Build the image of ``definition`` and publish it as the folder ``output``.

    :param definition: TOML file.
    :param output: folder that is made, or replaced if an earlier build made it.
    :param emit: takes the run's events.
    :returns: what was built; it lies in ``output`` as ``manifest.json``, too.
    :raises SpecError: the definition cannot be built; nothing was touched.
    :raises HostError: the host cannot do it; nothing is left behind.
    :raises QemuError: QEMU did not start.
    :raises BuildFailed: a step or the verification failed; the run directory is kept.
    """
    publish.require_publishable(output)
    spec = read_definition(definition)
    with recorded("build", spec.name, emit) as run:
        prepared = prepare(spec, options or Options(), run)
        create(prepared, run)
        work(prepared, run)
        check(prepared, run)
        return deliver(prepared, output, run)


def plan(definition: Path, options: Options | None = None, emit: Emit = nobody) -> str:
    """What a build of ``definition`` would do, as JSON text. Only the cache is touched: the tree is staged there.

    :raises: as :func:`build`.
    """
    spec = read_definition(definition)
    with recorded("plan", spec.name, emit) as run:
        return planning.to_json(prepare(spec, options or Options(), run).plan)


def read_definition(definition: Path) -> ImageSpec:
    """The definition in a file.

    :raises SpecError: it cannot be read, or is wrong.
    """
    try:
        text = definition.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"cannot read the image definition: {error.strerror}", origin=str(definition)) from error
    except UnicodeDecodeError as error:
        raise SpecError("the image definition is not UTF-8 text", origin=str(definition)) from error
    return load(text, definition)


def prepare(spec: ImageSpec, options: Options, run: Run) -> Prepared:
    """Look at the host, stage the tree, decide everything. Touches nothing but the cache and the run directory."""
    with run.part("look at the host"):
        tools = (*BUILD_TOOLS, "mmdebstrap") if isinstance(spec.root.source, DebianSource) else BUILD_TOOLS
        facts = probe(accel=options.accel, firmware=spec.efi.firmware, tools=tools)
        firmware = select(spec.efi.firmware, facts.descriptors, origin=str(spec.origin))
    run.note(f"accelerator: {facts.accelerator.reason}")
    with run.part("get the appliance"):
        guest = appliance.make(kernel.appliance_kernel(options.kernel, options.modules))
    with run.part("stage the tree"):
        tree = stage(spec, guest.kernel, run.say)
        contents = stage_contents(spec.contents, tree, run.directory.path / "contents.tar", origin=str(spec.origin))
    seed = (spec.deterministic.seed or spec.name) if spec.deterministic.enabled else secrets.token_hex(16)
    plan = planning.make(
        spec,
        tree=tree.identity,
        measure=tree.measure + contents.measure if contents else tree.measure,
        contents=contents is not None,
        identifiers=identity.derive(seed),
        accelerator=facts.accelerator,
        firmware=firmware,
        kernel=DirectKernel(
            image=guest.kernel.image, initrd=guest.initramfs, command_line=appliance.KERNEL_PARAMETERS
        ),
    )
    run.directory.plan.write_text(planning.to_json(plan))
    return Prepared(plan=plan, seed=seed, facts=facts, tree=tree, contents=contents, appliance=guest)


def create(prepared: Prepared, run: Run) -> None:
    """Disk, partition table, root filesystem with its tree, and this build's own variable store."""
    plan, disk = prepared.plan, run.directory.disk
    needed = plan.measure.data_blocks * 4096 + plan.spec.boot_size + 64 * MIB
    image.require_space(run.directory.path, needed)
    with run.part("make the disk and its partition table"):
        image.create(disk, plan.layout.size)
        partitioning.write_table(disk, plan.layout)
    with run.part("make the root filesystem"):
        make_ext4(disk, plan.layout.by_role("root").offset, plan.ext4, prepared.tree)
    shutil.copyfile(plan.firmware.template, run.directory.variables)


def work(prepared: Prepared, run: Run) -> None:
    """Boot the appliance and run the steps in it.

    :raises BuildFailed: a step failed, or the guest died or hung.
    """
    plan = prepared.plan
    spec = evolve(plan.machine, variables=run.directory.variables)
    try:
        with Machine(spec, run.directory, on_line=lambda line: run.say(line, "console")) as machine:
            with run.part("boot the appliance"):
                machine.start()
                agent = Agent(machine.command, run.directory.nonce)
                agent.greet(within=plan.boot_deadline)
                set_clock(agent, plan)
                machine.plug(Disk(name=TARGET_DISK, path=run.directory.disk))
                if prepared.contents is not None:
                    machine.plug(Disk(name=CONTENTS_DISK, path=prepared.contents.archive, read_only=True))
            for step in plan.steps:
                with run.part(step.name):
                    agent.run(
                        step.script,
                        step.parameters,
                        within=step.deadline,
                        on_output=lambda stream, line: run.say(line, stream),
                    )
            with run.part("switch the appliance off"):
                machine.off()
    except (GuestError, QemuDied) as error:
        raise _failed(error, run) from error


def set_clock(agent: Agent, plan: Plan) -> None:
    """Set the guest's clock: files that installers write carry the time of the build."""
    agent.run("set-clock", {"NOW": str(int(time.time()))}, within=plan.boot_deadline)


def check(prepared: Prepared, run: Run) -> None:
    """Compare what was made with what was planned.

    :raises BuildFailed: they differ; nothing is published.
    """
    plan, store = prepared.plan, run.directory.variables
    with run.part("verify the disk and the variables"):
        efivars.scrub(store, SECRETS)
        installed = isinstance(plan.spec.bootloader.install, SystemdBoot | Grub)
        expected = verify.Expectations(
            root=plan.ext4,
            esp=plan.fat,
            boot_entry=installed and plan.spec.efi.touch_variables,
            store_size=plan.firmware.template.stat().st_size,
        )
        published_store = store if plan.spec.efi.touch_variables else None
        try:
            verify.verify(run.directory.disk, plan.layout, published_store, expected, run.directory.path)
        except VerificationFailed as error:
            raise _failed(error, run) from error


def deliver(prepared: Prepared, output: Path, run: Run) -> manifest.Manifest:
    """Convert, digest, and publish as one folder in one rename."""
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
            made = _manifest(prepared, files, run)
            _write_synced(folder / manifest.MANIFEST_NAME, manifest.to_json(made))
    run.emit(Published(directory=output.absolute(), files=(*names.values(), manifest.MANIFEST_NAME)))
    return made


def _manifest(prepared: Prepared, files: tuple[manifest.OutputFile, ...], run: Run) -> manifest.Manifest:
    plan, spec = prepared.plan, prepared.plan.spec
    store = efivars.read_store(run.directory.variables) if spec.efi.touch_variables else None
    variables = tuple(decode(variable) for variable in store.variables) if store is not None else None
    firmware = plan.firmware
    return manifest.Manifest(
        vmharness=__version__,
        name=spec.name,
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


def _failed(error: GuestError | QemuDied | VerificationFailed, run: Run) -> BuildFailed:
    evidence = run.directory.transcript if isinstance(error, GuestError | QemuDied) else None
    return BuildFailed("the build failed", evidence, error.hint, run.current, error.sentence(), run.directory.path)


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
