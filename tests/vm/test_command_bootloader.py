"""The user's own bootloader command, run in the target, makes an image that boots."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trees
from running import Workplace

from vmharness.disk import esp
from vmharness.host import packages

SCRIPT = r"""#!/bin/sh
set -eu
echo "installing on $DISK with ${#} arguments: $1"
test -b "$DISK"
test "$(ls -l /dev/disk/by-id/virtio-target)" != ""
grep -q " $ESP vfat " /proc/mounts
number=$(cat /sys/class/block/$(basename "$DISK")2/dev)
test -b "/dev/block/$number"
test "$(readlink -f /dev/disk/by-partuuid/"${ROOT_ARGUMENT#root=PARTUUID=}")" = "${DISK}2"
mkdir -p "$ESP/EFI/BOOT" "$ESP/loader/entries"
cp /opt/loader.efi "$ESP/EFI/BOOT/BOOTX64.EFI"
cp /boot/vmlinuz-* "$ESP/linux"
cp /boot/initrd.img-* "$ESP/initrd"
cat >"$ESP/loader/entries/own.conf" <<END
title Own
linux /linux
initrd /initrd
options $ROOT_ARGUMENT $KERNEL_PARAMETERS
END
printf '\007\000\000\000made by hand' >/sys/firmware/efi/efivars/Own-5ca1ab1e-0000-4000-8000-000000000001
"""

CONTENTS = """
[[contents]]
source = "install.sh"
target = "/opt/install the loader"
mode = "0755"

[[contents]]
source = "loader.efi"
target = "/opt/loader.efi"
"""


@pytest.fixture(scope="module")
def built(shop: Workplace) -> Path:
    """The minimal image, made bootable by a script of the user's."""
    (shop.folder / "install.sh").write_text(SCRIPT)
    # the same packages as the minimal tree's own, so that they are in the cache already
    unpacked = packages.unpack(("systemd-boot", "systemd-boot-efi", "libsystemd-shared", "libip4tc2"))
    shutil.copy(unpacked / "usr/lib/systemd/boot/efi/systemd-bootx64.efi", shop.folder / "loader.efi")
    install = trees.command(["/opt/install the loader", "it's $HOME"])
    parameters = 'kernel-parameters = ["console=ttyS0", "own.word=yes"]\n'
    return shop.build(trees.MINIMAL + install + parameters + CONTENTS, output="command")


def test_it_finds_disk_esp_root_and_variables(built: Path, tmp_path: Path, shop: Workplace) -> None:
    """The command sees the disk, its links, the mounted ESP, the root argument, and writes real EFI variables."""
    disk = trees.raw_disk(built, tmp_path)
    offset = trees.esp_of(built)
    assert {"/EFI/BOOT/BOOTX64.EFI", "/linux", "/initrd"} <= set(esp.list_files(disk, offset))
    options = esp.read_file(disk, offset, "/loader/entries/own.conf").decode()
    guid = trees.read_manifest(built).table.by_role("root").guid
    assert f"options root=PARTUUID={guid} rw console=ttyS0 own.word=yes\n" in options
    variables = {item["name"]: item for item in shop.run("inspect", built, "--json").json()["variables"]}
    assert bytes.fromhex(variables["Own"]["value"]) == b"made by hand"


def test_it_boots(built: Path, place: Workplace) -> None:
    """What it installed boots to login, with the parameters that it was given."""
    booted = place.run("boot", built, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout
    assert b"own.word=yes" in Path(booted.json()["transcript"]).read_bytes()
