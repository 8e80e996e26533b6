"""Images of declared partitions, made on the host alone and read back entry by entry with the distribution's tools."""

from __future__ import annotations

import os
import re
from pathlib import Path
from uuid import uuid4

import pytest
from ext4_reader import Reader
from nix_store import NixStore, system

from vmharness.disk import esp, swap
from vmharness.disk.blocks import check_blocks, copy_blocks, survey
from vmharness.errors import BuildFailed, HostError, SpecError
from vmharness.flows import build as flow
from vmharness.flows.build import build
from vmharness.flows.inspect import inspect, to_lines
from vmharness.flows.prepare import Options
from vmharness.host import proc
from vmharness.host.published import read_manifest
from vmharness.model.manifest import Manifest
from vmharness.model.partitions import Partition, Swap
from vmharness.model.sizes import MIB

IMAGE = '[image]\nname = "declared"\nformat = "raw"\n'


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and run directories of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VMHARNESS_RUNS", str(tmp_path / "runs"))


def made(folder: Path, text: str) -> tuple[Manifest, Path]:
    """Build a definition; the manifest and the raw disk."""
    (folder / "image.toml").write_text(IMAGE + text)
    manifest = build(folder / "image.toml", folder / "out")
    assert not any(path.name.startswith("transcript") for path in (folder / "out").iterdir())
    return manifest, folder / "out/declared.img"


