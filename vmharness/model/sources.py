"""Where a tree comes from: one value a kind of source."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from attrs import frozen


class SourceOwner(Enum):
    """Owners of a directory source's files: as on the host, or all root."""

    KEEP = "keep"
    ROOT = "root"


@frozen(kw_only=True)
class DirectorySource:
    """A directory of the host. ``owner`` says whether its owners are meant or just those of the user who made it."""

    path: Path
    owner: SourceOwner = SourceOwner.KEEP


@frozen(kw_only=True)
class TarSource:
    """A tar archive, plain or compressed with any of gzip, bzip2, xz, zstd, lz4."""

    path: Path


@frozen(kw_only=True)
class OciSource:
    """A container image: an OCI image layout (folder or archive) or an archive of ``docker save``.

    :param platform: such as ``linux/amd64`` or ``linux/arm/v7``; empty for the machine's own.
    :param reference: name or manifest digest of the image, where ``path`` holds several; empty for the only one.
    """

    path: Path
    platform: str = ""
    reference: str = ""


@frozen(kw_only=True)
class DebianSource:
    """A tree made by mmdebstrap from the host's own apt configuration.

    :param suite: codename such as ``bookworm``.
    :param include: packages to install besides the variant's.
    :param variant: mmdebstrap's variant.
    """

    suite: str
    include: tuple[str, ...] = ()
    variant: str = "minbase"


@frozen(kw_only=True)
class MinimalSource:
    """The embedded minimal tree: busybox, the appliance's kernel, systemd-boot; boots to a marker and a shell."""


@frozen(kw_only=True)
class NixSource:
    """The closure of a system in a Nix store.

    :param path: the system's store path, or a link to it.
    :param store: the directory that holds ``nix/store``, or None for the host's own store.
    """

    path: Path
    store: Path | None = None


RootSource = DirectorySource | TarSource | OciSource | DebianSource | MinimalSource | NixSource


@frozen(kw_only=True)
class NoSource:
    """No tree: the definition has no root partition of its own, but declared ones, each with its source."""
