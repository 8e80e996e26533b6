"""The EFI system partition of a state's disk, read while no machine writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from vmharness.disk import esp, image, partitioning
from vmharness.errors import SpecError
from vmharness.host import rundir
from vmharness.model.hardware import Disk
from vmharness.testing.state import DRIVERS, BootState


@frozen(kw_only=True)
class EspView:
    """The files of an EFI system partition; paths may have slashes or backslashes, and whatever case."""

    disk: Path
    offset: int

    def files(self) -> tuple[str, ...]:
        """Every file, as ``/EFI/BOOT/BOOTX64.EFI``."""
        return esp.list_files(self.disk, self.offset)

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return esp.exists(self.disk, self.offset, path)

    def read(self, path: str) -> bytes:
        """The content of a file.

        :raises HostError: there is none.
        """
        return esp.read_file(self.disk, self.offset, path)


@contextmanager
def opened(state: BootState, *, disk: str = "disk") -> Iterator[EspView]:
    """The ESP of one of the state's disks, as it is now; the state is not changed.

    :raises SpecError: the disk has no ESP.
    """
    chosen = next((item for item in state.disks if item.name == disk), None)
    if chosen is None:
        raise SpecError(f"there is no disk called {disk!r}", allowed=", ".join(item.name for item in state.disks))
    scratch = rundir.create("esp")
    try:
        raw = _raw(chosen, scratch.disk)
        offset = partitioning.find_esp(raw)
        if offset is None:
            raise SpecError(f"the disk {chosen.path} has no EFI system partition")
        yield EspView(disk=raw, offset=offset)
    finally:
        scratch.remove()


def _raw(disk: Disk, target: Path) -> Path:
    """The disk as a raw file: itself, or a sparse copy."""
    if disk.format == "raw":
        return disk.path
    image.flatten(disk.path, DRIVERS[disk.format], target)
    return target
