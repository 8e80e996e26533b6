"""Files with holes: their digest, and archives of them as GNU tar writes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from vmharness.host import sparse
from vmharness.host.sparse_tar import BadArchive, Reader

GIB = 1 << 30


def write(path: Path, size: int, *places: int) -> Path:
    """A file with a few bytes at some places, and holes around them."""
    with path.open("wb") as file:
        for place in places:
            file.seek(place)
            file.write(b"data")
        file.truncate(size)
    return path


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    """Zeros that are written and holes count alike; the place and the value of every byte count."""
    holes = write(tmp_path / "a", 1_000_003, 0, 70_000, 999_990)
    full = tmp_path / "b"
    full.write_bytes(holes.read_bytes())
    assert full.stat().st_blocks > holes.stat().st_blocks
    assert sparse.digest(holes) == sparse.digest(full)
    found = {sparse.digest(holes)}
    for places in ((0, 70_000), (1, 70_000, 999_990), (0, 70_000, 999_991)):
        found.add(sparse.digest(write(tmp_path / "c", 1_000_003, *places)))
    assert len(found) == 4
    nothing = {sparse.digest(write(tmp_path / "d", size)) for size in (0, 1, 70_000, GIB)}
    assert len(nothing) == 1


def test_a_hole_costs_nothing(tmp_path: Path) -> None:
    """Four tebibytes of nothing are looked at in no time; what is not in a hole is told."""
    path = write(tmp_path / "a", 4096 * GIB, 0, 2000 * GIB)
    sparse.digest(path)
    assert 8 <= sparse.data_size(path) < 1 << 20
    (tmp_path / "b").write_bytes(b"x" * 5000)
    assert sparse.data_size(tmp_path / "b") == 5000


def test_what_gnu_tar_writes_is_read(tmp_path: Path) -> None:
    """More parts than a header holds, sizes that no octal digits say, holes at the end, and long names."""
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "parts", 9 * GIB + 1, *(number * 100_000_000 for number in range(90)), 9 * GIB - 3)
    write(folder / "hole", 5000)
    write(folder / "end", 100_001, 3)
    write(folder / "empty", 0)
    (folder / "ordinary").write_bytes(os.urandom(3_000_001))
    (folder / ("é" * 80)).write_text("x")
    names = sorted(path.name for path in folder.iterdir())
    argv = ["tar", "-c", "--format=gnu", "--sparse", "-C", str(folder), "-f", str(tmp_path / "t"), *names]
    subprocess.run(argv, check=True)
    read = []
    with (tmp_path / "t").open("rb") as stream:
        reader = Reader(stream)
        while (member := reader.next()) is not None:
            target = tmp_path / "out"
            with target.open("wb") as file:
                for place, piece in reader.pieces(member):
                    file.seek(place)
                    file.write(piece)
                file.truncate(member.size)
            assert member.data <= sparse.data_size(folder / member.name)
            assert target.stat().st_size == (folder / member.name).stat().st_size
            assert sparse.digest(target) == sparse.digest(folder / member.name)
            read.append(member.name)
        reader.finish()
    assert read == names


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    """A size that is negative, too large or no number is not calculated with."""
    (tmp_path / "x").touch()
    subprocess.run(["tar", "-c", "--format=gnu", "-C", str(tmp_path), "-f", str(tmp_path / "t"), "x"], check=True)
    good = (tmp_path / "t").read_bytes()
    sizes = (
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"\x80\0\0\0" + b"\xff" * 8,
        b"-1         \0",
        b"8          \0",
        bytes(12),
    )
    for size in sizes:
        header = bytearray(good[:512])
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (tmp_path / "bad").write_bytes(header + good[512:])
        with (tmp_path / "bad").open("rb") as stream, pytest.raises(BadArchive, match="a number that is none"):
            Reader(stream).next()
