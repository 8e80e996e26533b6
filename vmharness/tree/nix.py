"""The root source ``nix``: the closure of a system in a Nix store, with its registration and profile.

Nothing of the tree depends on when and by whom it was staged: everything is root's and has Nix's own time, and the
database is made anew from the registration.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from vmharness.errors import SpecError
from vmharness.host import cache, proc
from vmharness.model.image import NixSpec
from vmharness.model.results import StagedTree
from vmharness.model.sources import NixSource
from vmharness.tree.measure import survey
from vmharness.tree.nixstore import STORE, Registration, Store, store_path, write_database
from vmharness.tree.staging import staged
from vmharness.tree.stream import Stream

KEY = "root.source.nix"
_SWITCH = "bin/switch-to-configuration"
_CHANNEL = "nixos-channel"  # the name of a channel that is made here
_PROFILES = "/nix/var/nix/profiles"
_CHANNELS = f"{_PROFILES}/per-user/root/channels"
_FOLDERS = {
    "": 0o755, "dev": 0o755, "etc": 0o755, "etc/nixos": 0o755, "nix": 0o755, "nix/store": 0o755, "nix/var": 0o755,
    "nix/var/nix": 0o755, "nix/var/nix/gcroots": 0o755, "nix/var/nix/gcroots/auto": 0o755,
    "nix/var/nix/profiles": 0o755, "nix/var/nix/profiles/per-user": 0o755, "nix/var/nix/profiles/per-user/root": 0o755,
    "nix/var/nix/temproots": 0o755, "proc": 0o755, "root": 0o700, "run": 0o755, "sys": 0o755, "tmp": 0o1777,
    "var": 0o755,
}  # fmt: skip


@frozen(kw_only=True)
class _Closure:
    """What is staged.

    :param system: the system's store path.
    :param paths: registrations of everything in the closure, sorted by path.
    :param channel: the channel's store path, or the directory that it is made of.
    """

    store: Store
    system: str
    paths: tuple[Registration, ...]
    channel: str | Path | None


def stage_nix(source: NixSource, nix: NixSpec, *, installs: bool, origin: str) -> StagedTree:
    """Copy a system's closure into the cache, where it is found again by its paths and their hashes.

    :param installs: whether the system's own ``switch-to-configuration`` is to install the bootloader.
    :param origin: the definition file, for messages.
    :raises SpecError: a path is none of a store, or not in this one; or its files are not those that were registered.
    :raises HostError: Nix is missing or failed, or the cache cannot be written.
    """
    proc.require("nix-store")
    closure = _closure_of(source, nix, origin)
    if installs and not os.path.lexists(closure.store.physical(closure.system) / _SWITCH):
        raise SpecError(
            f"{closure.system} has no {_SWITCH}: it is no system",
            hint="give the store path of config.system.build.toplevel, or another bootloader.install than 'nixos'",
            origin=origin,
            key=KEY,
        )
    inputs = {
        "nix": {registration.path: registration.nar_hash for registration in closure.paths},
        "system": closure.system,
        "store-only": nix.store_only,
        "channel": _channel_identity(closure.channel, origin),
        "configuration": _configuration_digest(nix, origin),
        "version": closure.store.version(),
    }

    @contextmanager
    def open_stream() -> Iterator[Stream]:
        _verify(closure, origin)
        with tempfile.TemporaryDirectory(prefix="vmharness-nix-") as folder:
            parts = _store_parts(closure) if nix.store_only else _system_parts(closure, nix, Path(folder).resolve())
            with proc.pipe_from(
                archive_command(parts, Path(folder)), doing="reading the Nix store", env={"TAR_OPTIONS": ""}
            ) as pipe:
                stream = Stream(pipe.fileno())
                yield stream
                stream.drain()

    return staged(inputs, open_stream, what=f"the closure of {closure.system}", origin=origin, key=KEY)


def _closure_of(source: NixSource, nix: NixSpec, origin: str) -> _Closure:
    store = _store_of(source, origin)
    system = _path_of(source.path, KEY, origin)
    wanted = {KEY: system}
    for number, path in enumerate(nix.additional_paths):
        key = f"nix.additional-paths[{number}]"
        wanted[key] = _path_of(path, key, origin)
    channel: str | Path | None = nix.channel
    if nix.channel is not None and (known := store_path(nix.channel)) is not None:
        wanted["nix.channel"] = channel = known
    missing = store.invalid(tuple(wanted.values()))
    for key, found in wanted.items():
        if found in missing:
            raise SpecError(
                f"{found} is not in the Nix store{f' of {store.root}' if store.root else ''}",
                hint="build it with nix-build, fetch it with nix-store --realise, or name another store's root: "
                '{ nix = "...", store = "..." }',
                origin=origin,
                key=key,
            )
    paths = store.closure(tuple(wanted.values()))
    return _Closure(store=store, system=system, paths=tuple(store.registrations(paths)), channel=channel)


def _store_of(source: NixSource, origin: str) -> Store:
    store = Store(root=None if source.store is None else source.store.resolve())
    if not store.physical(STORE).is_dir():
        raise SpecError(
            f"there is no Nix store at {store.physical(STORE)}",
            hint="'store' names the directory that holds nix/store, as --store of Nix's programs",
            origin=origin,
            key="root.source.store" if source.store else KEY,
        )
    return store


def _path_of(path: Path, key: str, origin: str) -> str:
    found = store_path(path)
    if found is None:
        raise SpecError(
            f"{path} is not a store path, nor a link to one",
            hint=f"a store path is {STORE}/HASH-NAME, with nothing behind the name; nix-build prints it",
            origin=origin,
            key=key,
        )
    return found


def _verify(closure: _Closure, origin: str) -> None:
    wrong = closure.store.modified([registration.path for registration in closure.paths])
    if wrong:
        raise SpecError(
            f"the Nix store is damaged: {wrong[0]}",
            hint="mend it with nix-store --verify --check-contents --repair",
            origin=origin,
            key=KEY,
        )


def _channel_identity(channel: str | Path | None, origin: str) -> str:
    if not isinstance(channel, Path):
        return channel or ""
    if not (channel / "default.nix").is_file():
        raise SpecError(
            f"{channel} is neither a store path nor a directory with a default.nix",
            hint="give the source of the package set (a checkout of nixpkgs), or the store path of a channel",
            origin=origin,
            key="nix.channel",
        )
    try:
        return survey(channel.resolve()).identity
    except OSError as error:
        raise SpecError(
            f"cannot read {channel / (error.filename or '')}: {error.strerror}", origin=origin, key="nix.channel"
        ) from error


def _configuration_digest(nix: NixSpec, origin: str) -> str:
    if nix.configuration is None:
        return ""
    try:
        return cache.digest_of(nix.configuration)
    except OSError as error:
        raise SpecError(
            f"cannot read {nix.configuration}: {error.strerror}", origin=origin, key="nix.configuration"
        ) from error


def _store_parts(closure: _Closure) -> list[tuple[Path, list[str]]]:
    """What the archive of the store alone holds: a directory, and names in it."""
    names = [registration.path.removeprefix(f"{STORE}/") for registration in closure.paths]
    return [(closure.store.physical(STORE), names)]


def _system_parts(closure: _Closure, nix: NixSpec, folder: Path) -> list[tuple[Path, list[str]]]:
    """What the archive of a whole system holds: directories, and names in each of them."""
    paths, parts = list(closure.paths), []
    channel = closure.channel
    if isinstance(channel, Path):
        store = Store(root=folder / "channel-store")
        channel = store.add(_channel_tree(channel, folder))
        paths += store.registrations([channel])
        parts.append((folder / "channel-store", [channel.lstrip("/")]))
    tree = folder / "tree"
    _make_state(tree, closure.system, channel)
    write_database(paths, tree / "nix/var/nix", folder / "database")
    if nix.configuration is not None:
        shutil.copyfile(nix.configuration, tree / "etc/nixos/configuration.nix")
    _set_modes(tree)
    names = [registration.path.lstrip("/") for registration in closure.paths]
    return [(tree, ["."]), (closure.store.root or Path("/"), names), *parts]


def _channel_tree(source: Path, folder: Path) -> Path:
    """A channel of the package set's source, in the form in which NixOS looks for it."""
    tree = folder / _CHANNEL
    shutil.copytree(source, tree / "nixos", symlinks=True, ignore=shutil.ignore_patterns(".git"))
    if not (tree / "nixos/nixpkgs").exists():
        (tree / "nixos/nixpkgs").symlink_to(".")
    return tree


