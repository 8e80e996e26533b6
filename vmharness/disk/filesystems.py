"""The root filesystem: made and populated straight into the raw disk, and checked there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vmharness.disk.joining import join, settle
from vmharness.disk.population import apply_metadata
from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.model.partitions import Ext4
from vmharness.model.results import StagedTree
from vmharness.model.sizes import MIB
from vmharness.plan.sizing import journal_blocks

_CONFIG = Path(__file__).resolve().with_name("mke2fs.conf")
_BLOCK = 4096
# e2fsck: 4 is "errors left uncorrected"; 8 and more are failures of the program itself
_FINDINGS = (0, 1, 2, 4, 12)


def make_ext4(disk: Path, offset: int, ext4: Ext4, tree: StagedTree) -> None:
    """Make the root filesystem with the tree in it.

    No privilege is needed: owners, modes, device nodes, times and attributes become what the tree means.

    :param disk: the raw disk, zeros where the filesystem goes.
    :param offset: the filesystem's first byte.
    :raises HostError: mke2fs or debugfs failed, the host's disk is full, or the source changed meanwhile.
    """
    extended = {
        "offset": offset,
        "hash_seed": ext4.hash_seed,
        "root_owner": "0:0",
        # the disk is a fresh sparse file: nothing to zero, now or in the guest, and nothing to discard
        "assume_storage_prezeroed": 1,
        "lazy_itable_init": 0,
        "lazy_journal_init": 1,
    }
    options = ",".join([*(f"{key}={value}" for key, value in extended.items()), "nodiscard"])
    if tree.index is not None:
        options += ",no_copy_xattrs"  # the staged files' own (a security label of the host, say) are not meant
    journal = ["-J", f"size={journal_blocks(ext4.size) * _BLOCK // MIB}"]
    if "^has_journal" in ext4.options:
        journal = []
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-E", options, *journal, "-L", ext4.label]
    argv += [*ext4.options]
    argv += ["-U", str(ext4.uuid), "-N", str(ext4.inodes), "-d", str(tree.directory), disk.name]
    argv += [str(ext4.size // _BLOCK)]
    config = {"MKE2FS_CONFIG": str(_CONFIG)}
    proc.run(argv, doing="making the root filesystem", env=config, cwd=disk.absolute().parent)
    try:
        if tree.huge_directories:
            join(disk, offset, tree)
        apply_metadata(disk, offset, tree)
    except OSError as error:
        raise HostError(f"setting the metadata of the root filesystem: {error.strerror}") from error
    if tree.huge_directories:
        settle(disk, offset)


def check_ext4(disk: Path, offset: int) -> tuple[str, ...]:
    """What ``e2fsck -fn`` finds wrong with a filesystem; nothing is changed.

    :returns: its findings, a line each; none where the filesystem is clean.
    :raises HostError: e2fsck is missing.
    """
    # through a link of our own: a '?' in the path would begin the options
    with tempfile.TemporaryDirectory(prefix="vmharness-") as folder:
        (Path(folder) / "disk").symlink_to(disk.absolute())
        argv = ["e2fsck", "-fn", f"disk?offset={offset}"]
        done = proc.run(argv, doing="checking the root filesystem", ok=range(256), cwd=Path(folder))
    if done.status == 0:
        return ()
    said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    lines = [line for line in said if line.strip() and not line.startswith(("Pass ", "e2fsck "))]
    return tuple(lines) or (f"e2fsck ended with status {done.status}",)
