"""Reads an ext4 filesystem back through debugfs, so that nothing of our own vouches for itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from attrs import frozen

_ENTRY = re.compile(rb"/(\d+)/(\d{6})/(-?\d+)/(-?\d+)/(.*?)/(\d*)/\n", re.DOTALL)


@frozen(kw_only=True)
class Inode:
    """What debugfs says of one inode; times in nanoseconds."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    links: int
    blocks: int
    mtime: int
    atime: int
    device: tuple[int, int] | None
    entry_type: str


class Reader:
    """A filesystem at byte ``offset`` of ``disk``."""

    def __init__(self, disk: Path, offset: int) -> None:
        self._disk = disk
        self._offset = offset

    def tree(self) -> dict[bytes, Inode]:
        """Every file by its path; the root is the empty path; without lost+found."""
        found = {b"": self._inode(2, "")}
        todo = [(2, b"")]
        while todo:
            number, path = todo.pop()
            for child, name, kind in self._names(number):
                if name in {b".", b".."} or (number == 2 and name == b"lost+found"):
                    continue
                place = path + b"/" + name if path else name
                found[place] = self._inode(child, kind)
                if found[place].mode >> 12 == 4:
                    todo.append((child, place))
        return found

    def data(self, inode: Inode) -> bytes:
        """A file's bytes."""
        return self._debugfs(f"cat <{inode.number}>")

    def link(self, inode: Inode) -> bytes:
        """A symbolic link's target."""
        if inode.blocks == 0:
            match = re.search(rb'Fast link dest: "(.*)"', self._debugfs(f"stat <{inode.number}>"), re.DOTALL)
            assert match is not None
            return match[1]
        return self.data(inode).rstrip(b"\0")

    def xattr(self, inode: Inode, name: str) -> bytes:
        """The value of an extended attribute, as the kernel would hand it out."""
        text = self._debugfs(f"ea_get -x <{inode.number}> {name}").decode()
        return bytes.fromhex(text.partition(" = ")[2])

    def xattrs(self, inode: Inode) -> set[str]:
        """The names of all extended attributes."""
        return set(
            re.findall(r"^  (\S+) \(\d+\)", self._debugfs(f"ea_list <{inode.number}>").decode("latin-1"), re.MULTILINE)
        )

    def header(self, key: str) -> int:
        """A number of the superblock, by dumpe2fs's name of it."""
        return int(self._header(key))

    def features(self) -> set[str]:
        """The filesystem's features."""
        return set(self._header("Filesystem features").split())

    def _header(self, key: str) -> str:
        text = subprocess.run(
            ["/sbin/dumpe2fs", "-h", f"{self._disk.name}?offset={self._offset}"],
            cwd=self._disk.parent,
            capture_output=True,
            check=True,
        ).stdout.decode("utf-8", "replace")
        match = re.search(rf"^{re.escape(key)}:\s+(.+)$", text, re.MULTILINE)
        assert match is not None, text
        return match[1]

    def _names(self, number: int) -> list[tuple[int, bytes, str]]:
        """Inode, name and announced type of each entry of a directory."""
        short = _ENTRY.findall(self._debugfs(f"ls -p <{number}>"))
        kinds = re.findall(rb"^ *(\d+) +\d+ \((\d+)\)", self._debugfs(f"ls -l <{number}>"), re.MULTILINE)
        types = {int(child): kind.decode() for child, kind in kinds}
        return [(int(child), name, types.get(int(child), "")) for child, _mode, _uid, _gid, name, _size in short]

    def _inode(self, number: int, kind: str) -> Inode:
        text = self._debugfs(f"stat <{number}>").decode("latin-1")
        raw = re.search(r"Mode: +(\d+)", text)
        assert raw is not None, text
        kinds = {
            "regular": 8, "directory": 4, "symlink": 10, "FIFO": 1, "character special": 2, "block special": 6,
        }  # fmt: skip
        found = re.search(r"Type: (.*?) +Mode", text)
        assert found is not None
        device = re.search(r"^(?:\(New-style\) )?Device major/minor number: (\d+):(\d+)", text, re.MULTILINE)
        return Inode(
            number=number,
            mode=kinds[found[1]] << 12 | int(raw[1], 8),
            uid=_number(r"User: +(-?\d+)", text),
            gid=_number(r"Group: +(-?\d+)", text),
            size=_number(r"Size: +(\d+)", text),
            links=_number(r"Links: +(\d+)", text),
            blocks=_number(r"Blockcount: +(\d+)", text),
            mtime=_time("mtime", text),
            atime=_time("atime", text),
            device=None if device is None else (int(device[1]), int(device[2])),
            entry_type=kind,
        )

    def _debugfs(self, request: str) -> bytes:
        done = subprocess.run(
            ["/sbin/debugfs", "-R", request, f"{self._disk.name}?offset={self._offset}"],
            cwd=self._disk.parent,
            capture_output=True,
            check=True,
        )
        complaints = [line for line in done.stderr.splitlines() if not line.startswith(b"debugfs 1")]
        assert complaints == [], complaints
        return done.stdout


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    assert match is not None, (pattern, text)
    return int(match[1]) % (1 << 32) if "Size" not in pattern else int(match[1])


def _time(name: str, text: str) -> int:
    """Nanoseconds, by the kernel's rule: the low half is signed, two bits of the extra field are added above it."""
    match = re.search(rf"^ *{name}: 0x([0-9a-f]+):([0-9a-f]+)", text, re.MULTILINE)
    assert match is not None, text
    low, extra = int(match[1], 16), int(match[2], 16)
    seconds = (low - (1 << 32) if low >> 31 else low) + ((extra & 3) << 32)
    return seconds * 1_000_000_000 + (extra >> 2)
