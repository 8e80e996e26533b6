"""A system with two generations in its boot menu, made on the host: the ESP of the minimal image, rewritten.

Both start the same kernel; its command line tells them apart.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from attrs import evolve, frozen

from vmharness.disk import esp, partitioning
from vmharness.host import proc
from vmharness.testing import BootState, Machine

ENTRIES = "/loader/entries/"
SECONDS = 300
"""How long a screen may take; machines without KVM that share their processors with others are slow."""


@frozen(kw_only=True)
class Esp:
    """The ESP of a raw disk, changed while no machine uses it."""

    disk: Path
    offset: int

    @property
    def _image(self) -> str:
        return f"{self.disk}@@{self.offset}"

    def files(self) -> tuple[str, ...]:
        """Every file."""
        return esp.list_files(self.disk, self.offset)

    def read(self, path: str) -> bytes:
        """The content of a file."""
        return esp.read_file(self.disk, self.offset, path)

    def write(self, path: str, content: bytes) -> None:
        """Write a file; its folders are made."""
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            proc.run(["mmd", "-D", "s", "-i", self._image, f"::{folder}"], doing="changing the ESP", ok=(0, 1))
        file = self.disk.with_suffix(".file")
        file.write_bytes(content)
        esp.copy_in(self.disk, self.offset, file, path)

    def delete(self, path: str) -> None:
        """Delete a file."""
        proc.run(["mdel", "-i", self._image, f"::{path}"], doing="changing the ESP")


def copied(state: BootState, folder: Path) -> tuple[BootState, Esp]:
    """The same state with a raw disk of its own, and its ESP."""
    (disk,) = state.disks
    own = folder / "disk.raw"
    proc.run(["cp", "--sparse=always", disk.path, own], doing="copying the disk")
    offset = partitioning.find_esp(own)
    assert offset is not None
    assert state.firmware is not None
    store = shutil.copyfile(state.variables or state.firmware.template, folder / "efi-vars.fd")
    return evolve(state, disks=(evolve(disk, path=own),), variables=Path(store)), Esp(disk=own, offset=offset)


def entry(template: str, title: str, version: int, *parameters: str) -> bytes:
    """An entry for the kernel of another one, with more parameters."""
    changed = re.sub(r"^title .*", f"title {title}", template, flags=re.MULTILINE)
    changed = re.sub(r"^version .*", f"version {version}", changed, flags=re.MULTILINE)
    return re.sub(r"^(options .*)", rf"\1 {' '.join(parameters)}", changed, flags=re.MULTILINE).encode()


def two_generations(own: Esp, *, loader: str = "", old: str = "old", new: str = "new") -> None:
    """Replace the entry that the image has by two: version 2 comes first in the menu, and starts by itself.

    :param loader: what ``loader.conf`` says.
    :param old: name of the older entry's file; ``new`` likewise.
    """
    (first,) = (path for path in own.files() if path.startswith(ENTRIES))
    template = own.read(first).decode()
    own.delete(first)
    own.write(f"{ENTRIES}{old}.conf", entry(template, "Old", 1, "generation=1"))
    own.write(f"{ENTRIES}{new}.conf", entry(template, "New", 2, "generation=2"))
    own.write("/loader/loader.conf", loader.encode())


def entries(own: Esp) -> list[str]:
    """The names of the entries' files."""
    return sorted(path.removeprefix(ENTRIES) for path in own.files() if path.startswith(ENTRIES))


def command_line(vm: Machine) -> str:
    """The command line of the kernel that starts, which the kernel itself prints."""
    return vm.expect_boot(r"Command line: [^\n]*\n").text


def generation(vm: Machine) -> int:
    """Which generation starts."""
    found = re.search(r"generation=(\d)", command_line(vm))
    assert found is not None, vm.printed()
    return int(found[1])


SystemMaker = Callable[..., tuple[BootState, Esp]]
"""Makes a system with two generations; takes what :func:`two_generations` takes."""