def tree_of(folder: Path) -> Path:
    """A small tree: files, links, an empty directory, a sparse file."""
    tree = folder / "tree"
    (tree / "etc/empty").mkdir(parents=True)
    (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n")
    (tree / "etc/group").write_text("web:x:33:\n")
    (tree / "etc/run").write_text("#!/bin/sh\n")
    (tree / "etc/run").chmod(0o4755)
    os.link(tree / "etc/run", tree / "etc/again")
    (tree / "current").symlink_to("etc/run")
    with (tree / "sparse").open("wb") as file:
        file.truncate(50 * MIB)
        file.seek(20 * MIB)
        file.write(b"x" * 5000)
    return tree


def fat_entries(disk: Path, part: Partition) -> dict[str, bytes]:
    """Every file of a FAT and its bytes."""
    return {name: esp.read_file(disk, part.offset, name) for name in esp.list_files(disk, part.offset)}


def test_fat_holds_what_was_put_there(tmp_path: Path) -> None:
    """Files, deep folders, long and odd names and an empty folder are on the FAT, with their times, in FAT32."""
    (tmp_path / "loader.efi").write_bytes(os.urandom(700_001))
    os.utime(tmp_path / "loader.efi", (1_600_000_000, 1_600_000_000))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/an entry with blanks é.conf").write_text("title x\n")
    manifest, disk = made(tmp_path, """
        [[partition]]
        type = "esp"
        minimize = true
        directories = ["/EFI/Linux", "/empty/folder"]
        contents = [
            { source = "loader.efi", target = "/EFI/BOOT/BOOTX64.EFI" },
            { source = "conf", target = "/loader/entries" },
        ]
    """)  # fmt: skip
    (part,) = manifest.table.partitions
    assert (part.role, part.size, part.attributes) == ("esp", 33 * MIB, 0)
    assert fat_entries(disk, part) == {
        "/EFI/BOOT/BOOTX64.EFI": (tmp_path / "loader.efi").read_bytes(),
        "/loader/entries/an entry with blanks é.conf": b"title x\n",
    }
    listing = proc.run(["mdir", "-/", "-i", f"{disk.name}@@{part.offset}", "::"], doing="listing", cwd=disk.parent).text
    assert "Directory for ::/empty/folder" in listing
    assert re.search(r"BOOTX64 +EFI +700001 2020-09-13 +12:26", listing)
    assert esp.check_fat(disk, part.offset, part.size, tmp_path) == ()
    assert esp.read_header(disk, part.offset).is_fat32


def test_fat_as_large_as_its_files_is_full_and_no_larger(tmp_path: Path) -> None:
    """A minimised FAT holds its files, and less than a MiB and its tables are free."""
    (tmp_path / "files").mkdir()
    for number in range(90):
        (tmp_path / f"files/a file with a long name, number {number}").write_bytes(os.urandom(number * 11_111 + 1))
    manifest, disk = made(tmp_path, """
        [[partition]]
        type = "xbootldr"
        minimize = true
        contents = [{ source = "files", target = "/files" }]
    """)  # fmt: skip
    (part,) = manifest.table.partitions
    assert len(fat_entries(disk, part)) == 90
    listing = proc.run(["mdir", "-i", f"{disk.name}@@{part.offset}", "::"], doing="listing", cwd=disk.parent).text
    free = int(re.sub(r"\D", "", re.findall(r"([\d ]+) bytes free", listing)[0]))
    assert part.size > 40 * MIB
    assert free < 2 * MIB


def test_ext4_holds_source_contents_and_directories(tmp_path: Path) -> None:
    """A source with everything over it: owners by name, modes, links, holes; and a folder that was there stays."""
    tree_of(tmp_path)
    (tmp_path / "secret").write_text("s")
    manifest, disk = made(tmp_path, """
        [[partition]]
        type = "root"
        label = "system"
        minimize = true
        source = { directory = "tree", owner = "root" }
        contents = [{ source = "secret", target = "/etc/secret", mode = "0640", user = "web", group = "web" }]
        directories = ["/proc", "/etc/empty", "/var/lib"]
    """)  # fmt: skip
    (part,) = manifest.table.partitions
    reader = Reader(disk, part.offset)
    found = reader.tree()
    assert set(found) == {
        b"", b"etc", b"etc/empty", b"etc/passwd", b"etc/group", b"etc/run", b"etc/again", b"etc/secret", b"current",
        b"sparse", b"proc", b"var", b"var/lib",
    }  # fmt: skip
    secret = found[b"etc/secret"]
    assert (secret.mode, secret.uid, secret.gid, reader.data(secret)) == (0o100640, 33, 33, b"s")
    assert (found[b"etc/run"].mode, found[b"etc/run"].links) == (0o104755, 2)
    assert found[b"etc/run"].number == found[b"etc/again"].number
    assert reader.link(found[b"current"]) == b"etc/run"
    assert found[b"sparse"].blocks * 512 < MIB
    assert (tmp_path / "tree/sparse").read_bytes() == reader.data(found[b"sparse"])
    assert (found[b"proc"].mode, found[b"proc"].uid) == (0o40755, 0)
    assert part.size < 25 * MIB
    assert (part.name, part.attributes) == ("system", 1 << 59)


def test_contents_come_from_another_partition_s_source(tmp_path: Path) -> None:
    """A file of a tree is taken through the tree's own links, with the mode that it has there."""
    tree_of(tmp_path)
    manifest, disk = made(tmp_path, """
        [[partition]]
        type = "home"
        contents = [{ tree = "root", source = "/current", target = "/bin/run" }]
        [[partition]]
        type = "root"
        source = { directory = "tree" }
    """)  # fmt: skip
    reader = Reader(disk, manifest.table.by_role("home").offset)
    run = reader.tree()[b"bin/run"]
    assert (run.mode & 0o777, reader.data(run)) == (0o755, b"#!/bin/sh\n")


def test_swap_blocks_and_nothing(tmp_path: Path) -> None:
    """A swap area is what mkswap makes, blocks are copied with their holes, and an empty partition stays empty."""
    (tmp_path / "data.raw").write_bytes(b"data" * 1024 + bytes(MIB) + b"end!" * 128)
    manifest, disk = made(tmp_path, """
        size = "64M"
        [[partition]]
        type = "swap"
        filesystem = "swap"
        size-min = "20M"
        size-max = "20M"
        [[partition]]
        type = "linux-generic"
        label = "a b"
        copy-blocks = "data.raw"
        size-max = "2M"
        flags = 0x1000000000000004
        [[partition]]
        type = "srv"
        no-auto = true
    """)  # fmt: skip
    swapped, blocks, empty = manifest.table.partitions
    assert isinstance(swapped.filesystem, Swap)
    words = proc.run(["blkid", "-p", "-O", str(swapped.offset), "-o", "export", disk], doing="looking").text
    assert f"UUID={swapped.filesystem.uuid}" in words
    assert "LABEL=swap" in words
    assert "TYPE=swap" in words
    raw = disk.read_bytes()
    data = (tmp_path / "data.raw").read_bytes()
    assert raw[blocks.offset : blocks.offset + blocks.size] == data.ljust(blocks.size, b"\0")
    assert (blocks.name, blocks.attributes) == ("a b", 1 << 60 | 4)
    assert not any(raw[empty.offset : empty.offset + empty.size])
    assert (empty.attributes, empty.filesystem) == (1 << 63 | 1 << 59, None)
    assert empty.offset + empty.size == 63 * MIB
    text = "\n".join(to_lines(inspect(tmp_path / "out")))
    assert "swap 'swap'" in text
    assert "data.raw" in text


def test_the_same_definition_gives_the_same_disk(tmp_path: Path) -> None:
    """All identifiers come from the seed, so two builds have the same table; another seed has another."""
    text = '[[partition]]\ntype = "esp"\nfilesystem = "vfat"\n[[partition]]\ntype = "root"\nfilesystem = "ext4"\n'
    first, _disk = made(tmp_path, text)
    (tmp_path / "other").mkdir()
    second, _disk = made(tmp_path / "other", text)
    (tmp_path / "third").mkdir()
    third, _disk = made(tmp_path / "third", text + '[deterministic]\nseed = "z"\n')
    assert first.table == second.table
    assert first.table.identifier != third.table.identifier
    assert {p.guid for p in first.table.partitions}.isdisjoint(p.guid for p in third.table.partitions)


def test_an_unchanged_definition_is_up_to_date(tmp_path: Path) -> None:
    """A second build makes nothing; when a file that goes in has changed, it does."""
    (tmp_path / "a").write_text("1")
    text = '[[partition]]\ntype = "home"\ncontents = [{ source = "a", target = "/a" }]\n'
    first, _disk = made(tmp_path, text)
    again, _disk = made(tmp_path, text)
    assert again == first
    (tmp_path / "a").write_text("2")
    other, disk = made(tmp_path, text)
    assert other.inputs != first.inputs
    reader = Reader(disk, other.table.by_role("home").offset)
    assert reader.data(reader.tree()[b"a"]) == b"2"


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("link", "symlink", "FAT cannot hold a symbolic link"),
        ("A", "twin", "/tree/A has the same name but for its case"),
        ("a:b", "file", "FAT does not take this name"),
        ("dot.", "file", "FAT does not take this name"),
    ],
)
def test_what_a_fat_cannot_hold_is_refused(tmp_path: Path, name: str, kind: str, what: str) -> None:
    """Before anything is made, and by its name."""
    (tmp_path / "tree").mkdir()
    if kind == "symlink":
        (tmp_path / "tree" / name).symlink_to("x")
    else:
        (tmp_path / "tree" / name).touch()
    if kind == "twin":
        (tmp_path / "tree" / name.lower()).touch()
    with pytest.raises(SpecError, match=re.escape(what)) as caught:
        made(tmp_path, '[[partition]]\ntype = "esp"\ncontents = [{ source = "tree", target = "/tree" }]\n')
    assert caught.value.key == "partition[0]"


