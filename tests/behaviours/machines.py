"""States for the tests of behaviours: copies of a disk or a variable store, to be edited or damaged."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

from attrs import evolve, frozen

from vmharness.disk import efivars, esp, partitioning
from vmharness.flows.efivars import set_bytes, set_text
from vmharness.host import proc
from vmharness.model import devicepath
from vmharness.model.variables import LoadOption, VariableStore
from vmharness.testing import BootState, Faults
from vmharness.testing.machine import Machine

SECTOR = 512
ENTRY = "Linux Boot Manager"
"""Description of the boot entry that ``bootctl install`` writes."""
LOADER = "/EFI/systemd/systemd-bootx64.efi"
FALLBACK = "/EFI/BOOT/BOOTX64.EFI"


@frozen(kw_only=True)
class RuinedDisk:
    """A raw disk of a test's own, with an EFI system partition.

    :param esp: byte at which the partition begins.
    """

    path: Path
    esp: int

    def overwrite(self, offset: int, data: bytes) -> None:
        """Write bytes over those of the disk."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the disk."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def files(self) -> tuple[str, ...]:
        """Every file of the EFI system partition."""
        return esp.list_files(self.path, self.esp)

    def put(self, path: str, data: bytes) -> None:
        """Write a file to the EFI system partition."""
        file = self.path.with_suffix(".file")
        file.write_bytes(data)
        esp.copy_in(self.path, self.esp, file, path)

    def get(self, path: str) -> bytes:
        """The content of a file of the EFI system partition."""
        return esp.read_file(self.path, self.esp, path)

    def delete(self, path: str) -> None:
        """Remove a file from the EFI system partition."""
        proc.run(["mdel", "-i", f"{self.path}@@{self.esp}", f"::{path}"], doing="removing a file")

    @property
    def table(self) -> tuple[int, int]:
        """The byte at which the first allocation table begins, and its size."""
        boot = self.read(self.esp, SECTOR)
        (reserved,) = struct.unpack_from("<H", boot, 14)
        (sectors,) = struct.unpack_from("<I", boot, 36)
        return self.esp + reserved * SECTOR, sectors * SECTOR

    @property
    def free(self) -> int:
        """Bytes that files can still take on the EFI system partition."""
        said = proc.run(["mdir", "-i", f"{self.path}@@{self.esp}", "::"], doing="looking for room").text
        (line,) = (line for line in said.splitlines() if line.endswith("bytes free"))
        return int("".join(letter for letter in line if letter.isdigit()))

    def sectors(self, path: str) -> range:
        """Where a file that lies in one piece is on the disk, in sectors of 512 bytes."""
        argv = ["mshowfat", "-i", f"{self.path}@@{self.esp}", f"::{path}"]
        said = proc.run(argv, doing="looking where a file lies").text
        first, last = (int(number) for number in said.partition("<")[2].partition(">")[0].split("-"))
        per_cluster = self.read(self.esp, SECTOR)[13]
        start, size = self.table
        begin = (start + 2 * size) // SECTOR
        return range(begin + (first - 2) * per_cluster, begin + (last - 1) * per_cluster)


def own_disk(state: BootState, folder: Path) -> tuple[BootState, RuinedDisk]:
    """The state with a copy of its raw disk, and the copy."""
    copy = folder / "ruined.img"
    proc.run(["cp", "--sparse=always", state.disks[0].path, copy], doing="copying the disk")
    offset = partitioning.find_esp(copy)
    assert offset is not None
    disks = (evolve(state.disks[0], path=copy), *state.disks[1:])
    return evolve(state, disks=disks), RuinedDisk(path=copy, esp=offset)


def unreadable(state: BootState, sectors: Iterable[int]) -> BootState:
    """The state with a disk of which some sectors of 512 bytes cannot be read."""
    faulty = evolve(state.disks[0], faults=Faults(unreadable=tuple(sectors)))
    return evolve(state, disks=(faulty, *state.disks[1:]))


def own_store(state: BootState, folder: Path) -> Path:
    """A copy of the state's variable store."""
    assert state.variables is not None
    return shutil.copyfile(state.variables, folder / "edited.fd")


def add_entry(store: Path, description: str, path: str, *, like: int) -> int:
    """Write one more boot entry, for another file of the partition that an entry is for; gives its number."""
    there = efivars.read_store(store)
    option = there.load_option(like)
    assert option is not None
    partition = tuple(node for node in option.target if (node.type, node.subtype) != (4, 4))
    name = path.replace("/", "\\") + "\0"
    file = devicepath.Node(type=4, subtype=4, data=name.encode("utf-16-le"))
    number = max(there.boot_entries()) + 1
    added = LoadOption(attributes=1, description=description, path=((*partition, file),), optional_data=b"")
    set_entry(store, number, added)
    return number


def set_entry(store: Path, number: int, option: LoadOption) -> None:
    """Write a boot entry, and put it at the end of ``BootOrder`` unless it is there."""
    set_bytes(store, f"Boot{number:04X}", option.to_bytes())
    order = efivars.read_store(store).boot_order()
    if number not in order:
        set_order(store, (*order, number))


def set_order(store: Path, order: Iterable[int]) -> None:
    """Write ``BootOrder``."""
    set_text(store, "BootOrder", ",".join(f"{number:04X}" for number in order))


def number_of(store: VariableStore, description: str) -> int:
    """The number of the boot entry with that description."""
    (number,) = (number for number, option in store.boot_entries().items() if option.description == description)
    return number


def first_entry(store: VariableStore) -> str:
    """Description of the entry that comes first in ``BootOrder``."""
    option = store.load_option(store.boot_order()[0])
    return option.description if option is not None else ""


def boot(machine: Machine, until: str = "kernel") -> Machine:
    """Switch a machine on and wait until it has booted so far."""
    machine.start()
    machine.expect_boot(until)
    return machine
