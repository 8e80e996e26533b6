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
    :param libraries: what the programs load while they run, so that no list of their needs names it.
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
    libraries: tuple[str, ...] = ()
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
    RootFilesystem(
        name="btrfs",
        longest_label=255,
        programs=("mkfs.btrfs", "btrfs"),
        package="btrfs-progs",
        modules=("btrfs",),
        compressions=("none", "zstd", "lzo", "zlib"),
        # mkfs.btrfs(8): 109 MiB where metadata are kept twice, which is its default
        smallest=128 * MIB,
    ),
    RootFilesystem(
        name="f2fs",
        # 512 UTF-16 units with the one that ends it, and a letter of so many bytes takes no more units
        longest_label=511,
        programs=("mkfs.f2fs", "fsck.f2fs"),
        package="f2fs-tools",
        modules=("f2fs",),
        # the cloud kernel does not have it
        kernel_flavour="amd64",
        smallest=128 * MIB,
    ),
    RootFilesystem(
        name="erofs",
        longest_label=16,
        read_only=True,
        programs=("mkfs.erofs", "fsck.erofs"),
        package="erofs-utils",
        modules=("erofs",),
        compressions=("lz4", "lz4hc", "none"),
    ),
    RootFilesystem(
        name="squashfs",
        longest_label=0,
        has_uuid=False,
        read_only=True,
        programs=("mksquashfs", "unsquashfs"),
        # glibc loads it when a thread ends itself
        libraries=("libgcc_s.so.1",),
        package="squashfs-tools",
        modules=("squashfs",),
        compressions=("zstd", "gzip", "lz4", "lzo", "xz"),
    ),
)

ROOT_FILESYSTEMS = {entry.name: entry for entry in _ENTRIES}
"""Every kind by its name."""
