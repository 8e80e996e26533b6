"""The peer mkosi: a whole image from the same archive, in its own way, without EFI variables."""

from __future__ import annotations

from pathlib import Path

from bench.archive import Archive
from bench.context import Context
from bench.measure import Sample, timed
from vmharness.host import proc

PROGRAM = "mkosi"
OLDEST = 26  # the settings below are of this version
_SETTINGS = """\
[Distribution]
Distribution=custom

[Output]
Format=disk
Output=image

[Content]
BaseTrees={archive}
Bootable=yes
Bootloader=systemd-boot
UnifiedKernelImages=none
KernelModulesInitrd=no
Initrds={initrd}
KernelCommandLine=root=LABEL=root rw
"""
_ESP = """\
[Partition]
Type=esp
Format=vfat
CopyFiles=/boot:/
CopyFiles=/efi:/
SizeMinBytes=256M
SizeMaxBytes=256M
"""
_ROOT = """\
[Partition]
Type=root
Format=ext4
Label=root
CopyFiles=/
SizeMinBytes=1G
SizeMaxBytes=1G
"""


def version() -> str | None:
    """The version that is installed, or None."""
    if proc.find(PROGRAM) is None:
        return None
    return proc.run([PROGRAM, "--version"], doing="asking mkosi for its version").text.removeprefix(PROGRAM).strip()


def prepare(context: Context, archive: Archive) -> None:
    """Write its configuration."""
    folder = context.scratch / "mkosi"
    (folder / "mkosi.repart").mkdir(parents=True)
    (folder / "mkosi.skeleton" / "efi").mkdir(parents=True)  # where bootctl looks for the partition
    initrd = archive.tree / archive.initrd
    (folder / "mkosi.conf").write_text(_SETTINGS.format(archive=archive.path, initrd=initrd))
    (folder / "mkosi.repart" / "00-esp.conf").write_text(_ESP)
    (folder / "mkosi.repart" / "10-root.conf").write_text(_ROOT)


def build(context: Context) -> Sample:
    """The image; an earlier one is replaced."""
    argv: list[str | Path] = [PROGRAM, "--directory", context.scratch / "mkosi", "--force", "build"]
    return timed(lambda: proc.run(argv, doing="building with mkosi"))
