"""Makes real Nix stores for tests: below a folder, without a builder, as any user."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from attrs import field, frozen

from vmharness.host import proc

# what base 32 of Nix has; the tests' hashes are one digit, repeated
_DIGITS = "0123456789abcdfghijklmnpqrsvwxyz"


@frozen
class NixStore:
    """A store whose files lie below ``root``; its paths begin with /nix/store all the same."""

    root: Path
    paths: list[str] = field(factory=list)

    def name(self, name: str) -> str:
        """The store path that the next one added will have."""
        return f"/nix/store/{_DIGITS[len(self.paths)] * 32}-{name}"

    def physical(self, path: str) -> Path:
        """Where a store path's files lie."""
        return self.root / path.lstrip("/")

    def add(self, name: str, files: dict[str, bytes | str], references: Sequence[str] = ()) -> str:
        """Add a directory: executables by path (bytes), and symbolic links (text)."""
        path = self.name(name)
        place = self.physical(path)
        place.mkdir(parents=True)
        for file, data in files.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, bytes):
                (place / file).write_bytes(data)
            else:
                (place / file).symlink_to(data)
        return self.register(path, references)

    def register(self, path: str, references: Sequence[str] = ()) -> str:
        """Give what lies at a store path the modes and times of a store's files, and register it."""
        place = self.physical(path)
        for found in sorted([place, *place.rglob("*")], reverse=True):
            if not found.is_symlink():
                found.chmod(0o555)
            os.utime(found, (1, 1), follow_symlinks=False)
        archive = proc.run(["nix-store", "--dump", place], doing="packing a store path").stdout
        record = [path, hashlib.sha256(archive).hexdigest(), str(len(archive)), "", str(len(references)), *references]
        self.run("--load-db", stdin="".join(f"{line}\n" for line in record).encode())
        self.paths.append(path)
        return path

    def run(self, *arguments: str, stdin: bytes | None = None, ok: Sequence[int] = (0,)) -> proc.Completed:
        """Run nix-store on it."""
        argv = [
            "nix-store",
            "--store",
            f"local?root={quote(str(self.root))}",
            "--option",
            "build-users-group",
            "",
            *arguments,
        ]
        return proc.run(argv, doing="working in the test's Nix store", stdin=stdin, ok=ok)

    def verify(self) -> None:
        """See that every file is what is registered, and that nothing is registered or there besides."""
        done = self.run("--verify", "--check-contents")
        said = done.stderr.decode().splitlines()
        assert [line for line in said if "error" in line or "modified" in line or "disappeared" in line] == []


def system(store: NixStore) -> str:
    """A closure of three paths that is shaped as a system; the program in one has a second name in another."""
    shell = store.add("shell", {"bin/sh": b"a shell"})
    tools = store.name("tools")
    store.physical(tools).joinpath("bin").mkdir(parents=True)
    store.physical(tools).joinpath("bin/same").hardlink_to(store.physical(shell) / "bin/sh")
    store.register(tools, [shell])
    files: dict[str, bytes | str] = {"bin/switch-to-configuration": b"#!/bin/sh\n", "sw": tools}
    return store.add("nixos-system", files, [tools])
