"""Entering a build that stopped: its run directory or its bundle is opened, a machine restored, and the build ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import evolve, frozen

from vmharness.disk import image
from vmharness.disk.qcow2 import require_plain_qcow2
from vmharness.errors import HostError, SpecError
from vmharness.events import Emit, nobody
from vmharness.flows.definition import read_definition
from vmharness.flows.run import Run, recorded
from vmharness.flows.session import Session
from vmharness.flows.sessions import session_on
from vmharness.flows.trail import Trail, notes
from vmharness.host import descriptors, here, rundir
from vmharness.host.rundir import RunDirectory
from vmharness.model import record as records
from vmharness.model.checkpoint import CheckpointNote, Checkpoints, When
from vmharness.model.image import AutoFirmware, SecureBootFirmware
from vmharness.model.record import Record
from vmharness.plan import reopening, stored
from vmharness.plan.firmware import select
from vmharness.plan.make import Plan
from vmharness.plan.stopping import numbered

_QMP, _SOURCE = "qmp.sock", "entered"


@frozen(kw_only=True)
class Opened:
    """A stopped build as it was opened, with the session on it.

    :param record: what is known of the build besides its plan.
    :param session: its machine is at the step where the build stopped, or at the one that was asked for.
    """

    record: Record
    session: Session


@contextmanager
def entered(source: Path, at: str | None = None, *, replay: bool = False, emit: Emit = nobody) -> Iterator[Opened]:
    """Enter a build that stopped; its machine is ended when the block is left.

    :param source: its run directory or its bundle, which is never changed.
    :param at: the step before which to enter, or the name of a checkpoint; None for the step that failed, or where it
        was stopped.
    :param replay: run the build again from its beginning instead of restoring a checkpoint.
    :raises SpecError: ``source`` is not what a stopped build leaves, or has no such step.
    :raises HostError: its state cannot be opened on this host.
    :raises QemuError: the machine does not start.
    :raises GuestError: a step failed on the way.
    """
    with recorded("reproduce", source.stem[:24] or "build", emit) as run:
        directory = run.directory
        _link(_site(source, run), directory)
        record = _record(directory, source)
        plan = _plan(directory, record, source, replay=replay)
        trail = Trail(run=run, directory=directory, policy=Checkpoints.NONE)
        with (
            rundir.socket_place(directory.path, _QMP) as socket,
            session_on(_with_monitor(plan, socket), run, trail, offline=not source.is_dir()) as session,
        ):
            if socket.parent != directory.path:
                (directory.path / _QMP).symlink_to(socket)
            (directory.path / _SOURCE).write_text(str(source.absolute()), encoding="utf-8")
            with run.part("enter the build"):
                _go_to(session, record, at, replay=replay)
            yield Opened(record=record, session=session)


def monitor_of(source: Path) -> Path:
    """The socket on which a second program finds the monitor of a session's machine.

    :param source: the session's own run directory, or what was entered; of several sessions the latest is meant.
    :raises SpecError: nobody is in there.
    """
    entered_as = str(source.absolute())
    folders = [path.parent for path in rundir.base_directory().glob(f"*/{_SOURCE}") if _reads(path) == entered_as]
    for folder in [source, *sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)]:
        socket = folder / _QMP
        if socket.exists():
            return socket.resolve()
    raise SpecError("nobody has entered it", origin=str(source), hint="vmharness reproduce enters it")


def _reads(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _with_monitor(plan: Plan, socket: Path) -> Plan:
    assert plan.machine is not None
    return evolve(plan, machine=evolve(plan.machine, qmp_socket=socket))


def _site(source: Path, run: Run) -> RunDirectory:
    """The folder with what the build left."""
    if source.is_dir():
        return RunDirectory(path=source.absolute())
    from vmharness.flows.bundle import unpack  # noqa: PLC0415 -- only bundles need it

    with run.part("unpack the bundle"):
        return RunDirectory(path=unpack(source, run.directory.path / "bundle"))


def _link(source: RunDirectory, own: RunDirectory) -> None:
    """Bring what a build left into a session's own folder, without a copy where possible. Nobody writes to it there."""
    if not source.record.is_file():
        raise SpecError(
            "it holds no build that can be entered: record.json is missing",
            origin=str(source.path),
            hint="name the run directory of a build that failed in a step of its machine, or its bundle",
        )
    found = notes(source)
    images = {name for note in found for disk in note.disks for name in disk.images}
    files = {source.record, source.plan, source.definition, source.disk}
    optional = (
        source.kernel,
        source.initramfs,
        source.tree,
        source.contents,
        source.installer,
        source.seen,
        source.dialogue,
    )
    files |= {path for path in (*optional, *source.scripts.glob("*"), *source.guest_scripts.glob("*")) if path.exists()}
    files |= {source.path / name for name in images}
    files |= {path for note in found for path in (source.checkpoints / note.id).rglob("*") if path.is_file()}
    largest = max(path.stat().st_size for path in (source.disk, source.tree) if path.exists())
    for file in sorted(files):
        _link_file(file, own.path / file.relative_to(source.path))
        if file.parent == source.layers:
            require_plain_qcow2(own.path / file.relative_to(source.path), largest)


