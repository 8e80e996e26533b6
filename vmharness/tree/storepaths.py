"""Nix store paths with everything that they refer to, for a partition that holds them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vmharness.errors import SpecError
from vmharness.host import proc
from vmharness.tree.nix import archive_command
from vmharness.tree.nixstore import STORE, Registration, Store, store_path
from vmharness.tree.stream import Stream


def closure_of(paths: Sequence[Path], root: Path | None, *, origin: str, key: str) -> tuple[Registration, ...]:
    """The registrations of the closures of store paths, sorted by path.

    :param root: the directory that holds ``nix/store``, or None for the host's own store.
    :param origin: the definition file, and ``key`` the place in it, for messages.
    :raises SpecError: a path is none of the store, or its files are not those that were registered.
    :raises HostError: Nix is missing or failed.
    """
    if not paths:
        return ()
    proc.require("nix-store")
    store, found = Store(root=root), {}
    for number, path in enumerate(paths):
        known = store_path(path)
        if known is None:
            raise SpecError(f"{path} is not a store path, nor a link to one", origin=origin, key=f"{key}[{number}]")
        found[known] = number
    for missing in store.invalid(tuple(found)):
        raise SpecError(f"{missing} is not in the Nix store", origin=origin, key=f"{key}[{found[missing]}]")
    closure = store.closure(tuple(found))
    for wrong in store.modified(closure):
        raise SpecError(f"the Nix store is damaged: {wrong}", origin=origin, key=key)
    return tuple(store.registrations(closure))


@contextmanager
def closure_stream(paths: Sequence[str], root: Path | None) -> Iterator[Stream]:
    """A tar archive of store paths, by their names in the store; all is root's and has Nix's own time.

    :param root: as for :func:`closure_of`.
    """
    parts = [(Store(root=root).physical(STORE), [path.removeprefix(f"{STORE}/") for path in paths])]
    with tempfile.TemporaryDirectory(prefix="vmharness-nix-") as folder:
        argv = archive_command(parts, Path(folder))
        with proc.pipe_from(argv, doing="reading the Nix store", env={"TAR_OPTIONS": ""}) as pipe:
            stream = Stream(pipe.fileno())
            yield stream
            stream.drain()
