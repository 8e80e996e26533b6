"""A small system in a Nix store, shaped as a NixOS: it installs systemd-boot by its own switch-to-configuration."""

from __future__ import annotations

from pathlib import Path

from nix_store import NixStore

from vmharness.host import kernel
from vmharness.tree import minimal

MARKER = "nix system: up"

_INIT = """#!{busybox}/bin/sh
export PATH={system}/sw/bin
mount -t proc proc /proc
echo "nix system: up"
exec sleep 1000000
"""

_ACTIVATE = """#!{busybox}/bin/sh
set -eu
test "$IN_NIXOS_ENTER" = 1
mkdir -p /usr/lib/systemd
ln -sfn {systemd}/boot /usr/lib/systemd/boot
ln -sfn {system} /run/current-system
echo ID=nixos >/etc/os-release
exit 3
"""

# Programs come from the PATH alone, and HOME takes what must not get into the image.
_SWITCH = """#!{busybox}/bin/sh
set -eu
test "$1" = boot
test "$NIXOS_INSTALL_BOOTLOADER" = 1
test "$(readlink /run/current-system)" = {system}
test -e /etc/NIXOS
echo scratch >"$HOME/nix-defexpr"
{systemd}/lib/ld-linux-x86-64.so.2 --library-path {systemd}/lib {systemd}/bin/bootctl install \\
    --esp-path=/boot --make-entry-directory=no
mkdir -p /boot/EFI/nixos /boot/loader/entries
cp {kernel}/bzImage {kernel}/initrd /boot/EFI/nixos
cat >/boot/loader/entries/nixos-generation-1.conf <<END
title NixOS
version Generation 1
linux /EFI/nixos/bzImage
initrd /EFI/nixos/initrd
options init={system}/init root=LABEL=nixos rw console=ttyS0
END
"""


def make(store: NixStore) -> str:
    """Add the system to a store; gives its store path."""
    parts = minimal.stage(kernel.appliance_kernel(), systemd_boot=True).directory
    applets: dict[str, bytes | str] = {
        f"bin/{path.name}": "busybox"
        for folder in ("usr/bin", "usr/sbin")
        for path in sorted((parts / folder).iterdir())
        if path.is_symlink()
    }
    busybox = store.add("busybox-1", {"bin/busybox": (parts / "usr/bin/busybox").read_bytes(), **applets})
    images = {"bzImage": "vmlinuz-*", "initrd": "initrd.img-*"}
    linux = store.add("linux-1", {name: _one(parts / "boot", pattern) for name, pattern in images.items()})
    loader = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    files: dict[str, bytes | str] = {
        "bin/bootctl": (parts / "usr/bin/bootctl").read_bytes(),
        "boot/efi/systemd-bootx64.efi": (parts / loader).read_bytes(),
    }
    files |= {f"lib/{path.name}": path.read_bytes() for path in (parts / "usr/lib").iterdir() if path.is_file()}
    systemd = store.add("systemd-1", files)
    system = store.name("nixos-system-test-1")
    scripts = {"init": _INIT, "activate": _ACTIVATE, "bin/switch-to-configuration": _SWITCH}
    names = {"busybox": busybox, "kernel": linux, "systemd": systemd, "system": system}
    made: dict[str, bytes | str] = {name: text.format(**names).encode() for name, text in scripts.items()}
    return store.add("nixos-system-test-1", {**made, "sw": busybox}, [busybox, linux, systemd, system])


def _one(folder: Path, pattern: str) -> bytes:
    (path,) = folder.glob(pattern)
    return path.read_bytes()
