"""Extended attributes as archives write them, turned into what the kernel would hand out."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

_SCHILY = "SCHILY.xattr."
_LIBARCHIVE = "LIBARCHIVE.xattr."
_SELINUX = "RHT.security.selinux"
_ACLS = {
    "SCHILY.acl.access": b"system.posix_acl_access",
    "SCHILY.acl.default": b"system.posix_acl_default",
}
_NAMESPACES = (b"user.", b"trusted.", b"security.", b"system.posix_acl_access", b"system.posix_acl_default")
# ext4 keeps them in one block of 4096 bytes with a header of 32 and an end mark of 4
_ROOM = 4096 - 32 - 4
_ENTRY_HEADER = 16

# linux/posix_acl_xattr.h: version, then tag, permissions, id of each entry
_ACL_VERSION = 2
_ACL_TAGS = {("user", False): 1, ("user", True): 2, ("group", False): 4, ("group", True): 8, ("mask", False): 16}
_ACL_TAGS[("other", False)] = 32
_NO_ID = 0xFFFFFFFF


def from_pax(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes in a member's pax headers, sorted by name.

    Those of GNU tar and star (``SCHILY.xattr.*``, ``SCHILY.acl.*``, ``RHT.security.selinux``) and libarchive are read.

    :raises ValueError: with a sentence, for what ext4 cannot hold or what cannot be understood.
    """
    found: dict[bytes, bytes] = {}
    for key, text in headers.items():
        if key.startswith(_LIBARCHIVE):
            found.setdefault(unquote_to_bytes(key[len(_LIBARCHIVE) :]), _base64(key, text))
        elif key == _SELINUX:
            # the kernel's value ends with a zero byte, GNU tar's text does not
            found[b"security.selinux"] = _raw(text).rstrip(b"\0") + b"\0"
        elif key in _ACLS:
            value = acl_from_text(text)
            if value:
                found.setdefault(_ACLS[key], value)
    for key, text in headers.items():
        if key.startswith(_SCHILY):
            name = _raw(key[len(_SCHILY) :]).replace(b"%3D", b"=").replace(b"%25", b"%")
            found[name] = _raw(text)
    _check(found)
    return tuple(sorted(found.items()))


def room(xattrs: tuple[tuple[bytes, bytes], ...]) -> int:
    """Bytes that extended attributes take on ext4, at most (the kernel leaves out the namespace's name)."""
    return sum(_ENTRY_HEADER + _padded(len(name)) + _padded(len(value)) for name, value in xattrs)


def acl_from_text(text: str) -> bytes:
    """The value of ``system.posix_acl_*`` from an ACL's text form; empty where the text says no more than the mode.

    A named entry needs a number: as its name, or as star's fourth field.

    :raises ValueError: with a sentence, if it is not an ACL or has names without numbers.
    """
    parts = [part.partition("#")[0].strip() for part in text.replace("\n", ",").split(",")]
    entries = sorted(_acl_entry(part) for part in parts if part)
    if not any(tag in {2, 8, 16} for tag, _id, _permissions in entries):
        return b""
    head = struct.pack("<I", _ACL_VERSION)
    return head + b"".join(struct.pack("<HHI", tag, permissions, number) for tag, number, permissions in entries)


def _acl_entry(part: str) -> tuple[int, int, int]:
    words = {"u": "user", "g": "group", "m": "mask", "o": "other"}
    kind, _, rest = part.partition(":")
    fields = rest.split(":")
    name = fields[0] if len(fields) > 1 else ""
    letters = (fields[1] if len(fields) > 1 else fields[0]).strip()
    tag = _ACL_TAGS.get((words.get(kind, kind), bool(name)))
    if tag is None or set(letters) - set("rwx-") or len(fields) > 3:
        raise ValueError(f"the access control list entry {part!r} is not understood")
    permissions = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in letters)
    number = fields[2] if len(fields) > 2 else name
    if name and not number.isdecimal():
        raise ValueError(
            f"the access control list names {name!r} without a number; pack the archive with numeric ids "
            "(GNU tar: --xattrs --xattrs-include='*' instead of --acls)"
        )
    return tag, int(number) if name else _NO_ID, permissions


def _check(found: Mapping[bytes, bytes]) -> None:
    for name, value in found.items():
        if not name.startswith(_NAMESPACES) or b"\n" in name or b"\0" in name:
            raise ValueError(f"Linux has no extended attribute {name.decode('utf-8', 'backslashreplace')!r}")
        if name.startswith(b"system.") and (len(value) % 8 != 4 or value[:4] != struct.pack("<I", _ACL_VERSION)):
            raise ValueError(f"the value of {name.decode()} is not an access control list")
    size = room(tuple(found.items()))
    if size > _ROOM:
        raise ValueError(f"its extended attributes take {size} bytes, and ext4 has room for {_ROOM}")


def _padded(length: int) -> int:
    return -(-length // 4) * 4


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _base64(key: str, text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{key} is not base64") from error
