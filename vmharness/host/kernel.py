"""The appliance's kernel: given by path, or Debian's own, unpacked in the cache and not installed."""

from __future__ import annotations

import re
from pathlib import Path

from vmharness.errors import HostError, SpecError
from vmharness.host import cache, packages, proc
from vmharness.model.hardware import Kernel

CLOUD = "cloud-amd64"
"""The flavour of Debian's kernel that the appliance runs unless the build needs more."""

_OTHERWISE = "or give a kernel with --kernel VMLINUZ --modules LIB/MODULES/VERSION"
_COMMAND_LINE = "<command line>"


def appliance_kernel(image: Path | None = None, modules: Path | None = None, *, flavour: str = CLOUD) -> Kernel:
    """The kernel that the appliance runs.

    :param image: a bootable kernel image of the user's; then ``modules`` is needed too.
    :param modules: ``lib/modules/VERSION``, or a folder that holds exactly one such.
    :param flavour: which of Debian's kernels to take otherwise.
    :raises SpecError: what the user gave is no kernel, or image and modules do not belong together.
    :raises HostError: the kernel is not in the cache and cannot be downloaded.
    """
    if image is not None and modules is not None:
        return _given(image, modules)
    if image is not None or modules is not None:
        raise SpecError("--kernel and --modules go together; one is missing", origin=_COMMAND_LINE)
    return cached_kernel(flavour) or _downloaded(flavour)


def cached_kernel(flavour: str = CLOUD) -> Kernel | None:
    """The newest kernel of a flavour in the cache, or None."""
    trees = (cache.root() / "packages").glob(f"linux-image-*-{flavour}/[!.]*/tree")
    # what ends with "amd64" may be of another flavour, such as "cloud-amd64"
    kernels = [
        kernel
        for tree in trees
        for kernel in _kernels_in(tree)
        if not kernel.version.removesuffix(f"-{flavour}")[-1].isalpha()
    ]
    newest = max(kernels, key=lambda kernel: _order(kernel.version), default=None)
    if newest is not None:
        cache.existing(next(folder for folder in newest.image.parents if folder.name == "tree").parent)
    return newest


def image_version(image: Path) -> str | None:
    """``uname -r`` of a bzImage (Linux x86 boot protocol, ``kernel_version``); None for another kind of image."""
    with image.open("rb") as file:
        head = file.read(0x10000)
    if head[0x202:0x206] != b"HdrS":
        return None
    start = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    words = head[start : start + 256].split(b"\0", 1)[0].split()
    return words[0].decode("ascii", "replace") if words else None


def _downloaded(flavour: str) -> Kernel:
    packages.require_apt(_OTHERWISE)
    tree = packages.unpack([_current_package(f"linux-image-{flavour}")], otherwise=_OTHERWISE)
    kernels = _kernels_in(tree)
    if len(kernels) != 1:
        raise HostError(f"the kernel package holds {len(kernels)} kernels, expected one: {tree}", hint=_OTHERWISE)
    return kernels[0]


def _current_package(meta: str) -> str:
    """The package that holds the kernel: the one that the meta package depends on."""
    said = proc.run(["apt-cache", "depends", "--important", meta], doing="asking apt for the kernel", ok=(0, 100))
    found = re.search(r"Depends: (linux-image-[a-z0-9.+-]+)", said.text)
    if found is None:
        raise HostError(
            f"apt knows no package {meta}, from which the appliance's kernel is taken",
            hint=f"run `apt-get update` as root; {_OTHERWISE}",
        )
    return found.group(1)


def _kernels_in(tree: Path) -> list[Kernel]:
    """The kernels of an unpacked package, with their modules (in /lib, or /usr/lib from Debian 13 on)."""
    return [
        Kernel(
            image=tree / "boot" / f"vmlinuz-{folder.name}",
            modules=folder,
            version=folder.name,
            reason="Debian's cloud kernel: it starts fast and has what virtual machines need",
        )
        for library in ("lib", "usr/lib")
        for folder in (tree / library / "modules").glob("*")
        if (tree / "boot" / f"vmlinuz-{folder.name}").is_file()
    ]


def _order(version: str) -> list[tuple[int, str]]:
    """Sorts versions as a person does: runs of digits count as numbers."""
    return [(int(word) if word.isdigit() else -1, word) for word in re.split(r"(\d+)", version)]


def _given(image: Path, modules: Path) -> Kernel:
    folder = _modules_folder(modules.absolute())
    try:
        version = image_version(image)
        with image.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
    except OSError as error:
        raise SpecError(f"{image}: {error.strerror}", origin=_COMMAND_LINE, key="--kernel") from error
    if version is None and not is_elf:
        raise SpecError(f"{image} is not a Linux kernel image", origin=_COMMAND_LINE, key="--kernel")
    if version is not None and version != folder.name:
        raise SpecError(
            f"the kernel {image} has the version {version}, but the modules in {folder} belong to {folder.name}",
            origin=_COMMAND_LINE,
            key="--modules",
        )
    return Kernel(image=image.absolute(), modules=folder, version=folder.name, reason="given with --kernel")


def _modules_folder(given: Path) -> Path:
    """``given`` itself if it holds modules, or the only folder in it that does."""
    if (given / "kernel").is_dir():
        return given
    inside = [folder for folder in sorted(given.glob("*")) if (folder / "kernel").is_dir()]
    if len(inside) == 1:
        return inside[0]
    seen = f"it holds {len(inside)} kernels' modules" if inside else "it holds no kernel's modules"
    raise SpecError(
        f"{given}: {seen}", origin=_COMMAND_LINE, key="--modules", allowed="a folder lib/modules/VERSION, or its parent"
    )
