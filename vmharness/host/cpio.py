"""Archives in the ``newc`` cpio format, which Linux unpacks as its initramfs. Everything in them belongs to root.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel.
"""

from __future__ import annotations

import stat
from typing import BinaryIO

from attrs import define, field


@define
class CpioWriter:
    """Writes members one after the other; times are zero and inodes are counted, so equal input gives equal bytes.

    :param file: where the archive goes.
    """

    file: BinaryIO
    _next_inode: int = field(default=1, init=False)
    _folders: set[str] = field(factory=set, init=False)

    def directory(self, name: str) -> None:
        """A directory (mode 0755) and those above it; once is enough."""
        parts = name.strip("/").split("/")
        for end in range(1, len(parts) + 1):
            folder = "/".join(parts[:end])
            if folder and folder not in self._folders:
                self._folders.add(folder)
                self._member(folder, stat.S_IFDIR | 0o755, b"")

    def regular(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file, with the directories above it."""
        self._parents(name)
        self._member(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        """A symbolic link, with the directories above it."""
        self._parents(name)
        self._member(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name: str, mode: int, major: int, minor: int) -> None:
        """A character device, with the directories above it."""
        self._parents(name)
        self._member(name, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self) -> None:
        """Write the end mark; the archive is complete after this."""
        self._member("TRAILER!!!", 0, b"")

    def _parents(self, name: str) -> None:
        parent = name.strip("/").rpartition("/")[0]
        if parent:
            self.directory(parent)

    def _member(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        encoded = name.strip("/").encode() + b"\0"
        numbers = (self._next_inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        self._next_inode += 1
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        self.file.write(_padded(header + encoded))
        self.file.write(_padded(data))


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
