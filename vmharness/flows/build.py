"""A build: from a definition to a published image with its variable store. :func:`build` is the straight walk."""

from __future__ import annotations

import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve

from vmharness.disk import efivars, image, packed, partitioning, verify
from vmharness.disk.filesystems import make_ext4
from vmharness.disk.making import make_filesystem
from vmharness.errors import BuildFailed, GuestError, QemuDied, VerificationFailed
from vmharness.events import Emit, nobody
from vmharness.flows import uptodate
from vmharness.flows.definition import read_definition
from vmharness.flows.outputs import Prepared, deliver
from vmharness.flows.prepare import Options, prepare
from vmharness.flows.run import Run, recorded
from vmharness.host import publish
from vmharness.model import manifest
from vmharness.model.bootloader import BOOTLOADERS
from vmharness.model.hardware import Disk
from vmharness.model.partitions import Blocks, Erofs, GuestMade, ReadOnly, Swap
from vmharness.model.sizes import MIB
from vmharness.model.variables import SECRETS
from vmharness.plan import stored
from vmharness.plan.steps import CONTENTS_DISK, TARGET_DISK, TREE_DISK


def build(definition: Path, output: Path, options: Options | None = None, emit: Emit = nobody) -> manifest.Manifest:
    """Build the image of ``definition`` and publish it as the folder ``output``.

    :param definition: TOML file, or folder of systemd-repart's definition files.
    :param output: folder that is made, or replaced if an earlier build made it.
    :param emit: takes the run's events.
    :returns: what was built; it lies in ``output`` as ``manifest.json``, too.
    :raises SpecError: the definition cannot be built; nothing was touched.
    :raises HostError: the host cannot do it; nothing is left behind.
    :raises QemuError: QEMU did not start.
    :raises BuildFailed: a step or the verification failed; the run directory is kept.
    """
    options = options or Options()
    publish.require_publishable(output)
    spec = read_definition(definition, options.root)
    with recorded("build", spec.name, emit) as run:
        prepared = prepare(spec, options, run)
        inputs = uptodate.inputs_of(prepared)
        done = None if options.rebuild else _done_before(output, inputs, run)
        if done is None:
            create(prepared, run)
            work(prepared, run)
            prepared = secure(prepared, run)
            prepared = finish(prepared, run)
            check(prepared, run)
            done = deliver(prepared, output, inputs, run)
        uptodate.remember(output, inputs)
        return done


def _done_before(output: Path, inputs: str, run: Run) -> manifest.Manifest | None:
    """What an earlier build made from the same inputs, in place at ``output``; None if there is nothing such."""
    there = uptodate.current(output, inputs)
    if there is not None:
        run.note(f"up to date: {output}")
        return there
    return uptodate.copied(inputs, output, run)


def plan(definition: Path, options: Options | None = None, emit: Emit = nobody) -> str:
    """What a build of ``definition`` would do, as JSON text. Only the cache is touched: the tree is staged there.

    :raises: as :func:`build`.
    """
    options = options or Options()
    spec = read_definition(definition, options.root)
    with recorded("plan", spec.name, emit) as run:
        return stored.to_json(prepare(spec, options, run).plan)


def create(prepared: Prepared, run: Run) -> None:
    """Disk, partition table, the filesystems that are filled on the host, and this build's own variable store."""
    plan, disk = prepared.plan, run.directory.disk
    copies = 1 if plan.scratch is None else 2
    data = copies * sum(filling.measure.data_blocks for filling in plan.fillings) * 4096
    data += sum(part.filesystem.size for part in plan.layout.partitions if isinstance(part.filesystem, Blocks))
    needed = data + plan.spec.boot_size + 64 * MIB
    image.require_space(run.directory.path, needed)
    with run.part("make the disk and its partition table"):
        image.create(disk, plan.layout.size)
        partitioning.write_table(disk, plan.layout)
    for part in plan.layout.partitions:
        if plan.scratch is not None and isinstance(part.filesystem, GuestMade):
            with run.part("lay the tree on a disk of its own"):
                image.create(run.directory.tree, plan.scratch.size)
                make_ext4(run.directory.tree, 0, plan.scratch, prepared.trees[part.role])
        elif part.role in prepared.trees or isinstance(part.filesystem, Swap | Blocks):
            with run.part(f"make the {part.role} filesystem"):
                make_filesystem(disk, part, prepared.trees.get(part.role))
    if plan.firmware is not None:
        shutil.copyfile(plan.firmware.template, run.directory.variables)


