"""The root source ``debian``: a tree made by mmdebstrap from the host's own apt configuration."""

from __future__ import annotations

import hashlib
import platform
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.host.versions import version_of
from vmharness.model.results import StagedTree
from vmharness.model.sources import DebianSource
from vmharness.tree import apt
from vmharness.tree.apt import Stanza
from vmharness.tree.staging import staged
from vmharness.tree.stream import Stream

KEY = "root.source.debian"
_APT = Path("/etc/apt")
_LISTS = Path("/var/lib/apt/lists")
_OS_RELEASE = Path("/etc/os-release")
_HOST_CONFIGURATION = "etc/apt/apt.conf.d/98vmharness-host"
# what is the build host's: our settings for apt, and two files that mmdebstrap copies
_LEFT_OUT = frozenset({_HOST_CONFIGURATION.encode(), b"etc/resolv.conf", b"etc/hostname"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def stage_debian(source: DebianSource, *, origin: str, say: Callable[[str], None] = lambda _line: None) -> StagedTree:
    """Make the tree, or find it in the cache.

    It is found by suite, variant, packages, the apt sources and settings used, mmdebstrap's version, and the state of
    the host's own package lists: after ``apt update`` has brought news, the tree is made anew.

    :param origin: the definition file, for messages.
    :param say: takes mmdebstrap's progress, line by line, in another thread.
    :raises HostError: mmdebstrap is missing or failed, or the host has no Debian apt sources.
    """
    proc.require("mmdebstrap")
    sources = apt.for_suite(_host_stanzas(), source.suite, host_suite=_host_suite())
    if not sources:
        raise HostError(
            f"the host's apt configuration in {_APT} has no source of a Debian archive to make '{source.suite}' from",
            hint="add your Debian mirror to the host's apt sources, or build the tree elsewhere and give it as a tar",
        )
    settings = _host_settings()
    inputs = {
        "debian": source.suite,
        "variant": source.variant,
        "include": sorted(source.include),
        "sources": sources,
        "settings": settings,
        "architecture": _architecture(),
        "mmdebstrap": f"mmdebstrap {version_of('mmdebstrap')}",
        "lists": _lists_digest(),
    }

    @contextmanager
    def open_stream() -> Iterator[Stream]:
        with tempfile.TemporaryDirectory(prefix="vmharness-apt-") as folder:
            Path(folder).chmod(0o755)  # mmdebstrap reads it under another user id where it has no privilege
            argv = _command(source, Path(folder), sources, settings)
            with proc.pipe_from(argv, doing=f"making a Debian tree of '{source.suite}'", say=say) as pipe:
                stream = Stream(pipe.fileno())
                yield stream
                stream.drain()

    what = f"mmdebstrap's tree of '{source.suite}'"
    try:
        return staged(inputs, open_stream, leave_out=_LEFT_OUT, what=what, origin=origin, key=KEY)
    except HostError as error:
        error.hint = error.hint or _hint(str(error))
        raise


def _command(source: DebianSource, folder: Path, sources: str, settings: str) -> list[str | Path]:
    """The arguments of mmdebstrap; the tree comes out as a tar archive.

    The host's settings (proxies, say) are there while packages are fetched and are not left in the tree.
    """
    listed, configuration = folder / "debian.sources", folder / "host.conf"
    listed.write_text(sources)
    configuration.write_text(settings)
    for file in (listed, configuration):
        file.chmod(0o644)
    argv: list[str | Path] = [
        "mmdebstrap",
        "--format=tar",
        f"--architectures={_architecture()}",
        f"--variant={source.variant}",
        f"--setup-hook=upload {shlex.quote(str(configuration))} /{_HOST_CONFIGURATION}",
    ]
    if source.include:
        argv.append(f"--include={','.join(source.include)}")
    if "URIs: file:" in sources or "URIs: copy:" in sources:
        argv.append("--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount")
    return [*argv, source.suite, "-", listed]


def _host_stanzas() -> Iterator[Stanza]:
    """The sources that the host's apt uses, in its order."""
    try:
        main = _APT / "sources.list"
        if main.is_file():
            yield from apt.parse_list(main.read_text(errors="replace"))
        for path in sorted((_APT / "sources.list.d").glob("*")):
            if path.suffix == ".list":
                yield from apt.parse_list(path.read_text(errors="replace"))
            elif path.suffix == ".sources":
                yield from apt.parse_sources(path.read_text(errors="replace"))
    except OSError as error:
        raise HostError(f"cannot read the host's apt sources: {error.strerror} ({error.filename})") from error


def _host_settings() -> str:
    """How the host's apt fetches (proxies, time-outs, credentials), in the form of apt.conf."""
    dump = proc.run(["apt-config", "dump", "Acquire"], doing="reading the host's apt configuration").text
    netrc = f'Dir::Etc::netrc "{_APT}/auth.conf";\nDir::Etc::netrcparts "{_APT}/auth.conf.d";\n'
    return "".join(f"{line}\n" for line in dump.splitlines() if line.startswith("Acquire::")) + netrc


def _host_suite() -> str | None:
    """The codename of the host, if it is a Debian."""
    facts = {}
    if _OS_RELEASE.is_file():
        for line in _OS_RELEASE.read_text().splitlines():
            key, _, value = line.partition("=")
            facts[key] = value.strip().strip("\"'")
    return facts.get("VERSION_CODENAME") if facts.get("ID") == "debian" else None


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _lists_digest() -> str:
    """A digest over the host's release files: what its last ``apt update`` has brought."""
    digest = hashlib.sha256()
    for path in sorted([*_LISTS.glob("*_InRelease"), *_LISTS.glob("*_Release")]):
        try:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        except OSError:
            continue  # one that apt keeps to itself, or has just replaced
    return digest.hexdigest()


def _hint(text: str) -> str | None:
    """What helps against mmdebstrap's commonest failures."""
    if any(word in text for word in ("pick chroot mode", "unshare", "subuid", "newuidmap")):
        return (
            "mmdebstrap needs root, or an ordinary user with subordinate ids: install uidmap and see that /etc/subuid "
            "and /etc/subgid have a line for you"
        )
    if "Unable to locate package" in text:
        return f"is the package's name in {KEY}'s 'include' right for this suite?"
    if "404" in text or "does not have a Release file" in text:
        return "does the host's Debian mirror carry this suite?"
    if "NO_PUBKEY" in text or "not signed" in text:
        return "the host lacks the suite's signing key: install a newer debian-archive-keyring"
    return None
