"""A tree with everything that is odd goes into an image as it is meant, without privilege on the host."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from uuid import UUID

import pytest
from ext4_reader import Reader
from unprivileged import run_as_ordinary_user

from vmharness.disk import filesystems
from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.model.partitions import Ext4
from vmharness.model.results import StagedTree
from vmharness.model.sizes import MIB
from vmharness.model.sources import DirectorySource, SourceOwner, TarSource
from vmharness.plan.sizing import root_size
from vmharness.tree.directory import stage_directory
from vmharness.tree.tar import stage_tar

OFFSET = 3 * MIB
SECOND = 1_000_000_000
Y1960, Y2050 = -315619200, 2524608000
CAPABILITY = bytes.fromhex("0100000200100000000000000000000000000000")
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 0xFFFFFFFF), (2, 7, 1000), (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF))
)
ODD_NAMES = [
    b"two words",
    b"new\nline",
    b"quote\"and's",
    b"-rf",
    b"caf\xe9 latin-1",
    b"\xff\xfe",
    "ünïcode".encode(),
    b"back\\slash",
    b"x" * 255,
    b"*?[glob]",
]


def make(folder: Path, tree: StagedTree, additional: int = 0) -> Reader:
    """An image of the tree, just large enough."""
    wanted = root_size(tree.measure, additional)
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(OFFSET + wanted.size + MIB)
    ext4 = Ext4(label="root", uuid=UUID(int=7), hash_seed=UUID(int=8), size=wanted.size, inodes=wanted.inodes)
    filesystems.make_ext4(disk, OFFSET, ext4, tree)
    return Reader(disk, OFFSET)


def add(archive: tarfile.TarFile, name: bytes, data: bytes | None = None, **facts: object) -> None:
    """Add a member; ``pax`` holds extra headers, other facts are the member's attributes."""
    info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    info.pax_headers = dict(facts.pop("pax", {}))  # type: ignore[call-overload]  # a mapping where it is given
    info.mode, info.mtime = 0o644, 1_600_000_000
    for key, value in facts.items():
        setattr(info, key, value)
    if data is not None:
        info.size = len(data)
    archive.addfile(info, None if data is None else BytesIO(data))


def latin(data: bytes) -> str:
    """Bytes as tarfile takes them for a pax header."""
    return data.decode("utf-8", "surrogateescape")


@pytest.fixture
def odd_tar(tmp_path: Path) -> Path:
    """An archive with everything that is odd."""
    path = tmp_path / "odd tree.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        add(archive, b"./", type=tarfile.DIRTYPE, mode=0o751, uid=3, gid=4, pax={"mtime": f"{Y1960}.25"})
        add(archive, b"./owned", b"mine\n", uid=4_000_000_000, gid=4_000_000_001, mode=0o4755)
        add(archive, b"./closed", b"secret", mode=0o000)
        add(archive, b"./closed-dir", type=tarfile.DIRTYPE, mode=0o000)
        add(archive, b"./closed-dir/file", b"inside", mode=0o2750, uid=12)
        add(archive, b"./sticky", type=tarfile.DIRTYPE, mode=0o1777, pax={"mtime": f"{Y2050}.123456789"})
        add(archive, b"./old", b"", pax={"mtime": f"{Y1960}.000000001", "atime": f"{Y2050}.5"})
        add(archive, b"./zero", type=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=5)
        add(archive, b"./disk", type=tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=259, devminor=70000)
        add(archive, b"./zero-again", type=tarfile.LNKTYPE, linkname="./zero")
        add(archive, b"./fifo", type=tarfile.FIFOTYPE, mode=0o600)
        add(archive, b"./hard1", type=tarfile.LNKTYPE, linkname="./owned")
        add(archive, b"./sub/hard2", type=tarfile.LNKTYPE, linkname="owned")
        for name, target in ((b"short", "owned"), (b"long", "l" * 60), (b"longest", "d/" * 2047), (b"dangling", "/no")):
            add(archive, b"./" + name, type=tarfile.SYMTYPE, linkname=target, uid=5)
        xattrs = {
            "SCHILY.xattr.user.note": "hello",
            "SCHILY.xattr.user.binary": latin(bytes(range(256))),
            "SCHILY.xattr.trusted.overlay": "y",
            "SCHILY.xattr.security.capability": latin(CAPABILITY),
        }
        add(archive, b"./ping", b"\x7fELF", mode=0o755, pax=xattrs)
        add(archive, b"./big-attribute", b"", pax={"SCHILY.xattr.user.large": "L" * 3000})
        add(archive, b"./acl", b"", pax={"SCHILY.xattr.system.posix_acl_access": latin(ACL)})
        text = "user::rw-,user:alice:rwx:1000,group::r--,mask::rwx,other::r--"
        add(archive, b"./acl-text", b"", pax={"SCHILY.acl.access": text})
        add(
            archive,
            b"./acl-default",
            type=tarfile.DIRTYPE,
            mode=0o755,
            pax={"SCHILY.xattr.system.posix_acl_default": latin(ACL)},
        )
        for name in ODD_NAMES:
            add(archive, b"./odd/" + name, name, uid=1234)
    return path


