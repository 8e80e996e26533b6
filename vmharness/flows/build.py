"""A build: from a definition to a published image with its variable store. :func:`build` is the straight walk."""

from __future__ import annotations

import shutil
from pathlib import Path

from attrs import evolve

from vmharness.disk import efivars, image, packed, partitioning, verify
from vmharness.disk.filesystems import make_ext4
from vmharness.disk.making import make_filesystem
from vmharness.errors import BuildFailed, BuildStopped, GuestError, QemuDied, VerificationFailed
from vmharness.events import Emit, nobody
from vmharness.flows import uptodate
from vmharness.flows.definition import read_definition
from vmharness.flows.outputs import deliver
from vmharness.flows.prepare import Options, prepare
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run, recorded, reproduce_command
from vmharness.host import publish
from vmharness.model import manifest
from vmharness.model.bootloader import BOOTLOADERS
from vmharness.model.checkpoint import Checkpoints
from vmharness.model.dialogue import Network
from vmharness.model.partitions import Blocks, Erofs, GuestMade, ReadOnly, Swap
from vmharness.model.record import Failure
from vmharness.model.sizes import MIB
from vmharness.model.variables import SECRETS
from vmharness.plan import stored


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
        anew = options.rebuild or prepared.stop is not None or prepared.checkpoints is Checkpoints.ALL
        anew = anew or (spec.install is not None and spec.install.network is not Network.NONE)
        done = None if anew else _done_before(output, inputs, run)
        if done is None:
            create(prepared, run)
            work(prepared, inputs, run)
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


def work(prepared: Prepared, inputs: str, run: Run) -> None:
    """Boot the appliance and run the steps in it, unless no machine is needed.

    :param inputs: content id of the build.
    :raises BuildFailed: a step failed, or the guest died or hung; the run directory holds its state.
    :raises BuildStopped: it stopped where it was to stop.
    """
    # They bring asyncio, QEMU's monitor and the consoles, for which an answer "up to date" should not wait.
    from vmharness.flows import aftermath, installing, working  # noqa: PLC0415 -- see above

    if prepared.plan.machine is None:
        run.directory.disk.rename(run.directory.finished)
        return
    try:
        if prepared.plan.spec.install is not None:
            installing.work(prepared, run)
        else:
            working.work(prepared, run)
        if prepared.checkpoints is Checkpoints.ALL:
            aftermath.keep(prepared, inputs, None, run)
            run.keep = True
            run.note(f"the states between the steps are kept; to enter them: {reproduce_command(run.directory)}")
    except BuildStopped as stopped:
        prepared = installing.as_it_went(prepared, run)
        aftermath.keep(prepared, inputs, None, run)
        stopped.enter = reproduce_command(run.directory)
        raise
    except KeyboardInterrupt:
        if any(run.directory.checkpoints.glob("*")):  # what was saved is not lost
            aftermath.keep(prepared, inputs, None, run)
            run.note(f"to enter the build where it was last saved: {reproduce_command(run.directory)}")
        raise
    except (GuestError, QemuDied) as error:
        prepared = installing.as_it_went(prepared, run)
        failure = aftermath.failure_of(error, prepared, run)
        kept = aftermath.kept_after_failure(prepared, inputs, failure, run)
        raise _failed(error, run, failure, enter=reproduce_command(run.directory) if kept else "") from error


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

    Of a disk that an installer has made, look how it is divided.

    :raises BuildFailed: there is no such filesystem.
    """
    plan = prepared.plan
    if plan.spec.install is not None:
        from vmharness.flows import installing  # noqa: PLC0415 -- it brings what work brings

        try:
            return installing.read_back(prepared, run)
        except VerificationFailed as error:
            raise _failed(error, run) from error
    root = plan.layout.find("root")
    if root is None or not isinstance(root.filesystem, ReadOnly):
        return prepared
    with run.part("cut the disk to the root filesystem"):
        try:
            if isinstance(root.filesystem, Erofs):
                packed.set_erofs_label(run.directory.finished, root, root.filesystem.label)
            if plan.spec.size is not None:
                return prepared
            layout = packed.cut(run.directory.finished, plan.layout)
        except VerificationFailed as error:
            raise _failed(error, run) from error
    return evolve(prepared, plan=evolve(plan, layout=layout))


def check(prepared: Prepared, run: Run) -> None:
    """Compare what was made with what was planned.

    :raises BuildFailed: they differ; nothing is published.
    """
    plan = prepared.plan
    if plan.spec.install is not None:  # nothing was planned
        return
    store = run.directory.variables if plan.spec.efi.touch_variables else None
    with run.part("verify the disk and the variables" if store else "verify the disk"):
        expected = verify.Expectations(
            boot_entry=BOOTLOADERS[plan.spec.bootloader.install.name].makes_boot_entry,
            store_size=plan.firmware.template.stat().st_size if plan.firmware is not None else None,
        )
        try:
            if store is not None:
                efivars.scrub(store, SECRETS)
            verify.verify(run.directory.finished, plan.layout, store, expected, run.directory.path)
        except VerificationFailed as error:
            raise _failed(error, run) from error


def _failed(
    error: GuestError | QemuDied | VerificationFailed, run: Run, failure: Failure | None = None, enter: str = ""
) -> BuildFailed:
    evidence = run.directory.transcript if isinstance(error, GuestError | QemuDied) else None
    failed = BuildFailed("the build failed", evidence, error.hint, run.current, error.sentence(), run.directory.path)
    if failure is not None:
        failed.step, failed.status, failed.kernel_line = failure.step, failure.status, failure.kernel_line
    failed.enter = enter
    return failed
