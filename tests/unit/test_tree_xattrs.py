"""Extended attributes from pax headers."""

from __future__ import annotations

import struct

import pytest

from vmharness.tree import xattrs


def test_records_of_each_archiver_are_read() -> None:
    """Names and values of GNU tar's, libarchive's and SELinux's records; the plain one counts where two say one."""
    headers = {
        "mtime": "1",
        "SCHILY.xattr.user.plain": "caf\udce9",
        "SCHILY.xattr.user.odd%3D%25name": "1",
        "LIBARCHIVE.xattr.user.lib%20name": "aGk",
        "LIBARCHIVE.xattr.user.plain": "bm8=",
        "RHT.security.selinux": "system_u:object_r:bin_t:s0",
    }
    assert xattrs.from_pax(headers) == (
        (b"security.selinux", b"system_u:object_r:bin_t:s0\0"),
        (b"user.lib name", b"hi"),
        (b"user.odd=%name", b"1"),
        (b"user.plain", b"caf\xe9"),
    )


def test_an_acl_in_text_becomes_the_kernels_form() -> None:
    """Long and short words, star's ids and effective rights in remarks are understood, in any order."""
    text = "mask::rwx,user::rw-,u:1000:r-x,group:staff:r--:50,group::r--,other::---\t#effective:---"
    value = xattrs.acl_from_text(text)
    entries = [struct.unpack_from("<HHI", value, start) for start in range(4, len(value), 8)]
    none = 0xFFFFFFFF
    assert value[:4] == b"\2\0\0\0"
    assert entries == [(1, 6, none), (2, 5, 1000), (4, 4, none), (8, 4, 50), (16, 7, none), (32, 0, none)]


def test_an_acl_that_says_no_more_than_the_mode_is_none() -> None:
    """Three base entries are the mode bits."""
    assert xattrs.from_pax({"SCHILY.acl.access": "user::rw-,group::r--,other::r--"}) == ()


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"SCHILY.acl.access": "user:alice:rw-"}, "names 'alice' without a number"),
        ({"SCHILY.acl.access": "everyone@:rw-p--:fd:allow"}, "is not understood"),
        ({"SCHILY.acl.access": "user::rws"}, "is not understood"),
        ({"SCHILY.xattr.com.apple.quarantine": "1"}, "Linux has no extended attribute 'com.apple.quarantine'"),
        ({"SCHILY.xattr.system.posix_acl_access": "short"}, "is not an access control list"),
        ({"SCHILY.xattr.user.large": "x" * 4096}, "ext4 has room for 4060"),
        ({"LIBARCHIVE.xattr.user.x": "###"}, "is not base64"),
    ],
)
def test_what_cannot_be_held_is_refused(headers: dict[str, str], words: str) -> None:
    """Nothing is lost silently."""
    with pytest.raises(ValueError, match=words):
        xattrs.from_pax(headers)