def _link_file(file: Path, target: Path) -> None:
    if file.is_symlink() or not file.is_file():
        raise SpecError("the file is missing, or no plain file", origin=str(file))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    image.link(file, target)


def _record(directory: RunDirectory, source: Path) -> Record:
    try:
        return records.from_json(directory.record.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise SpecError(f"record.json cannot be read: {error}", origin=str(source)) from error


def _plan(directory: RunDirectory, record: Record, source: Path, *, replay: bool) -> Plan:
    """The plan, with the files of this host and of the session.

    :raises HostError: the state cannot be opened on this host.
    """
    there = here.look(record)
    hindrances = () if replay else reopening.obstacles(record, there)
    if hindrances:
        again = f"vmharness reproduce --replay {source} runs the build again from its beginning, up to the same step"
        raise HostError(f"{source} cannot be opened here: {'; '.join(hindrances)}", hint=again)
    spec = read_definition(directory.definition)
    try:
        plan = stored.from_json(directory.plan.read_text(encoding="utf-8"), spec)
        firmware = there.firmware
        if firmware is None and plan.firmware is not None:
            # The host's own: files that the definition names may be a stranger's choice.
            choice = spec.efi.firmware if isinstance(spec.efi.firmware, SecureBootFirmware) else AutoFirmware()
            firmware = select(choice, descriptors.for_choice(choice))
        plan = stored.relocated(plan, kernel=directory.kernel, initrd=directory.initramfs, firmware=firmware)
    except (ValueError, OSError) as error:
        raise SpecError(f"plan.json cannot be read: {error}", origin=str(source)) from error
    return stored.accelerated(plan, there.accelerator) if replay else plan


def _go_to(session: Session, record: Record, at: str | None, *, replay: bool) -> None:
    found = notes(session.site)
    named = next((note for note in found if note.id == at), None)
    if named is not None and not replay:
        session.restore(named)
        return
    number = _stopped_at(record, found, len(session.plan.actions)) if at is None else numbered(session.plan.actions, at)
    if replay:
        session.replay()
        session.advance(number)
    else:
        session.rewind(number)


def _stopped_at(record: Record, found: tuple[CheckpointNote, ...], steps: int) -> int:
    """Number of the step before which the build is entered if nobody says where.

    That is the step that failed. Where the host has failed, after the guest, it is the last one with a checkpoint,
    which is the one that can be to blame.
    """
    if record.failure is not None and record.failure.index is not None:
        return min(record.failure.index, steps)
    if not found:
        return 0
    last = found[-1]
    return min(last.step + 1 if last.when is When.AFTER else last.step, steps)
