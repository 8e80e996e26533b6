"""Every kind of root filesystem: built with everything odd in it, booted, and read back by the kernel that did."""

from __future__ import annotations

import base64
import gzip
import io
import re
import tarfile
from pathlib import Path

import odd_tree
import pytest
from attrs import evolve, frozen
from odd_tree import Member
from running import Workplace

from vmharness.host import kernel
from vmharness.model.rootfs import ROOT_FILESYSTEMS
from vmharness.tree import minimal

# In the booted guest, GNU tar shows what is there; the console takes text only.
LOOK = b"""
echo "filesystem: $(grep ' / ' /proc/mounts | tail -n 1)"
mount -a
cd / && /bin/gnu-tar --create --format=posix --sparse --numeric-owner --xattrs --xattrs-include='*' data \\
    | gzip -9 | base64 | sed 's/^/look: /'
"""
STARTUP = "etc/init.d/rcS"
FOLDER = Member(kind=tarfile.DIRTYPE, mode=0o755, uid=0, gid=0, mtime="1600000000")


@frozen(kw_only=True)
class Case:
    """One kind of filesystem on one kind of partition table; ``root`` is more of the definition's table ``[root]``."""

    filesystem: str
    table: str
    root: str = ""


SUBVOLUMES = 'compression = "zstd"\nsubvolumes = { "@" = "/", "@data/1" = "/data" }'
CASES = (
    Case(filesystem="xfs", table="efi", root='filesystem-options = ["-i", "size=1024"]\nlabel = "a root"'),
    Case(filesystem="btrfs", table="hybrid", root=f'{SUBVOLUMES}\nlabel = "a root"'),
    Case(filesystem="f2fs", table="efi", root='label = "a root"'),
    Case(filesystem="erofs", table="efixbootldr", root='label = "a root"'),
    Case(filesystem="squashfs", table="efi"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.filesystem)
def test_it_boots_and_holds_what_was_meant(case: Case, place: Workplace) -> None:
    """The machine boots from it, and every name, owner, mode, time, node, attribute, hole and byte is as it went in."""
    archive = place.folder / "tree.tar"
    write_bootable(archive, case.filesystem)
    output = place.build(definition(case))
    transcript = boot(output, place)
    (mounted,) = re.findall(r"filesystem: (.*)", transcript)
    assert mounted.split()[2] == case.filesystem
    assert mounted.split()[3].split(",")[0] == ("ro" if ROOT_FILESYSTEMS[case.filesystem].read_only else "rw")
    seen_archive = gzip.decompress(base64.b64decode("".join(re.findall(r"look: (\S+)", transcript))))
    with tarfile.open(fileobj=io.BytesIO(seen_archive)) as file:
        seen = odd_tree.members(file)
        assert odd_tree.holes(file) == {b"data/sparse"}
    meant = meant_by(archive)
    if case.filesystem == "squashfs":
        meant = {name: evolve(member, mtime=whole_seconds(member.mtime)) for name, member in meant.items()}
    assert seen.keys() == meant.keys()
    for name, member in meant.items():
        assert seen[name] == member, name


def whole_seconds(time: str) -> str:
    """A time as squashfs keeps it: whole seconds in 32 bits without sign."""
    return str(int(time.partition(".")[0]) % (1 << 32))


def definition(case: Case) -> str:
    """The image definition of a case."""
    return f"""
[image]
name = "odd"
additional-space = "16M"
boot-size = "48M"
partition-table = "{case.table}"

[root]
filesystem = "{case.filesystem}"
source = {{ tar = "tree.tar" }}
{case.root}

[bootloader]
install = "systemd-boot"
kernel-parameters = ["console=ttyS0"]
"""


def boot(output: Path, place: Workplace) -> str:
    """Boot an image to its login prompt; gives what the machine wrote."""
    booted = place.run("boot", output, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout
    return Path(booted.json()["transcript"]).read_bytes().decode("utf-8", "replace")


def write_bootable(path: Path, filesystem: str) -> None:
    """Write the minimal tree as an archive, with everything odd in it, which it shows when it boots."""
    kind = ROOT_FILESYSTEMS[filesystem]
    linux = kernel.appliance_kernel(flavour=kind.kernel_flavour)
    tree = minimal.stage(linux, systemd_boot=True, modules=kind.modules)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(tree.directory, "", filter=_as_root)
        content = (tree.directory / STARTUP).read_bytes() + LOOK
        startup = tarfile.TarInfo(STARTUP)
        startup.mode, startup.size = 0o755, len(content)
        archive.addfile(startup, io.BytesIO(content))
        odd_tree.write_tar_program(archive)
        # mkfs.erofs 1.5 stops at a name of 255 bytes
        odd_tree.write_data(archive, longest_name=254 if filesystem == "erofs" else 255)


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return None if info.name == STARTUP else info


def meant_by(archive: Path) -> dict[bytes, Member]:
    """What the archive means below ``data``, with the folders that it does not state."""
    with tarfile.open(archive) as file:
        stated = odd_tree.members(file)
    return {**stated, b"data/names": FOLDER, b"data/times": evolve(FOLDER, mtime=str(odd_tree.Y1969))}
