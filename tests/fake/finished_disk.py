"""A finished disk as a build leaves it, made on the host with the distribution's own tools; and its variable store."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import frozen

from vmharness.disk import image, partitioning
from vmharness.disk.verify import Expectations
from vmharness.host import descriptors, proc
from vmharness.model.image import AutoFirmware, ImageSpec, RootSpec
from vmharness.model.partitions import Ext4, Fat, Layout, Partition
from vmharness.model.sizes import MIB
from vmharness.model.sources import MinimalSource
from vmharness.model.variables import GLOBAL
from vmharness.plan import firmware
from vmharness.plan.identity import derive
from vmharness.plan.layout import make_layout

LOADER = "\\EFI\\systemd\\systemd-bootx64.efi"
IDENTIFIERS = derive("finished")
SPEC = ImageSpec(origin=Path("/image.toml"), name="finished", root=RootSpec(source=MinimalSource()), boot_size=33 * MIB)


@frozen(kw_only=True)
class Finished:
    """A disk, its store, and what is expected of both."""

    disk: Path
    layout: Layout
    store: Path
    expectations: Expectations

    @property
    def esp(self) -> Partition:
        """The EFI system partition."""
        return self.layout.by_role("esp")

    @property
    def root(self) -> Partition:
        """The root partition."""
        return self.layout.by_role("root")

    @property
    def ext4(self) -> Ext4:
        """The root filesystem, as planned."""
        assert isinstance(self.root.filesystem, Ext4)
        return self.root.filesystem

    @property
    def fat(self) -> Fat:
        """The filesystem of the EFI system partition, as planned."""
        assert isinstance(self.esp.filesystem, Fat)
        return self.esp.filesystem

    def put(self, path: str, data: bytes = b"MZ") -> None:
        """Write a file to the EFI system partition."""
        put(self.disk, self.esp.offset, path, data)

    def damage(self, offset: int, data: bytes) -> None:
        """Overwrite bytes of the disk."""
        overwrite(self.disk, offset, data)

    def copy_to(self, folder: Path) -> "Finished":
        """The same in another folder, to be damaged there."""
        proc.run(["cp", "--sparse=always", self.disk, folder / "disk.raw"], doing="copying the disk")
        shutil.copyfile(self.store, folder / "efi-vars.fd")
        return Finished(
            disk=folder / "disk.raw",
            layout=self.layout,
            store=folder / "efi-vars.fd",
            expectations=self.expectations,
        )


def make(folder: Path) -> Finished:
    """A disk with a loader on its ESP, an ext4 root, and a store whose first boot entry points at that loader."""
    layout = make_layout(SPEC, IDENTIFIERS, 8 * MIB)
    disk = folder / "disk.raw"
    image.create(disk, layout.size)
    partitioning.write_table(disk, layout)
    esp, root = layout.by_role("esp"), layout.by_role("root")
    ext4 = Ext4(label="root", uuid=IDENTIFIERS.root_uuid, hash_seed=IDENTIFIERS.hash_seed, size=root.size, inodes=2048)
    layout = layout.with_filesystem("root", ext4)
    fat = esp.filesystem
    assert isinstance(fat, Fat)
    make_fat(disk, esp, fat)
    make_ext4(disk, root, ext4)
    put(disk, esp.offset, "/EFI/systemd/systemd-bootx64.efi", b"MZ")
    store = folder / "efi-vars.fd"
    template = template_store()
    write_store(
        store,
        template,
        {"BootOrder": struct.pack("<HH", 3, 0), "Boot0003": boot_entry(esp), "Boot0000": setup_entry()},
    )
    expectations = Expectations(boot_entry=True, store_size=template.stat().st_size)
    return Finished(disk=disk, layout=layout, store=store, expectations=expectations)


def make_fat(disk: Path, part: Partition, fat: Fat, *more: str) -> None:
    """Make the ESP's filesystem where it lies in the disk."""
    options = ["-F", "32", "-s", "1", "-n", fat.label, "-i", f"{fat.volume_id:08x}", "--mbr=n", *more]
    place = [f"--offset={part.start}", str(disk), str(part.size // 1024)]
    proc.run(["mkfs.vfat", *options, *place], doing="making a FAT")


def make_ext4(disk: Path, part: Partition, ext4: Ext4) -> None:
    """Make the root filesystem where it lies in the disk."""
    options = ["-q", "-F", "-t", "ext4", "-L", ext4.label, "-U", str(ext4.uuid), "-N", str(ext4.inodes)]
    place = ["-E", f"hash_seed={ext4.hash_seed},offset={part.offset}", str(disk), f"{ext4.size // 1024}k"]
    proc.run(["mke2fs", *options, *place], doing="making an ext4")


def put(disk: Path, offset: int, path: str, data: bytes) -> None:
    """Write a file into the FAT at ``offset``, with the directories above it."""
    fat = f"{disk.name}@@{offset}"
    above = [str(folder) for folder in reversed(Path(path).parents) if str(folder) != "/"]
    for folder in above:
        # "-D s" skips a directory that is there, which is status 1
        proc.run(["mmd", "-D", "s", "-i", fat, f"::{folder}"], doing="making a folder", cwd=disk.parent, ok=(0, 1))
    proc.run(["mcopy", "-o", "-i", fat, "-", f"::{path}"], doing="writing a file", cwd=disk.parent, stdin=data)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def template_store() -> Path:
    """The host's own template of a variable store."""
    return firmware.select(AutoFirmware(), descriptors.for_choice(AutoFirmware())).template


def write_store(path: Path, template: Path, variables: dict[str, bytes], guid: UUID = GLOBAL) -> None:
    """Make a store with these variables, by virt-firmware's own hand."""
    listing: list[dict[str, Any]] = [
        {"name": name, "guid": str(guid), "attr": 7, "data": data.hex()} for name, data in variables.items()
    ]
    wanted = path.with_suffix(".json")
    wanted.write_text(json.dumps({"version": 2, "variables": listing}))
    proc.run(["virt-fw-vars", "-i", template, "--set-json", wanted, "-o", path], doing="making a variable store")


def boot_entry(part: Partition, file: str = LOADER, attributes: int = 1, **changes: Any) -> bytes:
    """A boot entry for a file on a partition; ``changes`` to the partition's number, start, sectors and guid."""
    place = {"number": part.number, "start": part.start, "sectors": part.sectors, "guid": part.guid, **changes}
    drive = struct.pack("<IQQ16sBB", place["number"], place["start"], place["sectors"], place["guid"].bytes_le, 2, 2)
    name = f"{file}\0".encode("utf-16-le")
    path = b"\x04\x01\x2a\x00" + drive + struct.pack("<BBH", 4, 4, 4 + len(name)) + name + b"\x7f\xff\x04\x00"
    return struct.pack("<IH", attributes, len(path)) + "Linux Boot Manager\0".encode("utf-16-le") + path


def setup_entry(attributes: int = 0x109) -> bytes:
    """OVMF's own setup menu, a hidden tool."""
    path = b"\x04\x06\x14\x00" + UUID("462caa21-7614-4503-836e-8ab6f4662331").bytes_le + b"\x7f\xff\x04\x00"
    return struct.pack("<IH", attributes, len(path)) + "UiApp\0".encode("utf-16-le") + path
