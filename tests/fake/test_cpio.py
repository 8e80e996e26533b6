"""Archives that a real cpio unpacks."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmharness.host.cpio import CpioWriter


def archive(members: dict[str, tuple[bytes, int]], links: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    writer = CpioWriter(file)
    for name, (data, mode) in members.items():
        writer.regular(name, data, mode)
    for name, target in (links or {}).items():
        writer.symlink(name, target)
    writer.finish()
    return file.getvalue()


def listing(data: bytes, *options: str) -> list[str]:
    done = subprocess.run(["busybox", "cpio", "-t", *options], input=data, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape").splitlines()


def unpacked(data: bytes, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["busybox", "cpio", "-i", "-d"], cwd=folder, input=data, capture_output=True, check=True)
    return folder


def test_it_unpacks(tmp_path: Path) -> None:
    """Content, mode and links are there, and so are the folders above a member."""
    members = {"a/b c/file": (b"content\0\xff", 0o640), "empty": (b"", 0o755), "large": (os.urandom(100_001), 0o600)}
    folder = unpacked(archive(members, {"bin/sh": "busybox"}), tmp_path / "tree")
    for name, (data, mode) in members.items():
        assert (folder / name).read_bytes() == data
        assert stat.S_IMODE((folder / name).stat().st_mode) == mode
    assert (folder / "bin/sh").readlink() == Path("busybox")
    assert (folder / "a").is_dir()


def test_order_and_once() -> None:
    """A folder comes before what is in it, and only once, however it is written."""
    file = io.BytesIO()
    writer = CpioWriter(file)
    writer.directory("/etc/")
    writer.regular("etc/x/one", b"1")
    writer.regular("/etc/x/two", b"2")
    writer.directory("etc/x")
    writer.finish()
    assert listing(file.getvalue()) == ["etc", "etc/x", "etc/x/one", "etc/x/two"]


def test_devices() -> None:
    """A character device has its numbers; everything belongs to root."""
    file = io.BytesIO()
    writer = CpioWriter(file)
    writer.character_device("dev/console", 0o600, 5, 1)
    writer.finish()
    console = listing(file.getvalue(), "-v")[1].split()
    assert console[0] == "crw-------"
    assert console[1] == "0/0"
    header = file.getvalue()[110 + 6 :]  # behind the folder: its header and "dev" with the padding
    assert header[:6] == b"070701"
    assert [int(header[at : at + 8], 16) for at in (78, 86)] == [5, 1]


def test_the_same_bytes_again() -> None:
    """Equal input gives equal bytes."""
    members = {"a": (b"1", 0o644), "b/c": (b"2", 0o755)}
    assert archive(members) == archive(members)


NAMES = st.text("ab é'\"\\$-.", min_size=1, max_size=12).filter(lambda name: name.strip(".") and "//" not in name)


@settings(max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, st.binary(max_size=9), min_size=1, max_size=5))
def test_any_names_and_sizes(files: dict[str, bytes]) -> None:
    """Whatever the lengths of names and contents, the members follow each other without a gap or an overlap."""
    data = archive({name: (content, 0o644) for name, content in files.items()})
    assert len(data) % 4 == 0
    assert listing(data) == list(files)
