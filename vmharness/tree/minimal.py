"""The embedded minimal tree: busybox, the appliance's kernel, and systemd-boot where it is wanted.

It boots to the line ``vmharness minimal: up`` and a login prompt that takes ``root`` without a password. Tests and
examples use it: it is made in a second and needs no network once the kernel (and systemd-boot) are in the cache.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import cache, packages, proc
from vmharness.host.cpio import CpioWriter
from vmharness.host.data import data_directory
from vmharness.host.libraries import libraries
from vmharness.host.modules import module_bytes, resolve_modules
from vmharness.model.hardware import Kernel
from vmharness.model.results import StagedTree
from vmharness.model.sources import DirectorySource, SourceOwner
from vmharness.tree.directory import stage_directory

MARKER = "vmharness minimal: up"

_FORMAT = 2
_MODULES = (
    "virtio_pci", "virtio_blk", "nvme", "ext4", "vfat", "nls_cp437", "nls_ascii", "efivarfs",
    "virtio_rng",
)  # fmt: skip
_FILES = {
    "etc/inittab": (
        "::sysinit:/etc/init.d/rcS\nconsole::respawn:/sbin/getty -L 0 console vt100\n::ctrlaltdel:/sbin/reboot\n"
    ),
    "etc/passwd": "root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nadm:x:4:\nnogroup:x:65534:\n",
    "etc/hostname": "minimal\n",
    "etc/os-release": 'ID=vmharness-minimal\nNAME="vmharness minimal"\nPRETTY_NAME="vmharness minimal"\nVERSION_ID=1\n',
    "etc/profile": "export PS1='minimal# '\n",
}
_FOLDERS = (
    "boot",
    "dev",
    "efi",
    "etc",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "var/log",
)
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu/systemd", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")


def stage(kernel: Kernel, *, systemd_boot: bool, modules: tuple[str, ...] = ()) -> StagedTree:
    """The minimal tree, from the cache or made now.

    :param kernel: the kernel that it boots.
    :param modules: what its kernel needs for its root filesystem besides the usual modules.
    :param systemd_boot: whether the tree has ``bootctl`` and systemd-boot to install (a dozen MB more).
    :raises HostError: a tool is missing, or systemd-boot cannot be had.
    """
    boot_packages = _systemd_boot_packages() if systemd_boot else None
    scripts = data_directory("guest-scripts") / "minimal"
    facts = {
        "format": _FORMAT,
        "kernel": cache.remembered_digest(kernel.image),
        "busybox": cache.remembered_digest(proc.require("busybox")),
        "scripts": [cache.digest_of(path) for path in sorted(scripts.iterdir())],
        "files": _FILES,
        "systemd-boot": str(boot_packages),
        "modules": modules,
    }
    key = cache.key_of(facts)
    place = cache.entry("minimal", key, lambda folder: _make(folder / "tree", kernel, scripts, modules, boot_packages))
    return stage_directory(DirectorySource(path=place / "tree", owner=SourceOwner.ROOT), origin="the minimal tree")


def _make(tree: Path, kernel: Kernel, scripts: Path, modules: tuple[str, ...], boot_packages: Path | None) -> None:
    tree.mkdir(mode=0o755)
    for folder in _FOLDERS:
        (tree / folder).mkdir(parents=True)
    (tree / "tmp").chmod(0o1777)
    (tree / "root").chmod(0o700)
    for link, target in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib")):
        (tree / link).symlink_to(target)
    for name, text in _FILES.items():
        (tree / name).write_text(text)
    (tree / "etc/init.d").mkdir()
    shutil.copy2(scripts / "rcS", tree / "etc/init.d/rcS")
    _busybox(tree)
    shutil.copy(kernel.image, tree / f"boot/vmlinuz-{kernel.version}")
    for name in ("vmlinuz", "initrd.img"):  # as Debian has them: names that do not change with the version
        (tree / name).symlink_to(f"boot/{name}-{kernel.version}")
    _initrd(tree / f"boot/initrd.img-{kernel.version}", kernel, scripts, modules)
    if boot_packages is not None:
        _systemd_boot(tree, boot_packages)


def _busybox(tree: Path) -> None:
    shutil.copy(proc.require("busybox"), tree / "usr/bin/busybox")
    applets = proc.run(["busybox", "--list-full"], doing="listing busybox' applets").text.split()
    for applet in applets:
        folder = "usr/sbin" if "sbin/" in applet else "usr/bin"
        place = tree / folder / Path(applet).name
        if not place.is_symlink() and place.name != "busybox":
            place.symlink_to("/usr/bin/busybox")


def _initrd(path: Path, kernel: Kernel, scripts: Path, modules: tuple[str, ...]) -> None:
    programs = {"bin/busybox": proc.require("busybox"), "bin/blkid": proc.require("blkid")}
    with path.open("wb") as file:
        archive = CpioWriter(file)
        for folder in ("dev", "proc", "sys", "root"):
            archive.directory(folder)
        archive.character_device("dev/console", 0o600, 5, 1)
        archive.regular("init", (scripts / "initrd-init").read_bytes(), 0o755)
        for name, program in programs.items():
            archive.regular(name, program.read_bytes(), 0o755)
        for library in libraries(programs.values()):
            archive.regular(str(library), library.read_bytes(), 0o755)
        listing = ""
        for module in resolve_modules(kernel, (*_MODULES, *modules)):
            name = f"lib/modules/{module.name.partition('.ko')[0]}.ko"
            archive.regular(name, module_bytes(module))
            listing += f"/{name}\n"
        archive.regular("modules.list", listing.encode())
        archive.finish()


def _systemd_boot_packages() -> Path:
    """The folder of systemd-boot's packages; ``bootctl`` moved from one to another between Debian 12 and 13."""
    for names in (("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2"),):
        folder = packages.cached(names)
        if folder is not None:
            return folder
    return packages.unpack(("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2"))


def _systemd_boot(tree: Path, unpacked: Path) -> None:
    bootctl = next((path for path in (unpacked / "usr/bin/bootctl", unpacked / "bin/bootctl") if path.is_file()), None)
    if bootctl is None:
        raise HostError(f"the package systemd-boot holds no bootctl: {unpacked}")
    shutil.copy(bootctl, tree / "usr/bin/bootctl")
    loaders = tree / "usr/lib/systemd/boot/efi"
    loaders.mkdir(parents=True)
    for loader in (unpacked / "usr/lib/systemd/boot/efi").glob("systemd-boot*.efi"):
        shutil.copy(loader, loaders / loader.name)
    prefer = tuple(unpacked / folder for folder in _LIBRARY_FOLDERS)
    for library in libraries([bootctl], prefer=prefer):
        shutil.copy(library, tree / "usr/lib" / library.name)
