"""What the appliance holds only for some builds: the programs and kernel modules of one kind of root filesystem.

The programs are the host's where it has them all; otherwise their Debian package is unpacked into the cache, with what
it depends on and this host does not have. Nothing is installed.
"""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from vmharness.errors import HostError
from vmharness.host import packages, proc
from vmharness.model.rootfs import RootFilesystem

_PROGRAM_FOLDERS = ("usr/sbin", "sbin", "usr/bin", "bin")


@frozen(kw_only=True)
class GuestTools:
    """Programs and modules that go into the appliance besides its own.

    :param programs: where each program is on the host, by its name.
    :param libraries: names of libraries that they load while they run, from the C library's folder.
    :param tree: the folder of unpacked packages that holds them, or None where they are the host's own.
    :param modules: kernel modules.
    """

    programs: dict[str, Path] = field(factory=dict)
    libraries: tuple[str, ...] = ()
    tree: Path | None = None
    modules: tuple[str, ...] = ()

    @property
    def library_folders(self) -> tuple[Path, ...]:
        """Where the unpacked packages have their shared libraries."""
        if self.tree is None:
            return ()
        return tuple(sorted({path.parent for path in self.tree.rglob("lib*.so*")}))

    def place_in_guest(self, path: Path) -> str:
        """The name of one of the libraries in the appliance: what is in the cache here is at the root there."""
        if self.tree is not None and path.is_relative_to(self.tree):
            return str(path.relative_to(self.tree))
        return str(path).lstrip("/")


def guest_tools(kind: RootFilesystem) -> GuestTools:
    """What the appliance needs for that kind of root filesystem, from the host or the cache.

    :raises HostError: the programs are not here and cannot be had.
    """
    found = {name: path for name in kind.programs if (path := proc.find(name)) is not None}
    if len(found) == len(kind.programs):
        return GuestTools(programs=found, libraries=kind.libraries, modules=kind.modules)
    otherwise = f"or install {kind.package}"
    tree = packages.unpack([kind.package], dependencies=True, otherwise=otherwise)
    programs = {name: _in_tree(tree, name, kind.package) for name in kind.programs}
    return GuestTools(programs=programs, libraries=kind.libraries, tree=tree, modules=kind.modules)


def _in_tree(tree: Path, name: str, package: str) -> Path:
    place = next((tree / folder / name for folder in _PROGRAM_FOLDERS if (tree / folder / name).is_file()), None)
    if place is None:
        raise HostError(f"the package {package} holds no program '{name}': {tree}")
    return place
