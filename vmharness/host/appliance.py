"""The appliance: the minimal guest that works on the disk, made from a kernel and the host's own tools.

Its initramfs holds busybox, the kernel's modules that it needs, the guest scripts, and a few of the host's programs
with their libraries. It is cached by the content of all these.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from attrs import frozen

from vmharness.host import cache, proc
from vmharness.host.cpio import CpioWriter
from vmharness.host.data import data_directory
from vmharness.host.guest_tools import GuestTools
from vmharness.host.libraries import libraries, loader_of
from vmharness.host.modules import module_bytes, resolve_modules
from vmharness.model.hardware import Kernel

MODULES = (
    "virtio_pci", "virtio_console", "virtio_rng", "virtio_blk", "efivarfs", "ext4", "vfat", "nls_cp437", "nls_ascii",
    "qemu_fw_cfg",
)  # fmt: skip
"""Kernel modules of the appliance, each with what it depends on; those built into the kernel are passed over."""

PROGRAMS = ("tar", "mkfs.vfat", "blkid")
"""Programs of the host that the guest scripts need besides busybox."""

KERNEL_PARAMETERS = ("console=ttyS0", "loglevel=4", "panic=-1", "random.trust_cpu=on", "tsc=reliable", "no_timer_check")
"""The appliance's kernel command line."""

_FORMAT = 1


@frozen(kw_only=True)
class Appliance:
    """A bootable appliance: kernel and initramfs; ``identity`` is the content id of both."""

    kernel: Kernel
    initramfs: Path
    identity: str


def make(kernel: Kernel, extra: GuestTools | None = None) -> Appliance:
    """The appliance for a kernel, from the cache or made now.

    :param extra: what it holds besides its own programs and modules.
    :raises HostError: a tool or a module that it needs is missing on the host.
    """
    members = _members(kernel, extra or GuestTools())
    digest = hashlib.sha256(f"{_FORMAT}".encode())
    for name, (data, mode) in sorted(members.items()):
        digest.update(f"{name}\0{mode:o}\0{len(data)}\0".encode() + data)
    identity = digest.hexdigest()[:32]
    folder = cache.entry("appliance", identity, lambda place: _write(members, place / "initramfs.cpio"))
    kernel_digest = cache.remembered_digest(kernel.image)[:16]
    return Appliance(kernel=kernel, initramfs=folder / "initramfs.cpio", identity=f"{identity}-{kernel_digest}")


def _members(kernel: Kernel, extra: GuestTools) -> dict[str, tuple[bytes, int]]:
    """Every regular file of the initramfs by name: content and mode."""
    members: dict[str, tuple[bytes, int]] = {}
    scripts = data_directory("guest-scripts")
    for path in sorted(scripts.rglob("*")):
        if path.is_file():
            executable = path.suffix != ".sh"
            members[f"lib/vmharness/{path.relative_to(scripts)}"] = (path.read_bytes(), 0o755 if executable else 0o644)
    members["init"] = members.pop("lib/vmharness/init")
    programs = {"bin/busybox": proc.require("busybox"), **{f"bin/{name}": proc.require(name) for name in PROGRAMS}}
    programs |= {f"bin/{name}": path for name, path in extra.programs.items()}
    for name, program in programs.items():
        members[name] = (program.read_bytes(), 0o755)
    found = libraries(programs.values(), prefer=extra.library_folders)
    found += [loader_of(found).resolve().with_name(name) for name in extra.libraries]
    needed = {extra.place_in_guest(library): library for library in found}
    for name, library in needed.items():
        members[name] = (library.read_bytes(), 0o755)
    members["lib/vmharness/loader"] = (loader_of(needed.values()).read_bytes(), 0o755)
    folders = sorted({f"/{Path(name).parent}" for name in needed})
    members["lib/vmharness/library-path"] = (":".join(folders).encode() + b"\n", 0o644)
    modules = resolve_modules(kernel, (*MODULES, *extra.modules))
    listing = ""
    for module in modules:
        plain_name = module.name.partition(".ko")[0] + ".ko"
        members[f"lib/modules/{plain_name}"] = (module_bytes(module), 0o644)
        listing += f"/lib/modules/{plain_name}\n"
    members["lib/vmharness/modules"] = (listing.encode(), 0o644)
    return members


def _write(members: dict[str, tuple[bytes, int]], target: Path) -> None:
    applets = proc.run(["busybox", "--list"], doing="listing busybox' applets").text.split()
    with target.open("wb") as file:
        archive = CpioWriter(file)
        for folder in ("dev", "proc", "sys", "run", "tmp", "target", "etc"):
            archive.directory(folder)
        archive.character_device("dev/console", 0o600, 5, 1)
        archive.character_device("dev/null", 0o666, 1, 3)
        for name, (data, mode) in sorted(members.items()):
            archive.regular(name, data, mode)
        for applet in applets:
            if f"bin/{applet}" not in members:
                archive.symlink(f"bin/{applet}", "busybox")
        archive.finish()
