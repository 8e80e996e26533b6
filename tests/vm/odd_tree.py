"""A tree with everything that is odd, as a tar archive that an ordinary user could have; and reading one back."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

from attrs import field, frozen

from vmharness.host import proc
from vmharness.host.libraries import libraries

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw, permitted and effective
Y1969, Y2038, Y2106 = -31_536_000, 1 << 31, 1 << 32
HOLE = 8 << 20
ODD_NAMES = (
    b"two words",
    b"new\nline",
    b"quote\"and's",
    b"-rf",
    b"caf\xe9 latin-1",
    b"\xff\xfe",
    "ünïcode".encode(),
    b"back\\slash",
    b"x" * 255,
    b"*?[glob]",
)


@frozen(kw_only=True)
class Member:
    """One file as an archive means it; ``holes`` says whether most of it takes no room."""

    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: str
    size: int = 0
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: frozenset[tuple[str, bytes]] = field(default=frozenset())
    data: bytes = b""


def write(path: Path) -> None:
    """Write the archive: a shell and GNU tar to look at the tree from within, and the tree itself below ``data``."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in ("bin", "tmp", "lib64"):
            _add(archive, folder.encode(), kind=tarfile.DIRTYPE, mode=0o755)
        for program in ("busybox", "tar"):
            _add(archive, f"bin/{program}".encode(), proc.require(program).read_bytes(), mode=0o755)
        for applet in ("sh", "base64", "gzip"):
            _add(archive, f"bin/{applet}".encode(), kind=tarfile.SYMTYPE, link=b"busybox")
        for library in libraries([proc.require("tar")]):
            _add(archive, str(library).lstrip("/").encode(), library.read_bytes(), mode=0o755)
        write_data(archive)


def write_tar_program(archive: tarfile.TarFile) -> None:
    """Add GNU tar to a tree whose ``bin``, ``lib`` and ``lib64`` are links into ``usr``, with its libraries."""
    _add(archive, b"usr/bin/gnu-tar", proc.require("tar").read_bytes(), mode=0o755)
    for library in libraries([proc.require("tar")]):
        name = re.sub("^/(usr/)?lib(64)?/", "usr/lib/", str(library))
        _add(archive, name.encode(), library.read_bytes(), mode=0o755)


def write_data(archive: tarfile.TarFile, *, longest_name: int = 255) -> None:
    """Add everything that is odd, below ``data``; names are cut to so many bytes."""
    _add(archive, b"data", kind=tarfile.DIRTYPE, mode=0o1777, uid=7, gid=8)
    for number, name in enumerate(ODD_NAMES):
        _add(archive, b"data/names/" + name[:longest_name], b"%d" % number, uid=1000 + number, gid=100)
    _add(archive, b"data/setuid", b"suid", mode=0o6755)
    _add(archive, b"data/nothing allowed", b"secret", mode=0, uid=4_000_000_000, gid=3_000_000_000)
    _add(archive, b"data/closed", kind=tarfile.DIRTYPE, mode=0, uid=12, gid=13)
    _add(archive, b"data/closed/inside", b"x", mode=0o200, uid=70_000, gid=70_001)
    _add(archive, b"data/first", b"one file, two names", uid=5, gid=6)
    _add(archive, b"data/second", kind=tarfile.LNKTYPE, link=b"data/first")
    _add(archive, b"data/link", kind=tarfile.SYMTYPE, link=b'../no "where"', uid=33, gid=34)
    _add(archive, b"data/long link", kind=tarfile.SYMTYPE, link=b"l" * 300, uid=35)
    _add(archive, b"data/character", kind=tarfile.CHRTYPE, mode=0o620, device=(4, 64), gid=5)
    _add(archive, b"data/block", kind=tarfile.BLKTYPE, mode=0o660, device=(259, 70_000), gid=6)
    _add(archive, b"data/fifo", kind=tarfile.FIFOTYPE, mode=0o622, uid=9)
    _add(archive, b"data/ping", b"program", mode=0o755, xattrs={"security.capability": CAPABILITY})
    xattrs = {"user.note": b"line\nline", "user.long": b"v" * 900, "trusted.overlay.opaque": b"y"}
    _add(archive, b"data/noted", b"", uid=1, xattrs=xattrs)
    _add(archive, b"data/noted folder", kind=tarfile.DIRTYPE, mode=0o2750, xattrs={"user.folder": b"yes"})
    for name, time in (
        (b"1969", f"{Y1969}"),
        (b"now", "1600000000.123456789"),
        (b"2038", f"{Y2038}"),
        (b"2106", f"{Y2106}"),
    ):
        _add(archive, b"data/times/" + name, b"", mtime=time)
    _add_sparse(archive, b"data/sparse", b"the end", uid=77)


def _add(  # noqa: PLR0917 -- what a member can have
    archive: tarfile.TarFile,
    name: bytes,
    data: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    mtime: str = "1600000000",
    xattrs: dict[str, bytes] | None = None,
) -> None:
    info = tarfile.TarInfo(_text(name))
    info.type, info.mode, info.uid, info.gid, info.linkname = kind, mode, uid, gid, _text(link)
    info.devmajor, info.devminor = device
    info.size = len(data)
    info.pax_headers = {f"SCHILY.xattr.{key}": _text(value) for key, value in (xattrs or {}).items()}
    info.pax_headers["mtime"] = mtime
    archive.addfile(info, io.BytesIO(data))


def _add_sparse(archive: tarfile.TarFile, name: bytes, data: bytes, uid: int) -> None:
    """Add a file that is a hole of 8 MiB with ``data`` behind it (GNU tar's manual, "PAX Format, Version 1.0")."""
    map_of_data = f"1\n{HOLE}\n{len(data)}\n".encode().ljust(512, b"\0")
    info = tarfile.TarInfo("GNUSparseFile.0/sparse")
    info.uid, info.mode, info.size = uid, 0o644, len(map_of_data) + len(data)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": _text(name),
        "GNU.sparse.realsize": str(HOLE + len(data)),
        "mtime": "1600000000",
    }
    archive.addfile(info, io.BytesIO(map_of_data + data))


def members(archive: tarfile.TarFile) -> dict[bytes, Member]:
    """Every member below ``data`` by its path; a hard link is what it links to."""
    found: dict[bytes, Member] = {}
    for info in archive:
        name = info.name.encode("utf-8", "surrogateescape")
        if not name.startswith(b"data"):
            continue
        linked = info.linkname.encode("utf-8", "surrogateescape")
        if info.islnk():
            found[name] = found[linked]
            continue
        file = archive.extractfile(info) if info.isreg() else None
        found[name] = Member(
            kind=tarfile.REGTYPE if info.isreg() else info.type,
            mode=0o777 if info.issym() else info.mode,
            uid=info.uid,
            gid=info.gid,
            mtime=_seconds(info.pax_headers.get("mtime", str(info.mtime))),
            size=info.size if info.isreg() else 0,
            target=linked,
            device=(info.devmajor, info.devminor) if info.ischr() or info.isblk() else (0, 0),
            xattrs=frozenset(
                (key.removeprefix("SCHILY.xattr."), value.encode("utf-8", "surrogateescape"))
                for key, value in info.pax_headers.items()
                if key.startswith("SCHILY.xattr.")
            ),
            data=file.read() if file else b"",
        )
    return found


def holes(archive: tarfile.TarFile) -> set[bytes]:
    """The members that an archive holds with holes."""
    return {info.name.encode("utf-8", "surrogateescape") for info in archive if info.issparse()}


def _seconds(text: str) -> str:
    """A decimal number of seconds in its shortest form."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
