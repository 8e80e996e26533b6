"""Each partition table with each bootloader that suits it, booted by each firmware that it is for.

The machine is a fresh one, with none of the appliance in it: firmware, the installed bootloader, the target's own
kernel and its initrd, up to the target's own ``init``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import frozen
from running import Workplace

DEFINITION = """
[image]
name = "{name}"
format = "raw"
partition-table = "{table}"
additional-space = "64M"
boot-size = "160M"

[root]
source = {{ debian = "bookworm", include = [
    "linux-image-cloud-amd64", "systemd-boot", "grub-pc-bin", "grub-efi-amd64-bin", "grub2-common",
    "refind", "extlinux", "syslinux-common", "efibootmgr",
] }}

[[contents]]
source = "init"
target = "/sbin/init"
mode = "0755"

[[contents]]
source = "menu.cfg"
target = "/etc/default/grub.d/menu.cfg"

[bootloader]
install = {install}
kernel-parameters = ["console=ttyS0", "quiet"]

[efi]
touch-variables = {touch}
"""

# The words with which the target's init says what it sees; nobody else can: they are made when it runs.
INIT = """#!/bin/sh
exec </dev/console >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
firmware=bios
[ ! -d /sys/firmware/efi ] || firmware=efi
root=$(sed -n 's#^\\([^ ]*\\) / .*#\\1#p' /proc/mounts)
[ -w / ] && echo "the target runs: firmware=$firmware root=$root"
exec sleep 100000
"""


@frozen(kw_only=True)
class Row:
    """One line of the matrix."""

    table: str
    install: str
    firmwares: tuple[str, ...]
    argument: str = ""
    touch: bool = True

    @property
    def name(self) -> str:
        """A name that is also a file's."""
        return f"{self.table.replace('+', '-')}-{self.install}"

    @property
    def definition(self) -> str:
        """Its image definition."""
        install = f'{{ {self.install} = "{self.argument}" }}' if self.argument else f'"{self.install}"'
        touch = "efi" in self.firmwares and self.touch
        return DEFINITION.format(name=self.name, table=self.table, install=install, touch=str(touch).lower())


KERNEL = "/vmlinuz"  # with its initrd, as a link to the target's newest
# Those of the table "hybrid" boot with a blank variable store, where their loaders allow it.
MATRIX = [
    Row(table="none", install="extlinux", firmwares=("bios",)),
    Row(table="legacy", install="grub", firmwares=("bios",)),
    Row(table="legacy", install="extlinux", firmwares=("bios",)),
    Row(table="legacy+boot", install="grub", firmwares=("bios",)),
    Row(table="legacy+boot", install="extlinux", firmwares=("bios",)),
    Row(table="legacy+gpt", install="grub", firmwares=("bios",)),
    Row(table="legacy+gpt", install="extlinux", firmwares=("bios",)),
    Row(table="efi", install="grub", firmwares=("efi",)),
    Row(table="efi", install="systemd-boot", firmwares=("efi",)),
    Row(table="efi", install="refind", firmwares=("efi",)),
    Row(table="efi", install="efi-binary", argument=KERNEL, firmwares=("efi",)),
    Row(table="efixbootldr", install="grub", firmwares=("efi",)),
    Row(table="efixbootldr", install="systemd-boot", firmwares=("efi",)),
    Row(table="efixbootldr", install="refind", firmwares=("efi",)),
    Row(table="efixbootldr", install="efi-binary", argument=KERNEL, firmwares=("efi",)),
    Row(table="hybrid", install="grub", firmwares=("bios", "efi"), touch=False),
    Row(table="hybrid", install="systemd-boot", firmwares=("efi",), touch=False),
    Row(table="hybrid", install="refind", firmwares=("efi",), touch=False),
    Row(table="hybrid", install="efi-binary", argument=KERNEL, firmwares=("efi",)),
]


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row.name)
def test_it_boots(row: Row, place: Workplace) -> None:
    """The built image boots to the target's init under every firmware that its table is for, from one file."""
    init = place.folder / "init"
    init.write_text(INIT)
    (place.folder / "menu.cfg").write_text("GRUB_TIMEOUT=0\n")
    output = place.build(row.definition, output="out")
    for firmware in row.firmwares:
        _boots(place, output, firmware)


def _boots(place: Workplace, output: Path, firmware: str) -> None:
    options = ["--bios"] if firmware == "bios" else []
    done = place.run("boot", output, "--until", f"the target runs: firmware={firmware} root=/dev/vda", *options)
    assert done.status == 0, done.stdout + done.stderr
