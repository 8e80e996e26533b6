"""The filesystems that a root partition can have: one entry each.

Everything that differs between them and is not code is here: what the definition may say, which programs make and check
one, and which kernel knows it.
"""

from __future__ import annotations

from attrs import frozen

from vmharness.model.sizes import MIB


@frozen(kw_only=True)
class RootFilesystem:
    """One kind of filesystem.

    :param name: as the definition, ``mount`` and ``blkid`` have it.
    :param longest_label: bytes of the longest label; 0 where it has none.
    :param has_uuid: whether it has a UUID.
    :param read_only: whether it is made once, with everything in it, and never written to again.
    :param programs: what makes and checks it, in the guest; nothing where the host does it.
    :param package: the Debian package that brings the programs.
    :param modules: what the guest's kernel needs for it.
    :param kernel_flavour: the flavour of Debian's kernel that has these modules.
    :param compressions: what ``compression`` may say, the default first; empty where it may say nothing.
    :param smallest: bytes of the smallest one that its tool makes.
    """

    name: str
    longest_label: int
    has_uuid: bool = True
    read_only: bool = False
    programs: tuple[str, ...] = ()
    package: str = ""
    modules: tuple[str, ...] = ()
    kernel_flavour: str = "cloud-amd64"
    compressions: tuple[str, ...] = ()
    smallest: int = MIB

    @property
    def made_in_guest(self) -> bool:
        """Whether it is made and filled in the guest, from a tree that the host lays on a disk of its own."""
        return bool(self.programs)


_ENTRIES = (
    RootFilesystem(name="ext4", longest_label=16),
    RootFilesystem(
        name="xfs",
        longest_label=12,
        programs=("mkfs.xfs", "xfs_repair"),
        package="xfsprogs",
        modules=("xfs",),
        # mkfs.xfs(8): smaller ones are refused since xfsprogs 5.19
        smallest=300 * MIB,
    ),
)

ROOT_FILESYSTEMS = {entry.name: entry for entry in _ENTRIES}
"""Every kind by its name."""
