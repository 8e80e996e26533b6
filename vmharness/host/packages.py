"""Debian packages, downloaded and unpacked into the cache; nothing is installed, and no privilege is needed.

Which packages there are and where they come from is the host's own apt configuration.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import cache, proc

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_OFFER = re.compile(r"^'.*' (?P<file>\S+) \d+ (?P<digest>\S*)$", re.MULTILINE)
_APT = ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2")
"""As root, apt would download as the user ``_apt``, who may not write in our folder; for others nothing changes."""

_NO_NETWORK = ("Could not connect", "Could not resolve", "Temporary failure", "Connection failed", "Unable to connect")


def unpack(packages: Sequence[str], *, dependencies: bool = False, otherwise: str = "") -> Path:
    """The folder into which exactly these packages are unpacked.

    What was unpacked once is taken again without asking apt, so it needs neither network nor package lists; of several
    versions the newest made counts.

    :param packages: package names.
    :param dependencies: whether what they depend on is unpacked with them, as far as it is not installed on this host.
    :param otherwise: what the user can do where packages cannot be had; becomes part of the error's hint.
    :raises HostError: no apt, unknown package, no network, no space.
    """
    names = sorted(set(packages))
    found = cached(names, dependencies=dependencies)
    if found is not None:
        return found
    require_apt(otherwise)
    offers = _offers(_with_dependencies(names, otherwise) if dependencies else names, otherwise)

    def make(folder: Path) -> None:
        (folder / "packages").write_text("".join(f"{file} {digest}\n" for file, digest in offers))
        _download([file.split("_")[0] for file, _ in offers], folder / "archives", otherwise)
        for archive in sorted((folder / "archives").glob("*.deb")):
            proc.run(["dpkg-deb", "-x", archive, folder / "tree"], doing=f"unpacking {archive.name}")
        shutil.rmtree(folder / "archives")

    return cache.entry(_kind(names, dependencies=dependencies), cache.key_of(offers), make) / "tree"


def cached(packages: Sequence[str], *, dependencies: bool = False) -> Path | None:
    """The folder of packages that were unpacked before, or None."""
    place = cache.root() / _kind(sorted(set(packages)), dependencies=dependencies)
    made = [entry for entry in place.glob("[!.]*") if (entry / "tree").is_dir()]
    newest = max(made, key=lambda entry: entry.stat().st_mtime_ns, default=None)
    return newest / "tree" if newest is not None and cache.existing(newest) is not None else None


def require_apt(otherwise: str = "") -> None:
    """Make sure that there is an apt to ask.

    :raises HostError: there is none.
    """
    if proc.find("apt-get") is None or proc.find("dpkg-deb") is None:
        raise HostError(
            "this host has no apt, from which the packages that vmharness needs are downloaded",
            hint=otherwise or "run vmharness on Debian or one of its derivatives",
        )


def _kind(names: Sequence[str], *, dependencies: bool) -> str:
    assert all(_NAME.fullmatch(name) for name in names), f"package names expected: {names}"
    return f"packages/{','.join(names)}{'+dependencies' if dependencies else ''}"


def _with_dependencies(names: Sequence[str], otherwise: str) -> list[str]:
    """The packages, and what apt would install with them on this host."""
    # An archive folder without archives: apt leaves out what it has downloaded before.
    archives = cache.root() / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    empty = f"Dir::Cache::archives={archives}"
    ask = ["-o", empty, "-o", "Debug::NoLocking=1", "--no-install-recommends", "--yes", "--print-uris", "install"]
    said = _apt_get([*ask, *names], cache.root(), otherwise)
    found = {match["file"].split("_")[0] for match in _OFFER.finditer(said.text)}
    # What is installed already, if broken, is not offered; it is asked for all the same.
    return sorted({*found, *names})


def _offers(names: Sequence[str], otherwise: str) -> list[tuple[str, str]]:
    """File name (it holds the version) and digest of each package's archive, as apt would download it."""
    said = _apt_get(["download", "--print-uris", *names], cache.root(), otherwise)
    offers = sorted((match["file"], match["digest"]) for match in _OFFER.finditer(said.text))
    if len(offers) != len(names):
        raise HostError(
            f"apt offers {len(offers)} archives for the packages {', '.join(names)}", hint=otherwise or None
        )
    return offers


def _download(names: Sequence[str], folder: Path, otherwise: str) -> None:
    folder.mkdir()
    _apt_get(["download", *names], folder, otherwise)


def _apt_get(arguments: Sequence[str], folder: Path, otherwise: str) -> proc.Completed:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    done = proc.run([*_APT, *arguments], doing="asking apt", cwd=folder, ok=range(256))
    if done.status == 0:
        return done
    said = done.stderr.decode("utf-8", "replace")
    complaint = "\n    ".join(line for line in said.splitlines() if line.startswith("E:"))
    if any(words in said for words in _NO_NETWORK):
        advice = "check the network and apt's proxy settings"
    else:
        advice = "apt's package lists are missing or old: run `apt-get update` as root"
    raise HostError(
        f"apt cannot download packages:\n    {complaint or said.strip()}",
        hint=f"{advice}; {otherwise}" if otherwise else advice,
    )
