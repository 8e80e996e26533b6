"""The run directory: one private folder for one run, holding its evidence while it lives."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen

from vmharness.errors import HostError
from vmharness.model.hardware import LONGEST_SOCKET


@frozen(kw_only=True)
class RunDirectory:
    """A folder (mode 0700) that one run owns.

    :param path: the folder.
    :param nonce: a random word that only this run knows.
    """

    path: Path
    nonce: str = field(factory=lambda: secrets.token_hex(8))

    @property
    def plan(self) -> Path:
        """The plan, as JSON."""
        return self.path / "plan.json"

    @property
    def events(self) -> Path:
        """Everything that was said, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def transcript(self) -> Path:
        """What the guest wrote on its log console, raw bytes."""
        return self.path / "console.log"

    @property
    def commands(self) -> Path:
        """What the guest's steps wrote, as text."""
        return self.path / "steps.log"

    @property
    def qemu_argv(self) -> Path:
        """QEMU's arguments, one a line."""
        return self.path / "qemu.argv"

    @property
    def qemu_stderr(self) -> Path:
        """What QEMU wrote to its standard error."""
        return self.path / "qemu.stderr"

    @property
    def qmp_log(self) -> Path:
        """What was said over QEMU's monitor, one JSON object a line."""
        return self.path / "qmp.log"

    @property
    def disk(self) -> Path:
        """The raw disk that is being built."""
        return self.path / "disk.raw"

    @property
    def tree(self) -> Path:
        """The disk on which the tree lies before the guest copies it, where the guest makes the root filesystem."""
        return self.path / "tree.raw"

    @property
    def variables(self) -> Path:
        """The variable store of this run."""
        return self.path / "efi-vars.fd"

    @property
    def scripts(self) -> Path:
        """Folder of the scripts of steps that the definition declares."""
        return self.path / "scripts"

    def script(self, name: str) -> Path:
        """The script ``name`` of a declared step."""
        return self.scripts / name

    @property
    def guest_scripts(self) -> Path:
        """Folder of a build's own guest scripts as the appliance has them, in a run directory that is kept."""
        return self.path / "guest-scripts"

    @property
    def finished(self) -> Path:
        """The raw disk when the guest has done its work."""
        return self.path / "finished.raw"

    @property
    def memory(self) -> Path:
        """The guest's memory, where checkpoints are taken of it."""
        return self.path / "memory"

    @property
    def layers(self) -> Path:
        """Overlays of the disks, between checkpoints."""
        return self.path / "layers"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints, each in a folder of its own."""
        return self.path / "checkpoints"

    @property
    def contents(self) -> Path:
        """The archive of the grafted files, as the guest sees it on a disk of its own."""
        return self.path / "contents.tar"

    @property
    def installer(self) -> Path:
        """The ISO image from which an installer starts."""
        return self.path / "installer.iso"

    @property
    def dialogue(self) -> Path:
        """A copy of the Python file with the dialogue, in a run directory that is kept."""
        return self.path / "dialogue.py"

    @property
    def seen(self) -> Path:
        """What each call of that dialogue has seen."""
        return self.path / "seen.json"

    @property
    def definition(self) -> Path:
        """A copy of the image definition."""
        return self.path / "definition.toml"

    @property
    def record(self) -> Path:
        """What is known of the build besides its plan."""
        return self.path / "record.json"

    @property
    def kernel(self) -> Path:
        """A copy of the appliance's kernel, in a run directory that is kept."""
        return self.path / "appliance" / "kernel"

    @property
    def initramfs(self) -> Path:
        """A copy of the appliance's initramfs, in a run directory that is kept."""
        return self.path / "appliance" / "initramfs"

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def base_directory() -> Path:
    """Where run directories are made: ``$VMHARNESS_RUNS``, or ``vmharness`` under ``$TMPDIR`` (``/var/tmp`` by default,
    since disks are too large for a temporary directory in memory).
    """
    chosen = os.environ.get("VMHARNESS_RUNS")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("TMPDIR", "/var/tmp")).absolute() / f"vmharness-{os.getuid()}"  # noqa: S108


def create(name: str) -> RunDirectory:
    """Make a fresh run directory whose name begins with ``name``.

    :raises HostError: the folder cannot be made.
    """
    base = base_directory()
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = Path(tempfile.mkdtemp(prefix=f"{name[:24]}-", dir=base))
    except OSError as error:
        raise HostError(
            f"cannot make a run directory in {base}: {error.strerror}",
            hint="set TMPDIR or VMHARNESS_RUNS to a writable directory",
        ) from error
    return RunDirectory(path=path)


@contextmanager
def socket_place(folder: Path, name: str) -> Iterator[Path]:
    """A path for a socket: in ``folder``, or where that is too long for one in a private folder that is removed again.

    :raises HostError: there is no place with a path that is short enough.
    """
    usual = folder / name
    if len(os.fsencode(usual)) <= LONGEST_SOCKET:
        yield usual
        return
    with tempfile.TemporaryDirectory(prefix="vmh-") as short:
        path = Path(short) / name
        if len(os.fsencode(path)) > LONGEST_SOCKET:
            raise HostError(f"{path} is too long for a socket", hint="set TMPDIR to a folder with a shorter path")
        yield path
