"""One member of a tar archive: its path and the metadata that it means."""

from __future__ import annotations

import os
import stat
import tarfile
from decimal import ROUND_FLOOR, Decimal, InvalidOperation

from vmharness.host.index import Metadata
from vmharness.tree import xattrs

_TYPES = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.LNKTYPE: 0,
    **dict.fromkeys(tarfile.REGULAR_TYPES, stat.S_IFREG),
}
# what 34 bits of seconds can say, from 1901 to 2446 (kernel documentation, ext4/inodes.rst, "Inode Timestamps")
_EARLIEST, _LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1
_SECOND = 1_000_000_000
_LAST_ID = (1 << 32) - 2
_LAST_MAJOR, _LAST_MINOR = (1 << 12) - 1, (1 << 20) - 1


def raw(text: str) -> bytes:
    """A name of the archive as the bytes that it holds."""
    return text.encode("utf-8", "surrogateescape")


def shown(path: bytes) -> str:
    """A name for messages, on one line."""
    return repr(path.decode("utf-8", "backslashreplace"))


def parts_of(path: bytes) -> list[bytes]:
    """A path's components, without empty ones and single dots; none for the root itself.

    :raises ValueError: with a sentence, if the path is absolute or has ``..``.
    """
    parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
    if path.startswith(b"/"):
        raise ValueError("is absolute: it would be written outside of the tree")
    if b".." in parts:
        raise ValueError("has '..' in its path: it could be written outside of the tree")
    return parts


def metadata_of(info: tarfile.TarInfo) -> Metadata:
    """What the member means.

    Access and change time are the modification time unless the archive says otherwise; times that ext4 cannot hold
    become the nearest that it can.

    :raises ValueError: with a sentence, for what an ext4 filesystem cannot hold.
    """
    kind = _TYPES.get(info.type)
    if kind is None:
        raise ValueError(f"is of the type {info.type!r}, which no file of Linux has")
    for what, number in (("user", info.uid), ("group", info.gid)):
        if not 0 <= number <= _LAST_ID:
            raise ValueError(f"has the {what} id {number}; allowed are 0 to {_LAST_ID}")
    if (info.ischr() or info.isblk()) and not (0 <= info.devmajor <= _LAST_MAJOR and 0 <= info.devminor <= _LAST_MINOR):
        raise ValueError(f"has the device number {info.devmajor}:{info.devminor}, which Linux does not have")
    headers = info.pax_headers
    mtime = _nanoseconds(headers.get("mtime", str(int(info.mtime))))
    return Metadata(
        mode=kind | (0o777 if info.issym() else info.mode & 0o7777),
        uid=info.uid,
        gid=info.gid,
        device=os.makedev(info.devmajor, info.devminor) if info.ischr() or info.isblk() else 0,
        atime=_nanoseconds(headers["atime"]) if "atime" in headers else mtime,
        mtime=mtime,
        ctime=_nanoseconds(headers["ctime"]) if "ctime" in headers else mtime,
        xattrs=xattrs.from_pax(headers) if headers else (),
    )


def _nanoseconds(text: str) -> int:
    """A pax header's decimal number of seconds, exactly."""
    try:
        nanoseconds = int((Decimal(text) * _SECOND).to_integral_value(ROUND_FLOOR))
    except (InvalidOperation, OverflowError, ValueError) as error:
        raise ValueError(f"has the time {text!r}, which is not a number of seconds") from error
    return max(_EARLIEST * _SECOND, min(nanoseconds, _LATEST * _SECOND + _SECOND - 1))