@pytest.mark.parametrize(
    ("lines", "key", "what"),
    [
        ('contents = [{ source = "none", target = "/a" }]', "partition[0].contents[0].source", "no file or directory"),
        ('source = { directory = "none" }', "partition[0].source.directory", "does not exist"),
        ('copy-blocks = "none"', "partition[0].copy-blocks", "does not exist"),
        ('copy-blocks = "odd"', "partition[0].copy-blocks", "whole number of sectors"),
        ('copy-blocks = "."', "partition[0].copy-blocks", "neither a file nor a block device"),
        ('store-paths = ["odd"]', "partition[0].store-paths[0]", "is not a store path"),
        (
            'source = { directory = "t" }\ncontents = [{ tree = "home", source = "/no", target = "/a" }]',
            "partition[0].contents[0].source",
            "has no file /no",
        ),
    ],
)
def test_missing_sources_are_refused(tmp_path: Path, lines: str, key: str, what: str) -> None:
    """The error names the partition's key."""
    (tmp_path / "odd").write_text("odd")
    (tmp_path / "t").mkdir()
    with pytest.raises(SpecError, match=what) as caught:
        made(tmp_path, f'[[partition]]\ntype = "home"\n{lines}\n')
    assert caught.value.key == key


@pytest.mark.parametrize(("prefix", "place"), [("keep", "nix/store/"), ("strip", "")])
def test_store_paths_come_with_all_that_they_refer_to(tmp_path: Path, prefix: str, place: str) -> None:
    """The closure lies in ``/nix/store``, or at the root where the partition is to be mounted there."""
    store = NixStore(tmp_path / "store")
    path = system(store)
    manifest, disk = made(tmp_path, f"""
        [[partition]]
        type = "usr"
        minimize = true
        nix-store = "store"
        store-paths = ["{path}"]
        nix-store-prefix = "{prefix}"
    """)  # fmt: skip
    closure = store.run("--query", "--requisites", path).text.split()
    found = Reader(disk, manifest.table.by_role("usr").offset).tree()
    expected = {f"{place}{Path(name).name}".encode() for name in closure}
    parents = {b"", b"nix", b"nix/store"} if place else {b""}
    assert len(expected) > 1
    assert {name for name in found if name.count(b"/") <= place.count("/")} == expected | parents
    assert {(entry.uid, entry.mtime) for name, entry in found.items() if name in expected} == {(0, 1_000_000_000)}


