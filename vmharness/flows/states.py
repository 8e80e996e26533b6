"""Comparing two states of a build: what is in the target, and which EFI variables there are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from attrs import frozen

from vmharness.flows import efivars
from vmharness.flows.session import Session

_STORE = "compared.fd"


@frozen(kw_only=True)
class Differences:
    """How one state differs from another.

    :param files: paths in the target, each with ``+``, ``-`` or ``~`` (new, gone, changed) before it.
    :param variables: changes of EFI variables, one sentence each.
    """

    files: tuple[str, ...]
    variables: tuple[str, ...]


def compare(session: Session, one: str, other: str) -> Differences:
    """How the state ``other`` differs from ``one``. The session is in the former afterwards.

    Files are known by type, mode, size and the time of their last change: both states come from the same disk, on which
    that time changes with everything. Folders count with type and mode only.

    :param one: the name of a checkpoint, or a step for the state before it; as ``other``.
    :raises GuestError: the target is not mounted in one of them.
    :raises SpecError: there is no such state.
    """
    session.go_to(one)
    before = dict(_listed(session))
    store = session.run.directory.path / _STORE
    if session.plan.firmware is not None:
        shutil.copyfile(session.variables, store)
    session.go_to(other)
    after = dict(_listed(session))
    variables: tuple[str, ...] = ()
    if session.plan.firmware is not None:
        variables = tuple(change.text for change in efivars.compare(store, session.variables))
    return Differences(files=tuple(_changes(before, after)), variables=variables)


def _listed(session: Session) -> Iterator[tuple[str, str]]:
    """Each path in the target, with what tells that it has changed."""
    for line in session.listed():
        changed, size, mode, path = line.split(" ", 3)
        is_folder = int(mode, 16) & 0o170000 == 0o040000
        yield path, mode if is_folder else f"{changed} {size} {mode}"


def _changes(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            yield f"+ {path}"
        elif path not in after:
            yield f"- {path}"
        elif before[path] != after[path]:
            yield f"~ {path}"
