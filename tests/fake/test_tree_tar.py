"""The tar source: what it takes, what it refuses by name, and what it leaves behind."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from vmharness.errors import HostError, SpecError
from vmharness.host import index
from vmharness.model.results import StagedTree
from vmharness.model.sources import TarSource
from vmharness.tree import staging
from vmharness.tree.measure import measure_unpacked
from vmharness.tree.stream import open_archive
from vmharness.tree.tar import stage_tar
from vmharness.tree.unpack import unpack


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **facts: object
) -> tuple[tarfile.TarInfo, bytes]:
    """A member and its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, data


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """An archive of these members."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, BytesIO(data))
    return path


def stage(path: Path) -> StagedTree:
    """Stage an archive."""
    return stage_tar(TarSource(path=path), origin="image.toml")


def left_behind(tmp_path: Path) -> list[str]:
    """What is of trees in the cache, besides locks."""
    trees = tmp_path / "cache" / "vmharness" / "tree"
    return [path.name for path in trees.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("a/../../escape")], "'a/../../escape' has '..'"),
        ([member("/etc/passwd")], "'/etc/passwd' is absolute"),
        ([member("x", tarfile.LNKTYPE, linkname="../../etc/passwd")], "'x' has '..'"),
        ([member("x", tarfile.LNKTYPE, linkname="/etc/passwd")], "'x' is absolute"),
        ([member("x", tarfile.LNKTYPE, linkname="later")], "'x' is a hard link to 'later'"),
        ([member("out", tarfile.SYMTYPE, linkname="/etc"), member("out/x")], "'out/x' passes through"),
        ([member("out", tarfile.SYMTYPE, linkname="../.."), member("out/x")], "'out/x' passes through"),
        ([member("a", tarfile.SYMTYPE, linkname="a"), member("a/x")], "'a/x' passes through"),
        (
            [member("out", tarfile.SYMTYPE, linkname="/etc"), member("x", tarfile.LNKTYPE, linkname="out/passwd")],
            "'x' passes through",
        ),
        ([member("file"), member("file/x")], "'file/x' passes through 'file', which is not a directory"),
        ([member("d/x"), member("d")], "'d' replaces a directory that is not empty"),
        ([member("x", b"Z")], "'x' is of the type"),
        ([member("x", uid=1 << 32)], "'x' has the user id 4294967296"),
        ([member("x", pax_headers={"SCHILY.xattr.com.apple.x": "1"})], "'x' Linux has no extended attribute"),
        ([member("x", pax_headers={"SCHILY.acl.access": "user::rw-,user:al:r--"})], "names 'al' without a number"),
        ([member("x", pax_headers={"mtime": "soon"})], "'x' has the time 'soon'"),
        ([member("x", tarfile.CHRTYPE, devmajor=5000)], "'x' has the device number 5000:0"),
        ([member("n" * 256)], "n' has a name or target that is too long"),
        ([member("x", tarfile.SYMTYPE, linkname="t" * 4097)], "'x' has a name or target that is too long"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_dangerous_member_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], words: str
) -> None:
    """A member that would be written elsewhere, or cannot be held, is refused by its name; nothing is left behind."""
    tar = pack(tmp_path / "bad.tar", member("good", data=b"good"), *members)
    with pytest.raises(SpecError) as caught:
        stage(tar)
    assert words in str(caught.value)
    assert left_behind(tmp_path) == []


def test_a_symbolic_link_inside_the_tree_is_followed(tmp_path: Path) -> None:
    """A member whose path has a link that stays in the tree is unpacked where the link leads."""
    tar = pack(
        tmp_path / "merged.tar",
        member("usr/lib", tarfile.DIRTYPE, mode=0o755),
        member("lib", tarfile.SYMTYPE, linkname="usr/lib"),
        member("usr/up", tarfile.SYMTYPE, linkname="../usr/lib"),
        member("lib/one", data=b"1", uid=7),
        member("usr/up/two", data=b"2", uid=8),
    )
    tree = stage(tar)
    assert (tree.directory / "usr/lib/one").read_bytes() == b"1"
    assert tree.index is not None
    with index.read(tree.index) as entries:
        assert entries.count(b"usr/lib") == 2
        two = entries.get(b"usr/lib", b"two")
        assert two is not None
        assert two.uid == 8


def test_a_later_member_replaces_an_earlier(tmp_path: Path) -> None:
    """Of two members with one name the later counts, whatever they are; a directory stays and changes its metadata."""
    tar = pack(
        tmp_path / "twice.tar",
        member("d", tarfile.DIRTYPE, mode=0o700),
        member("d/file", data=b"kept"),
        member("f", data=b"first"),
        member("g", tarfile.LNKTYPE, linkname="f"),
        member("f", tarfile.SYMTYPE, linkname="g"),
        member("s", tarfile.SYMTYPE, linkname="d"),
        member("s", tarfile.DIRTYPE, mode=0o711),
        member("e", tarfile.DIRTYPE),
        member("e", data=b"now a file"),
        member("d", tarfile.DIRTYPE, mode=0o755),
    )
    tree = stage(tar)
    assert (tree.directory / "f").readlink() == Path("g")
    assert (tree.directory / "g").read_bytes() == b"first"
    assert (tree.directory / "e").read_bytes() == b"now a file"
    assert (tree.directory / "s").is_dir()
    assert not (tree.directory / "s").is_symlink()
    assert tree.index is not None
    with index.read(tree.index) as entries:
        kept = entries.get(b"", b"d")
        assert kept is not None
        assert stat.filemode(kept.mode) == "drwxr-xr-x"
        assert entries.count(b"") == 5


def test_directories_that_are_not_stated_belong_to_root(tmp_path: Path) -> None:
    """A directory on a member's way, and the root itself, are root's with mode 0755 and a time of the archive."""
    tree = stage(pack(tmp_path / "bare.tar", member("a/b", data=b"x", uid=5, mtime=1000)))
    assert tree.index is not None
    with index.read(tree.index) as entries:
        for name in (b"", b"a"):
            found = entries.get(b"", name)
            assert found is not None
            assert (stat.filemode(found.mode), found.uid, found.mtime) == ("drwxr-xr-x", 0, 1000 * 10**9)


@pytest.mark.parametrize("program", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_each_compression_is_known_by_its_bytes(tmp_path: Path, program: str) -> None:
    """A compressed archive unpacks whatever its name; cut short, it is refused in the decompressor's words."""
    tar = pack(tmp_path / "plain.tar", *(member(f"f{n}", data=os.urandom(5000)) for n in range(20)))
    packed = subprocess.run([program, "-c", tar], check=True, capture_output=True).stdout
    odd_name = tmp_path / "archive.bin"
    odd_name.write_bytes(packed)
    assert len(list(stage(odd_name).directory.iterdir())) == 20

    odd_name.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(SpecError, match=f"decompressing .*archive.bin: {program} ended with status"):
        stage(odd_name)


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (0, "is empty"),
        (100, "ends early"),
        (512, "ends within the member 'first'"),
        (1024 + 200, "ends early"),
        (1024 + 512, "ends within the member 'second'"),
        (2048, "ends early, without a tar archive's end mark"),
    ],
)
def test_a_truncated_archive_is_refused(tmp_path: Path, cut: int, words: str) -> None:
    """Wherever an archive is cut, it is an error that says so and not a smaller tree."""
    tar = pack(tmp_path / "cut.tar", member("first", data=b"1" * 512), member("second", data=b"2" * 512))
    assert len(list(stage(tar).directory.iterdir())) == 2
    with tar.open("r+b") as file:
        file.truncate(cut)
    with pytest.raises(SpecError) as caught:
        stage(tar)
    assert words in str(caught.value)
    assert caught.value.key == "root.source.tar"


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    """A flipped bit in a header is named with its place, and what is no archive is called so."""
    tar = pack(tmp_path / "flipped.tar", member("first", data=b"1"), member("second", data=b"2"))
    data = bytearray(tar.read_bytes())
    data[1024 + 3] ^= 1
    tar.write_bytes(data)
    with pytest.raises(SpecError, match="bad checksum in the header at byte 1024"):
        stage(tar)
    tar.write_bytes(b"hello, this is no archive at all" * 100)
    with pytest.raises(SpecError, match="is not a tar archive"):
        stage(tar)