def work(prepared: Prepared, run: Run) -> None:
    """Boot the appliance and run the steps in it, unless no machine is needed.

    :raises BuildFailed: a step failed, or the guest died or hung.
    """
    # It brings asyncio, QEMU's monitor and the consoles, for which an answer "up to date" should not wait.
    from vmharness.flows.bringup import appliance_up, wake_parameters  # noqa: PLC0415 -- see above
    from vmharness.flows.steps import run_step  # noqa: PLC0415 -- see above

    plan, guest = prepared.plan, prepared.appliance
    if plan.machine is None or guest is None:
        return
    spec = evolve(plan.machine, variables=run.directory.variables if plan.machine.firmware else None)
    try:
        with ExitStack() as stack:
            with run.part("start the appliance"):
                up = stack.enter_context(
                    appliance_up(spec, guest.identity, plan.boot_deadline, run, resume=prepared.resume)
                )
                # What deterministic builds draw at random must be the same in each: the state's own numbers.
                seed = "" if plan.spec.deterministic.enabled else secrets.token_hex(32)
                up.agent.run("wake", wake_parameters(seed), within=plan.boot_deadline)
                up.machine.plug(Disk(name=TARGET_DISK, path=run.directory.disk))
                if plan.scratch is not None:
                    only_read = not isinstance(plan.layout.by_role("root").filesystem, ReadOnly)
                    up.machine.plug(Disk(name=TREE_DISK, path=run.directory.tree, read_only=only_read))
                if prepared.contents is not None:
                    up.machine.plug(Disk(name=CONTENTS_DISK, path=prepared.contents.archive, read_only=True))
            for step in plan.steps:
                run_step(up.agent, step, run)
            with run.part("switch the appliance off"):
                up.machine.off()
    except (GuestError, QemuDied) as error:
        raise _failed(error, run) from error


def secure(prepared: Prepared, run: Run) -> Prepared:
    """Sign what boots and enroll the keys, where the definition says so.

    :raises BuildFailed: there is nothing to sign.
    """
    if not prepared.plan.spec.secure_boot.wanted:
        return prepared
    from vmharness.flows import signing  # noqa: PLC0415 -- as in prepare

    try:
        return signing.sign(prepared, run)
    except VerificationFailed as error:
        raise _failed(error, run) from error


def finish(prepared: Prepared, run: Run) -> Prepared:
    """Finish on the host a root filesystem that was packed; with an automatic size, cut the disk to what it takes.

    :raises BuildFailed: there is no such filesystem.
    """
    plan = prepared.plan
    root = plan.layout.find("root")
    if root is None or not isinstance(root.filesystem, ReadOnly):
        return prepared
    with run.part("cut the disk to the root filesystem"):
        try:
            if isinstance(root.filesystem, Erofs):
                packed.set_erofs_label(run.directory.disk, root, root.filesystem.label)
            if plan.spec.size is not None:
                return prepared
            layout = packed.cut(run.directory.disk, plan.layout)
        except VerificationFailed as error:
            raise _failed(error, run) from error
    return evolve(prepared, plan=evolve(plan, layout=layout))


def check(prepared: Prepared, run: Run) -> None:
    """Compare what was made with what was planned.

    :raises BuildFailed: they differ; nothing is published.
    """
    plan = prepared.plan
    store = run.directory.variables if plan.spec.efi.touch_variables else None
    with run.part("verify the disk and the variables" if store else "verify the disk"):
        expected = verify.Expectations(
            boot_entry=BOOTLOADERS[plan.spec.bootloader.install.name].makes_boot_entry,
            store_size=plan.firmware.template.stat().st_size if plan.firmware is not None else None,
        )
        try:
            if store is not None:
                efivars.scrub(store, SECRETS)
            verify.verify(run.directory.disk, plan.layout, store, expected, run.directory.path)
        except VerificationFailed as error:
            raise _failed(error, run) from error


def _failed(error: GuestError | QemuDied | VerificationFailed, run: Run) -> BuildFailed:
    evidence = run.directory.transcript if isinstance(error, GuestError | QemuDied) else None
    return BuildFailed("the build failed", evidence, error.hint, run.current, error.sentence(), run.directory.path)