def _make_state(tree: Path, system: str, channel: str | None) -> None:
    """What ``nixos-install`` leaves besides the store: folders, profiles, and the mark of a NixOS."""
    for name in _FOLDERS:
        (tree / name).mkdir()
    (tree / "etc/NIXOS").touch()
    (tree / "nix/var/nix/gcroots/profiles").symlink_to(_PROFILES)
    _set_profile(tree, f"{_PROFILES}/system", system)
    if channel is not None:
        _set_profile(tree, _CHANNELS, channel)
        (tree / "root/.nix-defexpr").mkdir()
        (tree / "root/.nix-defexpr/channels").symlink_to(_CHANNELS)


def _set_profile(tree: Path, profile: str, path: str) -> None:
    """The first generation of a profile, as ``nix-env --set`` makes it."""
    place = tree / profile.lstrip("/")
    place.symlink_to(f"{place.name}-1-link")
    place.with_name(f"{place.name}-1-link").symlink_to(path)


def _set_modes(tree: Path) -> None:
    """Make modes independent of this user's umask."""
    for place in tree.rglob("*"):
        if not place.is_symlink():
            place.chmod(0o755 if place.is_dir() else 0o644)
    for name, mode in _FOLDERS.items():
        (tree / name).chmod(mode)


def archive_command(parts: Sequence[tuple[Path, list[str]]], folder: Path) -> list[str | Path]:
    """The command that writes the archive; hard links stay such."""
    argv: list[str | Path] = ["tar", "--create", "--format=posix", "--sparse", "--sort=name"]
    argv += ["--numeric-owner", "--owner=0", "--group=0", "--mtime=@1", "--pax-option=delete=atime,delete=ctime"]
    argv += ["--null", "--verbatim-files-from"]
    for number, (directory, names) in enumerate(parts):
        listing = folder / f"names-{number}"
        listing.write_text("".join(f"{name}\0" for name in names))
        argv += ["--directory", directory, "--files-from", listing]
    return argv