def test_a_missing_or_wrong_path_is_the_definitions_fault(tmp_path: Path) -> None:
    """The error names the file and the key."""
    with pytest.raises(SpecError, match=r"image.toml: root.source.tar: .*none.tar does not exist"):
        stage(tmp_path / "none.tar")
    with pytest.raises(SpecError, match="is not a file"):
        stage(tmp_path)


def test_the_same_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy under another name comes from the cache; another archive does not."""
    tar = pack(tmp_path / "one.tar", member("a", data=b"a"))
    first = stage(tar)
    tar.rename(tmp_path / "two.tar")
    with monkeypatch.context() as patch:
        patch.setattr(staging, "unpack", None)
        assert stage(tmp_path / "two.tar") == first
    assert stage(pack(tmp_path / "three.tar", member("a", data=b"b"))).identity != first.identity


def test_a_full_disk_is_said_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space in the cache is a host's error, and nothing is left behind."""

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging, "unpack", full)
    with pytest.raises(HostError, match=r"(?s)No space left on device.*XDG_CACHE_HOME"):
        stage(pack(tmp_path / "one.tar", member("a")))
    assert left_behind(tmp_path) == []


def test_a_very_deep_tree_unpacks(tmp_path: Path) -> None:
    """A tree deeper than a path may be long for the kernel unpacks, and is measured."""
    deep = "/".join(["d" * 200] * 30)
    tar = pack(tmp_path / "deep.tar", member(deep + "/file", data=b"down there"))
    with open_archive(tar) as stream:
        unpack(stream, tmp_path / "data", tmp_path / "index")
    assert measure_unpacked(tmp_path / "data", tmp_path / "index").inodes == 32