def repart(folder: Path, **files: str) -> Path:
    """A folder of definition files."""
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.conf").write_text("[Partition]\n" + text)
    return folder


def test_a_folder_of_definitions_is_built(tmp_path: Path) -> None:
    """Copied trees keep modes, links and attributes, files land at their targets, and drop-ins count."""
    tree = tree_of(tmp_path)
    (tree / "boot").mkdir()
    (tree / "boot/loader.efi").write_text("MZ")
    defs = repart(
        tmp_path / "web.d",
        esp="Type=esp\nCopyFiles=/boot/loader.efi:/EFI/BOOT/BOOTX64.EFI\nSizeMinBytes=40M\n",
        root="Type=root\nMinimize=guess\nCopyFiles=/\nMakeDirectories=/proc /sys\n",
        usr="Type=usr\nCopyFiles=/etc:/share/etc\nReadOnly=yes\n",
    )
    (defs / "usr.conf.d").mkdir()
    (defs / "usr.conf.d/label.conf").write_text("[Partition]\nLabel=usr_1\n")
    manifest = build(defs, tmp_path / "out", Options(root=tree))
    disk = tmp_path / "disk.raw"
    proc.run(["qemu-img", "convert", "-O", "raw", tmp_path / "out/web.qcow2", disk], doing="converting")
    boot, root, usr = manifest.table.partitions
    assert fat_entries(disk, boot) == {"/EFI/BOOT/BOOTX64.EFI": b"MZ"}
    found = Reader(disk, root.offset).tree()
    assert {b"proc", b"sys", b"sparse", b"boot/loader.efi"} <= set(found)
    assert (found[b"etc/run"].mode, found[b"etc/run"].links, found[b"etc/run"].uid) == (0o104755, 2, 0)
    assert set(Reader(disk, usr.offset).tree()) >= {b"share", b"share/etc", b"share/etc/passwd"}
    assert (boot.size, usr.name, usr.attributes) == (40 * MIB, "usr_1", 1 << 60)
    assert manifest.name == "web"
    first = read_manifest(tmp_path / "out").definition.sha256
    (defs / "usr.conf.d/label.conf").write_text("[Partition]\nLabel=usr_2\n")
    assert build(defs, tmp_path / "out", Options(root=tree)).definition.sha256 != first


