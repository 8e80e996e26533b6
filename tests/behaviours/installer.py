"""A small installer, made here: an ISO image that asks two questions on the serial console and installs a system."""

from __future__ import annotations

from pathlib import Path

import iso
import unified

from vmharness.host import kernel, packages, proc
from vmharness.host.cpio import CpioWriter
from vmharness.host.libraries import libraries
from vmharness.host.modules import module_bytes, resolve_modules

MARKER = "the installed system is up, and its name is"
_MODULES = ("virtio_pci", "virtio_blk", "vfat", "nls_cp437", "nls_ascii")
_COMMAND_LINE = "console=ttyS0 loglevel=4 panic=-1"

_PROLOGUE = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "$module"; done </modules.list
"""

_INSTALLER = (
    _PROLOGUE
    + """
echo "The small installer"
while :; do
    printf 'Install to which disk? '
    read -r disk
    [ -b "/dev/$disk" ] && break
    echo "There is no disk /dev/$disk."
done
printf 'What is the system called? '
read -r name
echo "Dividing /dev/$disk"
printf 'label: gpt\\ntype=U, name=ESP\\n' | sfdisk --quiet "/dev/$disk" || exec sh
echo "Making filesystems"
mkfs.vfat -n ESP "/dev/${disk}1" >/dev/null
mkdir /target
mount -t vfat "/dev/${disk}1" /target || exec sh
mkdir -p /target/EFI/BOOT
cp /installed.efi /target/EFI/BOOT/BOOTX64.EFI
echo "$name" >/target/name
umount /target
sync
echo "Installed."
poweroff -f
"""
)

_INSTALLED = (
    _PROLOGUE
    + f"""
mkdir /target
mount -t vfat /dev/vda1 /target
echo "{MARKER} $(cat /target/name)"
exec sh
"""
)


def write(folder: Path) -> Path:
    """Make the installer in a folder; gives its ISO image."""
    parts = folder / "parts"
    parts.mkdir()
    unpacked = packages.unpack(("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2"))
    stub = (unpacked / "usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()
    installed = _unified(stub, parts / "installed", _INSTALLED, {})
    tools = {f"bin/{name}": proc.require(name) for name in ("sfdisk", "mkfs.vfat")}
    loader = _unified(stub, parts / "installer", _INSTALLER, tools, {"installed.efi": installed})
    image = folder / "small.iso"
    iso.write(image, _fat(parts, loader))
    return image


def _unified(
    stub: bytes, place: Path, script: str, tools: dict[str, Path], files: dict[str, bytes] | None = None
) -> bytes:
    """A kernel with an initramfs whose first process is ``script``."""
    linux = kernel.appliance_kernel(None, None)
    modules = {f"lib/modules/{path.name.partition('.ko')[0]}.ko": path for path in resolve_modules(linux, _MODULES)}
    with place.open("wb") as file:
        archive = CpioWriter(file)
        for name in ("dev", "proc", "sys", "bin"):
            archive.directory(name)
        archive.character_device("dev/console", 0o600, 5, 1)
        archive.regular("init", script.encode(), 0o755)
        for name, path in {"bin/busybox": proc.require("busybox"), **tools}.items():
            archive.regular(name, path.read_bytes(), 0o755)
        for library in libraries(tools.values()):
            archive.regular(str(library), library.read_bytes(), 0o755)
        for name, path in modules.items():
            archive.regular(name, module_bytes(path))
        archive.regular("modules.list", "".join(f"/{name}\n" for name in modules).encode())
        for name, data in (files or {}).items():
            archive.regular(name, data)
        archive.finish()
    sections = {
        ".osrel": b"ID=small\nVERSION_ID=1\n",
        ".cmdline": _COMMAND_LINE.encode(),
        ".linux": linux.image.read_bytes(),
        ".initrd": place.read_bytes(),
    }
    return unified.unified_kernel_image(stub, sections)


def _fat(folder: Path, loader: bytes) -> bytes:
    """A FAT with a loader on the fallback path."""
    image, file = folder / "fat", folder / "loader.efi"
    file.write_bytes(loader)
    with image.open("wb") as empty:
        empty.truncate((len(loader) // (1 << 20) + 36) << 20)
    proc.run(["mkfs.vfat", "-F", "32", image], doing="making a FAT")
    proc.run(["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"], doing="making folders")
    proc.run(["mcopy", "-i", image, file, "::/EFI/BOOT/BOOTX64.EFI"], doing="copying the loader")
    return image.read_bytes()
