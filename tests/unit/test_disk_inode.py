"""Fields of an ext4 inode."""

from __future__ import annotations

import os
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from vmharness.disk.ext4 import checksum
from vmharness.disk.population import encode_time, patch
from vmharness.host.index import Metadata

EARLIEST, LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1


def test_the_check_sum_is_the_plain_crc() -> None:
    """The standard check value of CRC-32C, once with the inversions that ext4 leaves out, and in two pieces."""
    assert checksum(0xFFFFFFFF, b"123456789") ^ 0xFFFFFFFF == 0xE3069283
    assert checksum(checksum(7, b"1234"), b"56789") == checksum(7, b"123456789")


@pytest.mark.parametrize(
    ("seconds", "low", "epoch"),
    [(0, 0, 0), (-1, 0xFFFFFFFF, 0), (EARLIEST, 1 << 31, 0), (1 << 31, 1 << 31, 1), (LATEST, (1 << 31) - 1, 3)],
)
def test_times_run_from_1901_to_2446(seconds: int, low: int, epoch: int) -> None:
    """The table of the kernel's documentation (ext4/inodes.rst, Inode Timestamps)."""
    assert encode_time(seconds * 10**9 + 5) == (low, 5 << 2 | epoch)


@given(some.integers(EARLIEST * 10**9, LATEST * 10**9 + 999_999_999))
def test_every_time_comes_back(time: int) -> None:
    """The kernel's own decoding gives each time back."""
    low, extra = encode_time(time)
    signed = low - (1 << 32) if low >> 31 else low
    assert (signed + ((extra & 3) << 32)) * 10**9 + (extra >> 2) == time


@given(mode=some.integers(0, 0o7777), uid=some.integers(0, 2**32 - 2), gid=some.integers(0, 2**32 - 2))
def test_owner_and_mode_leave_the_rest_alone(mode: int, uid: int, gid: int) -> None:
    """Both halves of user and group are set; size, links, data and generation stay."""
    inode = bytearray(b"\xaa" * 256)
    patch(inode, Metadata(mode=stat.S_IFREG | mode, uid=uid, gid=gid, atime=0, mtime=0, ctime=0))
    low_uid, high_uid = struct.unpack_from("<H", inode, 2)[0], struct.unpack_from("<H", inode, 0x78)[0]
    low_gid, high_gid = struct.unpack_from("<H", inode, 0x18)[0], struct.unpack_from("<H", inode, 0x7A)[0]
    assert (high_uid << 16 | low_uid, high_gid << 16 | low_gid) == (uid, gid)
    assert struct.unpack_from("<H", inode)[0] == stat.S_IFREG | mode
    assert inode[0x1A:0x78] == b"\xaa" * (0x78 - 0x1A)
    assert inode[0x98:] == b"\xaa" * (256 - 0x98)
    assert inode[4:8] == b"\xaa" * 4


@pytest.mark.parametrize(
    ("major", "minor", "words"),
    [
        (1, 5, (0x105, 0)),
        (255, 255, (0xFFFF, 0)),
        (259, 70000, (0, 0x70 | 259 << 8 | 0x11100 << 12)),
        (1, 256, (0, 0x100100)),
    ],
)
def test_device_numbers_are_encoded_as_the_kernel_does(major: int, minor: int, words: tuple[int, int]) -> None:
    """Small numbers in the old form, others in the new one."""
    inode = bytearray(256)
    device = os.makedev(major, minor)
    patch(inode, Metadata(mode=stat.S_IFCHR, uid=0, gid=0, atime=0, mtime=0, ctime=0, device=device))
    assert struct.unpack_from("<II", inode, 0x28) == words