def test_an_odd_tar_arrives_unchanged(tmp_path: Path, odd_tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners, modes, links, nodes, attributes, names and times of a tar are in the image, made by an ordinary user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(filesystems, "_CONFIG", Path(shutil.copy(filesystems._CONFIG, tmp_path)))
    run_as_ordinary_user(tmp_path, lambda: make(tmp_path, stage_tar(TarSource(path=odd_tar), origin="t.toml")) and None)

    reader = Reader(tmp_path / "disk.raw", OFFSET)
    tree = reader.tree()
    assert filesystems.check_ext4(tmp_path / "disk.raw", OFFSET) == ()
    with tarfile.open(odd_tar, errors="surrogateescape") as archive:
        named = {name.encode("utf-8", "surrogateescape")[2:] for name in archive.getnames()}
    assert set(tree) == named | {b"", b"sub", b"odd"}

    def seen(name: str) -> tuple[str, int, int]:
        inode = tree[name.encode()]
        return stat.filemode(inode.mode), inode.uid, inode.gid

    assert seen("") == ("drwxr-x--x", 3, 4)
    assert tree[b""].mtime == Y1960 * SECOND - SECOND // 4
    assert seen("owned") == ("-rwsr-xr-x", 4_000_000_000, 4_000_000_001)
    assert seen("closed") == ("----------", 0, 0)
    assert seen("closed-dir") == ("d---------", 0, 0)
    assert seen("closed-dir/file") == ("-rwxr-s---", 12, 0)
    assert seen("sticky") == ("drwxrwxrwt", 0, 0)
    assert seen("fifo") == ("prw-------", 0, 0)
    assert seen("zero") == ("crw-rw-rw-", 0, 0)
    assert seen("disk") == ("brw-rw----", 0, 6)
    assert seen("short") == ("lrwxrwxrwx", 5, 0)
    assert tree[b"zero"].device == (1, 5)
    assert tree[b"disk"].device == (259, 70000)
    assert [tree[name].entry_type for name in (b"zero", b"zero-again", b"disk", b"fifo")] == ["3", "3", "4", "5"]
    assert tree[b"zero-again"].number == tree[b"zero"].number
    assert tree[b"owned"].number == tree[b"hard1"].number == tree[b"sub/hard2"].number
    assert tree[b"owned"].links == 3
    assert reader.data(tree[b"closed"]) == b"secret"
    assert [reader.link(tree[name]) for name in (b"short", b"long", b"longest", b"dangling")] == [
        b"owned",
        b"l" * 60,
        b"d/" * 2047,
        b"/no",
    ]
    assert tree[b"sticky"].mtime == Y2050 * SECOND + 123456789
    assert tree[b"old"].atime == Y2050 * SECOND + SECOND // 2
    assert tree[b"old"].mtime == Y1960 * SECOND - 1
    assert tree[b"owned"].mtime == 1_600_000_000 * SECOND
    for name in ODD_NAMES:
        assert reader.data(tree[b"odd/" + name]) == name
        assert tree[b"odd/" + name].uid == 1234
    assert reader.xattrs(tree[b"ping"]) == {"user.note", "user.binary", "trusted.overlay", "security.capability"}
    assert reader.xattr(tree[b"ping"], "user.note") == b"hello"
    assert reader.xattr(tree[b"ping"], "user.binary") == bytes(range(256))
    assert reader.xattr(tree[b"ping"], "trusted.overlay") == b"y"
    assert reader.xattr(tree[b"ping"], "security.capability") == CAPABILITY
    assert reader.xattr(tree[b"big-attribute"], "user.large") == b"L" * 3000
    for name in (b"acl", b"acl-text"):
        # base entries have no id on disk; debugfs gives 0 for it, the kernel fills in its own
        assert reader.xattr(tree[name], "system.posix_acl_access") == ACL.replace(b"\xff\xff\xff\xff", b"\0\0\0\0")
    assert reader.xattrs(tree[b"acl-default"]) == {"system.posix_acl_default"}


def test_a_sparse_member_stays_sparse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 100 MB with two blocks of data takes two blocks, in every form in which GNU tar writes it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(50_000_000 // 4096 * 4096)
        file.write(b"middle")
        file.truncate(100_000_000)
    for form in ("--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"):
        tar = tmp_path / "sparse.tar"
        options = [form] if form.startswith("--format") else ["--format=posix", form]
        proc.run(["tar", "-C", source, "-cSf", tar, *options, "."], doing="packing")
        reader = make(tmp_path, stage_tar(TarSource(path=tar), origin="t.toml"))
        inode = reader.tree()[b"sparse"]
        assert (inode.size, inode.blocks) == (100_000_000, 8), form
        assert reader.data(inode).strip(b"\0") == b"middle"


@pytest.mark.parametrize("owner", SourceOwner)
def test_a_directory_keeps_its_metadata(tmp_path: Path, owner: SourceOwner) -> None:
    """A directory's modes, links, attributes and exact times are in the image; owners as the definition says."""
    source = tmp_path / "source dir?x"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(b"data")
    (source / "sub" / "hard").hardlink_to(source / "sub" / "file")
    (source / "link").symlink_to("sub/file")
    os.setxattr(source / "sub" / "file", "user.note", b"kept")
    (source / "read").write_bytes(b"its access time is older than a day, so reading changes it")
    os.utime(source / "read", ns=(1_000_000_000 * SECOND, 900_000_000 * SECOND + 1))
    (source / "sub" / "file").chmod(0o4711)
    os.utime(source / "sub" / "file", ns=(Y2050 * SECOND + 7, Y1960 * SECOND + 9))
    os.utime(source / "link", ns=(3, Y2050 * SECOND + 5), follow_symlinks=False)
    for name in ODD_NAMES:
        Path(os.fsdecode(os.fsencode(source / "sub") + b"/" + name)).write_bytes(name)
    source.chmod(0o750)
    if os.getuid() == 0:
        os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(source / "link", 77, 88, follow_symlinks=False)
        os.setxattr(source / "sub", "trusted.x", b"t")
    expected = (source / "link").lstat()

    reader = make(tmp_path, stage_directory(DirectorySource(path=source, owner=owner), origin="t.toml"))

    tree = reader.tree()
    assert filesystems.check_ext4(tmp_path / "disk.raw", OFFSET) == ()
    assert stat.filemode(tree[b""].mode) == "drwxr-x---"
    assert stat.filemode(tree[b"sub/file"].mode) == "-rws--x--x"
    assert tree[b"sub/hard"].number == tree[b"sub/file"].number
    assert (tree[b"sub/file"].atime, tree[b"sub/file"].mtime) == (Y2050 * SECOND + 7, Y1960 * SECOND + 9)
    assert tree[b"link"].mtime == Y2050 * SECOND + 5
    assert (tree[b"read"].atime, tree[b"read"].mtime) == (1_000_000_000 * SECOND, 900_000_000 * SECOND + 1)
    root = owner is SourceOwner.ROOT
    assert (tree[b"link"].uid, tree[b"link"].gid) == ((0, 0) if root else (expected.st_uid, expected.st_gid))
    assert reader.xattr(tree[b"sub/file"], "user.note") == b"kept"
    for name in ODD_NAMES:
        assert reader.data(tree[b"sub/" + name]) == name
    if os.getuid() == 0:
        assert tree[b"null"].device == (1, 3)
        assert reader.xattr(tree[b"sub"], "trusted.x") == b"t"


def _tiny(folder: Path) -> None:
    for directory in range(20):
        (folder / f"d{directory}").mkdir()
        for number in range(500):
            (folder / f"d{directory}" / f"f{number}").write_bytes(b"x")


def _links(folder: Path) -> None:
    for number in range(500):
        (folder / f"l{number}").symlink_to("t" * 100)


def _short_links(folder: Path) -> None:
    """More inodes than a block group of the usual size can have, and hardly any blocks."""
    for directory in range(70):
        (folder / f"d{directory}").mkdir()
        for number in range(500):
            (folder / f"d{directory}" / f"l{number}").symlink_to("target")


def _hundred(folder: Path) -> None:
    for number in range(100):
        (folder / f"m{number}").write_bytes(number.to_bytes(1) * MIB)


def _crowd(folder: Path) -> None:
    for number in range(3000):
        (folder / f"{number:04}{'n' * 60}").write_bytes(b"")


def _hard(folder: Path) -> None:
    (folder / "one").write_bytes(b"y" * MIB)
    for number in range(200):
        (folder / f"h{number}").hardlink_to(folder / "one")


def _holes(folder: Path) -> None:
    with (folder / "holes").open("wb") as file:
        for number in range(1000):
            file.seek(number * 3 * 4096)
            file.write(b"z" * 4096)
        file.truncate(1 << 30)


def _bulk(folder: Path) -> None:
    (folder / "bulk").write_bytes(b"b" * (200 * MIB))


def _nothing(folder: Path) -> None:
    """An empty tree."""


@pytest.mark.parametrize("additional", [0, 8 * MIB], ids=["tight", "roomy"])
@pytest.mark.parametrize("fill", [_tiny, _links, _short_links, _crowd, _hard, _hundred, _holes, _bulk, _nothing])
def test_the_reckoned_size_fits(tmp_path: Path, fill: Callable[[Path], None], additional: int) -> None:
    """A tree fits in the size reckoned for it, the wanted bytes stay free, and little more is taken."""
    source = tmp_path / "source"
    source.mkdir()
    fill(source)

    reader = make(tmp_path, stage_directory(DirectorySource(path=source), origin="t.toml"), additional)

    free = reader.header("Free blocks") * 4096
    assert free >= additional
    assert free - additional < max(16 * MIB, 0.05 * reader.header("Block count") * 4096)
    assert reader.header("Reserved block count") == 0
    assert reader.header("Free inodes") > 500


def test_a_changed_source_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that goes away between copying and setting metadata ends the build with its name."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "gone").write_bytes(b"")
    tree = stage_directory(DirectorySource(path=source), origin="t.toml")
    apply = filesystems.apply_metadata

    def late(disk: Path, offset: int, tree: StagedTree) -> None:
        (source / "gone").unlink()
        apply(disk, offset, tree)

    monkeypatch.setattr(filesystems, "apply_metadata", late)
    with pytest.raises(HostError, match="differs from the source at '/gone'"):
        make(tmp_path, tree)


def test_damage_is_found(tmp_path: Path) -> None:
    """The checker says no to a filesystem with a wrong inode."""
    source = tmp_path / "source"
    source.mkdir()
    make(tmp_path, stage_directory(DirectorySource(path=source), origin="t.toml"))
    disk = tmp_path / "disk.raw"
    assert filesystems.check_ext4(disk, OFFSET) == ()
    with disk.open("r+b") as file:
        file.seek(OFFSET + 1024 + 0x10)
        file.write(b"\x05\0\0\0")
    findings = filesystems.check_ext4(disk, OFFSET)
    assert findings
    assert any("count" in finding or "checksum" in finding.lower() for finding in findings), findings


def test_too_small_a_filesystem_is_an_error(tmp_path: Path) -> None:
    """A tree that does not fit ends with mke2fs's own words, not with half a tree."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "bulk").write_bytes(os.urandom(8 * MIB))
    tree = stage_directory(DirectorySource(path=source), origin="t.toml")
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(OFFSET + 8 * MIB)
    ext4 = Ext4(label="root", uuid=UUID(int=7), hash_seed=UUID(int=8), size=8 * MIB, inodes=64)
    with pytest.raises(HostError, match="making the root filesystem"):
        filesystems.make_ext4(disk, OFFSET, ext4, tree)


def test_the_hosts_configuration_does_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are those that GRUB 2.06 and kernel 6.1 read, whatever the host's mke2fs.conf says."""
    (tmp_path / "host.conf").write_text("[defaults]\nbase_features = metadata_csum_seed\n")
    monkeypatch.setenv("MKE2FS_CONFIG", str(tmp_path / "host.conf"))
    (tmp_path / "source").mkdir()
    reader = make(tmp_path, stage_directory(DirectorySource(path=tmp_path / "source"), origin="t.toml"))
    assert reader.features() == {
        *("has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg"),
        *("sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum"),
    }
