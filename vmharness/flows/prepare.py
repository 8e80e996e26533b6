"""The preparation of a build: look at the host, stage the tree, decide everything."""

from __future__ import annotations

import secrets
from pathlib import Path

from attrs import frozen

from vmharness.errors import SpecError
from vmharness.flows import hooks
from vmharness.flows.filling import stage_partitions, tools_for
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run
from vmharness.flows.scripts import copy_scripts
from vmharness.host import appliance, cache, kernel, vmlinux
from vmharness.host.appliance import Appliance
from vmharness.host.guest_tools import guest_tools
from vmharness.host.probe import BUILD_TOOLS, probe
from vmharness.model.bootloader import BOOTLOADERS, Argument
from vmharness.model.checkpoint import Checkpoints
from vmharness.model.dialogue import InstallSpec, Sight
from vmharness.model.facts import HostFacts
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import DirectKernel
from vmharness.model.image import ImageSpec
from vmharness.model.manifest import SourceFile
from vmharness.model.sources import DebianSource, NixSource
from vmharness.plan import identity, stored
from vmharness.plan import make as planning
from vmharness.plan.boot_room import check_boot_room
from vmharness.plan.firmware import select
from vmharness.plan.rootfs import kind_of
from vmharness.plan.secure_boot import check_firmware
from vmharness.plan.start import Bootable, appliance_firmware
from vmharness.plan.stopping import stop_of
from vmharness.tree.boot_files import boot_files
from vmharness.tree.contents import stage_contents
from vmharness.tree.stage import stage

_SOURCE_TOOLS: dict[type, tuple[str, ...]] = {DebianSource: ("mmdebstrap",), NixSource: ("nix-store",)}


@frozen(kw_only=True)
class Options:
    """What the caller chooses besides the definition.

    :param accel: ``auto``, ``kvm`` or ``tcg``.
    :param kernel: the appliance's kernel image, with ``modules``; None takes the distribution's cloud kernel.
    :param modules: its ``lib/modules/VERSION``.
    :param resume: whether the appliance may be resumed from a saved state; otherwise it boots cold.
    :param rebuild: whether to build although the same image is there already.
    :param checkpoints: which are taken on the way.
    :param break_before: the step before which to stop, or None.
    :param break_after: the step after which to stop, or None.
    :param root: what the paths in a folder of systemd-repart's definition files are relative to, if not to the folder.
    """

    accel: str = "auto"
    kernel: Path | None = None
    modules: Path | None = None
    resume: bool = True
    rebuild: bool = False
    checkpoints: Checkpoints = Checkpoints.FAILURE
    break_before: str | None = None
    break_after: str | None = None
    root: Path | None = None


def prepare(spec: ImageSpec, options: Options, run: Run) -> Prepared:
    """Look at the host, stage the tree, decide everything. Touches nothing but the cache and the run directory."""
    hooks.require(spec)
    if spec.install is not None:
        return _prepare_install(spec, spec.install, options, run)
    scripts = copy_scripts(spec, run.directory)
    if spec.secure_boot.wanted:
        from vmharness.flows import signing  # noqa: PLC0415 -- it brings what reads certificates, for 0.1 s

        signing.require_keys(spec)
    with run.part("look at the host"):
        tools = (*BUILD_TOOLS, *_source_tools(spec))
        # without a machine there is nothing to try the host's accelerator for
        accel = options.accel if spec.needs_machine else "tcg"
        facts = probe(accel=accel, firmware=spec.efi.firmware, tools=tools)
        firmware = None
        if spec.has_esp:
            firmware = select(spec.efi.firmware, facts.descriptors, origin=str(spec.origin))
        check_firmware(spec, firmware)
    seed = (spec.deterministic.seed or spec.name) if spec.deterministic.enabled else secrets.token_hex(16)
    if spec.partitions:
        return _prepare_declared(spec, options, facts, firmware, seed, run)
    guest = _appliance(spec, options, facts, run) if spec.needs_machine else None
    with run.part("stage the tree"):
        tree = stage(spec.root.source, spec, guest.kernel if guest else None, run.say)
        contents = stage_contents(spec.contents, tree, run.directory.contents, origin=str(spec.origin))
    install = spec.bootloader.install
    also = install.arguments if BOOTLOADERS[install.name].argument is Argument.PATH else ()
    check_boot_room(spec, boot_files(tree, contents, also=also))
    plan = planning.make(
        spec,
        trees={"root": tree},
        contents=contents,
        scripts=scripts,
        identifiers=identity.derive(seed, spec.identifiers),
        accelerator=facts.accelerator,
        firmware=firmware,
        bootable=_bootable(guest, with_firmware=appliance_firmware(spec, firmware) is not None) if guest else None,
    )
    run.directory.plan.write_text(stored.to_json(plan))
    return Prepared(
        plan=plan,
        seed=seed,
        tools=facts.versions,
        trees={"root": tree},
        contents=contents,
        appliance=guest,
        resume=options.resume,
        checkpoints=options.checkpoints,
        stop=stop_of(plan.steps, options.break_before, options.break_after),
    )


