"""The only door to Nix: what a store holds, and a store database made from its registration."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from vmharness.errors import HostError
from vmharness.host import proc

STORE = "/nix/store"
# the digits of Nix's base 32, and what a name may have: the Nix manual, "Store Path"
_PATH = re.compile(STORE + r"/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]+")
_MOST_ARGUMENTS = 1000  # paths on one command line
# Nix opens the database of a store for writing whatever it is asked, unless a daemon does it
_FORBIDDEN = ("permission denied", "operation not permitted", "is not writable", "readonly database")
_OWN_STORE = (
    "an ordinary user needs nix-daemon running for the host's store, or a store of one's own: copy the closure with "
    "nix copy --to DIR and give DIR as 'store' of the root source"
)
_EPOCH = 1  # the time that Nix itself gives to every file of a store


@frozen(kw_only=True)
class Registration:
    """What a store's database knows of one path: the hash of its content and, as text, the whole record."""

    path: str
    nar_hash: str
    record: str


@frozen(kw_only=True)
class Store:
    """A Nix store: that of the host (``root`` None), or one under another root whose paths still begin with /nix/store.

    :param root: what ``--store`` of Nix's programs takes: the directory that holds ``nix/store``.
    """

    root: Path | None = None

    def physical(self, path: str) -> Path:
        """Where a store path's files lie."""
        return (self.root or Path("/")) / path.lstrip("/")

    def version(self) -> str:
        """Nix's own version. It opens a store even for this."""
        return self._run("--version", doing="asking Nix for its version").text.strip()

    def invalid(self, paths: Sequence[str]) -> list[str]:
        """Those of some store paths that the store does not have."""
        done = self._run("--check-validity", "--print-invalid", *paths, doing="looking into the Nix store")
        return done.text.split()

    def closure(self, paths: Sequence[str]) -> list[str]:
        """Valid paths with everything that they refer to, sorted."""
        return sorted(set(self._run("--query", "--requisites", *paths, doing="asking for the closure").text.split()))

    def registrations(self, paths: Sequence[str]) -> list[Registration]:
        """What the database knows of some valid paths, in their order."""
        found: list[Registration] = []
        for some in _portions(paths):
            found += _parse(self._run("--dump-db", *some, doing="reading the Nix store's database").text)
        return found

    def modified(self, paths: Sequence[str]) -> list[str]:
        """What is wrong with the paths whose files are not those that were registered, a sentence each."""
        found: list[str] = []
        for some in _portions(paths):
            done = self._run("--verify-path", *some, doing="verifying the Nix store's files", ok=(0, 1))
            said = done.stderr.decode("utf-8", "replace").splitlines()
            found += [line for line in said if line.startswith(("path ", "error: "))]
            if done.status and not found:
                raise HostError("verifying the Nix store's files: " + "\n    ".join(said or ["nix-store failed"]))
        return found

    def add(self, directory: Path) -> str:
        """Copy a directory into the store; gives its store path."""
        return self._run("--add", directory, doing=f"adding {directory} to a Nix store").text.strip()

    def load(self, registrations: Sequence[Registration]) -> None:
        """Register paths, whose files need not be there."""
        records = "".join(registration.record for registration in registrations).encode()
        self._run("--load-db", doing="making the image's Nix database", stdin=records)

    def _run(
        self, *arguments: str | Path, doing: str, ok: Sequence[int] = (0,), stdin: bytes | None = None
    ) -> proc.Completed:
        # as a URL the root may have any characters
        where = [] if self.root is None else ["--store", f"local?root={quote(str(self.root))}"]
        # the files of a store that we make are ours
        argv = ["nix-store", *where, "--option", "build-users-group", "", *arguments]
        try:
            return proc.run(argv, doing=doing, ok=ok, stdin=stdin)
        except HostError as error:
            if any(words in str(error).lower() for words in _FORBIDDEN):
                error.hint = _OWN_STORE
            raise


def store_path(path: Path) -> str | None:
    """The store path that ``path`` is, or that the symbolic link there leads to (``result``, say); None if neither."""
    for _link in range(40):  # as the kernel's own limit, path_resolution(7)
        if _PATH.fullmatch(str(path)):
            return str(path)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def write_database(registrations: Sequence[Registration], state: Path, scratch: Path) -> None:
    """Write the database of a store that has exactly these paths; the same ones give the same bytes.

    :param state: what becomes ``/nix/var/nix``; its folder ``db`` is made.
    :param scratch: a folder that does not exist yet, for Nix to work in.
    :raises HostError: Nix failed, or its database cannot be read.
    """
    scratch.mkdir()
    Store(root=scratch).load(sorted(registrations, key=lambda registration: registration.path))
    made = scratch / "nix/var/nix/db"
    (state / "db").mkdir(parents=True)
    (state / "db/schema").write_bytes((made / "schema").read_bytes())
    try:
        with closing(sqlite3.connect(made / "db.sqlite", isolation_level=None)) as database:
            database.execute("UPDATE ValidPaths SET registrationTime = ?", (_EPOCH,))
            # a fresh file: without the pages, counters and the journal that the way here has left in the old one
            database.execute("VACUUM INTO ?", (str(state / "db/db.sqlite"),))
    except sqlite3.Error as error:
        raise HostError(f"making the image's Nix database: {error}") from error


def _portions(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _MOST_ARGUMENTS):
        yield paths[start : start + _MOST_ARGUMENTS]


def _parse(dump: str) -> Iterator[Registration]:
    """The records of ``nix-store --dump-db``: path, hash, size, deriver, number of references, references; a line each.

    :raises HostError: it is something else.
    """
    lines = dump.split("\n")
    at = 0
    while at < len(lines) - 1:
        try:
            end = at + 5 + int(lines[at + 4])
            yield Registration(path=lines[at], nar_hash=lines[at + 1], record="\n".join(lines[at:end]) + "\n")
        except (IndexError, ValueError) as error:
            raise HostError(f"nix-store has described a path in a way that is not known: {lines[at:]}") from error
        at = end
