"""Layers of any shape come to what a plain model of the specification says."""

from __future__ import annotations

import random
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from container_images import Member, folder, layer, member
from hypothesis import given, settings
from hypothesis import strategies as st

from vmharness.host import index
from vmharness.tree.layers import Layer, apply_layers
from vmharness.tree.stream import Stream

NAMES = ["a", "b", "c"]


@frozen(kw_only=True)
class Directory:
    """A directory of one layer: what it brings, what it hides by name, and whether it hides all."""

    uid: int
    brings: dict[str, Any] = field(factory=dict)  # name to Directory, text of a file, or target of a link as bytes
    hides: frozenset[str] = frozenset()
    opaque: bool = False


@frozen(kw_only=True)
class Merged:
    """A directory of the merged tree."""

    uid: int
    holds: dict[str, Any] = field(factory=dict)


LEAVES = st.text("xyz", max_size=3) | st.sampled_from([b"a", b"/b", b"../c"])


def directories(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Directory]:
    """Directories with these children."""
    return st.builds(
        Directory,
        uid=st.integers(0, 9),
        brings=st.dictionaries(st.sampled_from(NAMES), children, max_size=3),
        hides=st.frozensets(st.sampled_from(NAMES), max_size=2),
        opaque=st.booleans(),
    )


LAYERS = st.lists(directories(st.recursive(LEAVES, directories, max_leaves=8)), min_size=1, max_size=4)


def laid_over(lower: Merged | None, upper: Directory) -> Merged:
    """The specification: whiteouts hide what is below, directories join directories, all else replaces."""
    holds = {} if lower is None or upper.opaque else dict(lower.holds)
    for name in upper.hides:
        holds.pop(name, None)
    for name, brought in upper.brings.items():
        if isinstance(brought, Directory):
            below = holds.get(name)
            holds[name] = laid_over(below if isinstance(below, Merged) else None, brought)
        else:
            holds[name] = brought
    return Merged(uid=upper.uid, holds=holds)


def members(directory: Directory, path: str, order: random.Random) -> Iterator[Member]:
    """A layer's members: each directory before what it holds, and that in any order."""
    yield folder(path or ".", uid=directory.uid)
    groups = [[member(f"{path}.wh.{name}")] for name in sorted(directory.hides)]
    groups += [[member(f"{path}.wh..wh..opq")]] if directory.opaque else []
    for name, brought in directory.brings.items():
        if isinstance(brought, Directory):
            groups.append(list(members(brought, f"{path}{name}/", order)))
        elif isinstance(brought, bytes):
            groups.append([member(path + name, tarfile.SYMTYPE, linkname=brought.decode())])
        else:
            groups.append([member(path + name, data=brought.encode())])
    order.shuffle(groups)
    for group in groups:
        yield from group


def unpacked(layers: list[bytes], place: Path) -> Merged:
    """What the layers come to, read from the data and the index, which must agree."""

    @contextmanager
    def opened(data: bytes) -> Iterator[Stream]:
        file = place / "layer.tar"
        file.write_bytes(data)
        with file.open("rb") as source:
            yield Stream(source.fileno())

    each = [Layer(name=str(number), open=lambda data=data: opened(data)) for number, data in enumerate(layers)]
    apply_layers(each, place / "data", place / "index")
    with index.read(place / "index") as entries:
        return read_back(place / "data", "", entries)


def read_back(folder: Path, path: str, entries: index.Index) -> Merged:
    """One directory of the staged tree."""
    names = sorted(child.name for child in folder.iterdir())
    assert names == [name.decode() for name in entries.names(path.encode())]
    parent, _, name = path.rpartition("/")
    metadata = entries.get(parent.encode(), name.encode())
    assert metadata is not None
    assert stat.S_ISDIR(metadata.mode)
    holds: dict[str, Any] = {}
    for child in folder.iterdir():
        if child.is_symlink():
            holds[child.name] = bytes(child.readlink())
        elif child.is_dir():
            holds[child.name] = read_back(child, f"{path}/{child.name}" if path else child.name, entries)
        else:
            holds[child.name] = child.read_text()
    return Merged(uid=metadata.uid, holds=holds)


@settings(max_examples=150, deadline=None)
@given(layers=LAYERS, seed=st.integers(0, 1 << 16))
def test_layers_come_to_what_the_specification_says(
    tmp_path_factory: pytest.TempPathFactory, layers: list[Directory], seed: int
) -> None:
    """Any layers, with their members in any order, come to the model's tree: names, types, data, targets, owners."""
    expected: Merged | None = None
    for directory in layers:
        expected = laid_over(expected, directory)
    order = random.Random(seed)  # noqa: S311 -- a repeatable shuffle
    packed = [layer(*members(directory, "", order)) for directory in layers]
    place = tmp_path_factory.mktemp("layers")
    assert unpacked(packed, place) == expected
    shutil.rmtree(place)