def _prepare_declared(  # noqa: PLR0913, PLR0917 -- what prepare has found out
    spec: ImageSpec, options: Options, facts: HostFacts, firmware: Firmware | None, seed: str, run: Run
) -> Prepared:
    """The rest of the preparation of an image with declared partitions."""
    with run.part("stage the partitions"):
        held = stage_partitions(spec, options.kernel, options.modules, run.say)
    plan = planning.make_declared(spec, held=held, seed=seed, accelerator=facts.accelerator, firmware=firmware)
    for role in held.keys() - {part.role for part in plan.layout.partitions}:
        run.note(f"the partition '{role}' is left out: there is no room for it")
    run.directory.plan.write_text(stored.to_json(plan))
    filled = {filling.role for filling in plan.fillings}
    return Prepared(
        plan=plan,
        seed=seed,
        tools=facts.versions,
        trees={role: what.tree for role, what in held.items() if what.tree is not None and role in filled},
        contents=None,
        appliance=None,
        resume=options.resume,
    )


def _prepare_install(spec: ImageSpec, install: InstallSpec, options: Options, run: Run) -> Prepared:
    """The preparation of an image that an installer makes."""
    for key, path in install.files:
        if not path.is_file():
            raise SpecError(f"there is no file {path}", origin=str(spec.origin), key=f"install.{key}")
    with run.part("look at the host"):
        reader = ("tesseract",) if any(entry.sight is Sight.DISPLAY for entry in install.dialogue) else ()
        facts = probe(accel=options.accel, firmware=spec.efi.firmware, tools=(*BUILD_TOOLS, *reader))
        firmware = None
        if spec.has_esp:
            firmware = select(spec.efi.firmware, facts.descriptors, origin=str(spec.origin))
    if install.script is not None:
        from vmharness.flows import scripted  # noqa: PLC0415 -- only dialogues in Python need it

        scripted.require_dialogue(install.script)
    if install.script is not None and (options.break_before or options.break_after):
        what = "nobody knows beforehand which entries a Python file asks for"
        raise SpecError(what, origin="<command line>", hint="call installer.stop() in the file instead")
    plan = planning.make_install(spec, install, accelerator=facts.accelerator, firmware=firmware)
    run.directory.plan.write_text(stored.to_json(plan))
    return Prepared(
        plan=plan,
        seed=spec.name,
        tools=facts.versions,
        trees={},
        contents=None,
        appliance=None,
        resume=False,
        checkpoints=options.checkpoints,
        stop=stop_of(plan.actions, options.break_before, options.break_after),
        media=tuple(SourceFile(path=path, sha256=cache.remembered_digest(path)) for _key, path in install.files),
    )


def _source_tools(spec: ImageSpec) -> set[str]:
    """The programs that sources and partitions need besides those of every build."""
    sources = [spec.root.source, *(part.source for part in spec.partitions)]
    signers = {"sbsign", "sbverify"} if spec.secure_boot.wanted else set()
    return signers | {tool for source in sources for tool in _SOURCE_TOOLS.get(type(source), ())} | tools_for(spec)


def _appliance(spec: ImageSpec, options: Options, facts: HostFacts, run: Run) -> Appliance:
    run.note(f"accelerator: {facts.accelerator.reason}")
    with run.part("get the appliance"):
        kind = kind_of(spec)
        linux = kernel.appliance_kernel(options.kernel, options.modules, flavour=kind.kernel_flavour)
        return appliance.make(linux, guest_tools(kind))


def _bootable(guest: Appliance, *, with_firmware: bool) -> Bootable:
    return Bootable(
        kernel=guest.kernel,
        direct=DirectKernel(image=guest.kernel.image, initrd=guest.initramfs, command_line=appliance.KERNEL_PARAMETERS),
        uncompressed=None if with_firmware else vmlinux.uncompressed(guest.kernel.image),
    )