def test_paths_of_a_folder_are_relative_to_it(tmp_path: Path) -> None:
    """Without a root the folder itself is meant, and what is not there is named with the way out."""
    defs = repart(tmp_path / "x.d", a="Type=home\nCopyFiles=/files/a:/a\n")
    with pytest.raises(SpecError, match=r"there is no /files/a below .*x\.d(.|\n)*--root") as caught:
        build(defs, tmp_path / "out")
    assert caught.value.key == "a.conf.CopyFiles"
    (defs / "files").mkdir()
    (defs / "files/a").write_text("a")
    assert build(defs, tmp_path / "out").table.by_role("home").size == 16 * MIB


def test_folders_without_definitions_and_roots_without_folders(tmp_path: Path) -> None:
    """Both are refused in a sentence."""
    with pytest.raises(SpecError, match="holds no definition files"):
        build(tmp_path, tmp_path / "out")
    (tmp_path / "image.toml").write_text(IMAGE + '[[partition]]\ntype = "home"\n')
    with pytest.raises(SpecError, match="relative to the file"):
        build(tmp_path / "image.toml", tmp_path / "out", Options(root=tmp_path))


@pytest.mark.parametrize("role", ["esp", "home", "swap", "linux-generic"])
def test_verification_looks_at_every_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """Damage to any partition's content is found before publication."""
    (tmp_path / "data").write_bytes(b"d" * 4096)
    text = """
        [[partition]]
        type = "esp"
        filesystem = "vfat"
        [[partition]]
        type = "home"
        filesystem = "ext4"
        [[partition]]
        type = "swap"
        filesystem = "swap"
        [[partition]]
        type = "linux-generic"
        copy-blocks = "data"
    """
    check = flow.check

    def damaged(prepared: flow.Prepared, run: flow.Run) -> None:
        part = prepared.plan.layout.by_role(role)
        with run.directory.finished.open("r+b") as file:
            # the volume id of the FAT; ext4's and the swap area's UUIDs; the first byte of the blocks
            file.seek(part.offset + {"esp": 67, "home": 1024 + 104, "swap": 1036, "linux-generic": 0}[role])
            file.write(b"\x99")
        check(prepared, run)

    monkeypatch.setattr(flow, "check", damaged)
    with pytest.raises(BuildFailed, match=role if role != "esp" else "EFI system partition"):
        made(tmp_path, text)
    assert not (tmp_path / "out").exists()


def test_changed_blocks_are_noticed(tmp_path: Path) -> None:
    """A source that is not what it was when the plan was made is an error, and writes nothing behind its partition."""
    source, disk = tmp_path / "source", tmp_path / "disk"
    source.write_bytes(b"a" * 512)
    part = Partition(number=1, role="x", start=1, sectors=1)
    blocks = survey(source, origin="o", key="k")
    disk.write_bytes(bytes(2048))
    copy_blocks(disk, part, blocks)
    assert list(check_blocks(disk, part, blocks)) == []
    source.write_bytes(b"b" * 2048)
    with pytest.raises(HostError, match="changed while it was copied"):
        copy_blocks(disk, part, blocks)
    assert disk.read_bytes()[1024:] == bytes(1024)
    assert list(check_blocks(disk, part, blocks)) != []


def test_a_missing_swap_area_is_found(tmp_path: Path) -> None:
    """Where there is no swap area at all, that is said."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    part = Partition(number=1, role="swap", start=0, sectors=2048)
    planned = Swap(label="swap", uuid=uuid4())
    assert list(swap.check_swap(disk, part, planned)) == ["partition 1 (swap) holds no swap area"]
    swap.make_swap(disk, part, planned)
    assert list(swap.check_swap(disk, part, planned)) == []
