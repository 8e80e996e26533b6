"""The oci source: the forms that it takes, what layers come to, and what it refuses by name."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import container_images as made
import pytest
from attrs import frozen
from container_images import PACKERS, Blobs, folder, layer, member

from vmharness.errors import HostError, SpecError
from vmharness.host import index
from vmharness.model.results import StagedTree
from vmharness.model.sources import OciSource, TarSource
from vmharness.tree import blobs, oci
from vmharness.tree.oci import stage_oci
from vmharness.tree.tar import stage_tar

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
BASE = layer(
    folder("etc", uid=1),
    member("etc/passwd", data=b"old", mode=0o644),
    folder("opt"),
    member("opt/gone", data=b"x"),
    folder("opt/all"),
    member("opt/all/one", data=b"1"),
    member("opt/all/two", data=b"2"),
)
UPPER = layer(
    member("etc/passwd", data=b"new", mode=0o600, uid=7, gid=8, mtime=1234),
    member("opt/.wh.gone"),
    folder("opt/all", mode=0o711),
    member("opt/all/.wh..wh..opq"),
    member("opt/all/three", data=b"3"),
)
MERGED = {"etc": "d", "etc/passwd": "new", "opt": "d", "opt/all": "d", "opt/all/three": "3"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def stage(path: Path, **settings: str) -> StagedTree:
    """Stage an image."""
    return stage_oci(OciSource(path=path, **settings), origin="image.toml")


def refused(path: Path, **settings: str) -> SpecError:
    """The error of staging an image that cannot be used; nothing of a tree is left behind."""
    with pytest.raises(SpecError) as caught:
        stage(path, **settings)
    trees = path.parent / "cache" / "vmharness" / "tree"
    assert [file for file in trees.rglob("*") if file.is_file() and file.suffix != ".lock"] == []
    return caught.value


@frozen(kw_only=True)
class Entry:
    """One file of a staged tree."""

    what: str
    metadata: index.Metadata


def entries(tree: StagedTree) -> dict[str, Entry]:
    """Every file of a tree by its path, from data and index, which must agree about what there is."""
    found = {}
    assert tree.index is not None
    with index.read(tree.index) as database:
        for path in sorted(tree.directory.rglob("*")):
            name = path.relative_to(tree.directory)
            parent = b"" if name.parent == Path() else str(name.parent).encode()
            metadata = database.get(parent, name.name.encode())
            assert metadata is not None, f"{name} is not in the index"
            kind = stat.S_IFMT(metadata.mode)
            if path.is_symlink():
                assert kind == stat.S_IFLNK
                what = f"-> {path.readlink()}"
            elif path.is_dir():
                assert kind == stat.S_IFDIR
                what = "d"
                assert database.count(str(name).encode()) == len(list(path.iterdir()))
            elif path.is_file():
                assert kind == stat.S_IFREG
                what = path.read_text()
            else:
                what = stat.filemode(metadata.mode)[0]
            found[str(name)] = Entry(what=what, metadata=metadata)
    return found


def whats(tree: StagedTree) -> dict[str, str]:
    """What each file of a tree is."""
    return {path: entry.what for path, entry in entries(tree).items()}


def nested(blobs: Blobs, image: dict[str, Any], name: str = "system:1") -> None:
    """An index that holds an index with the image, one for another machine whose blobs are missing, and a signature."""
    stated = {"platform": {"os": "linux", "architecture": "amd64"}}
    other = {**image, "digest": made.digest_of(b"elsewhere"), "platform": {"os": "linux", "architecture": "arm64"}}
    attached = {**other, "platform": {"os": "unknown", "architecture": "unknown"}}
    inner = {"schemaVersion": 2, "manifests": [other, attached, {**image, **stated}]}
    odd = blobs.add(b"{}", "application/vnd.example.thing+json")
    blobs.index(odd, blobs.add_json(inner, made.INDEX, annotations={made.REF_NAME: name}))


def layout_folder(place: Path) -> Path:
    return made.layout(place / "layout", BASE, UPPER)


def layout_archive(place: Path) -> Path:
    return made.layout(place / "image.tar", BASE, UPPER, archive=True)


def gzip_layers(place: Path) -> Path:
    return made.layout(place / "image.tar", BASE, UPPER, packing="+gzip", archive=True)


def zstd_layers(place: Path) -> Path:
    return made.layout(place / "layout", BASE, UPPER, packing="+zstd")


def packed_archive(place: Path) -> Path:
    blobs = Blobs()
    blobs.index(blobs.image([BASE, UPPER], packing="+gzip"))
    return blobs.to_archive(place / "image.tar.zst", pack=made.zstd)


def nested_index(place: Path) -> Path:
    blobs = Blobs()
    nested(blobs, blobs.image([BASE, UPPER]))
    return blobs.to_archive(place / "image.tar")


def longer_digests(place: Path) -> Path:
    blobs = Blobs()
    blobs.index(blobs.image([BASE, UPPER], algorithm="sha512"))
    return blobs.to_archive(place / "image.tar")


def docker_save(place: Path) -> Path:
    (place / "image.tar").write_bytes(layer(*made.saved(("system:1", [BASE, UPPER]))))
    return place / "image.tar"


def newer_docker_save(place: Path) -> Path:
    blobs = Blobs()
    image = blobs.image([BASE, UPPER])
    blobs.index({**image, "annotations": {"io.containerd.image.name": "registry.example/library/system:1"}})
    blobs.files["manifest.json"] = b"not even read"
    return blobs.to_archive(place / "image.tar")


FORMS = [
    layout_folder,
    layout_archive,
    gzip_layers,
    zstd_layers,
    packed_archive,
    nested_index,
    longer_digests,
    docker_save,
    newer_docker_save,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_gives_the_same_tree(tmp_path: Path, form: Callable[[Path], Path]) -> None:
    """Layouts, archives and saved images, packed or not, come to the same files with the upper layer's metadata."""
    tree = stage(form(tmp_path))
    found = entries(tree)
    assert {path: entry.what for path, entry in found.items()} == MERGED
    passwd, opt_all = found["etc/passwd"].metadata, found["opt/all"].metadata
    assert (stat.S_IMODE(passwd.mode), passwd.uid, passwd.gid, passwd.mtime) == (0o600, 7, 8, 1234 * 10**9)
    assert found["etc"].metadata.uid == 1
    assert stat.S_IMODE(opt_all.mode) == 0o711
    assert tree.measure.inodes == 6


def test_one_layer_is_what_the_tar_source_makes_of_it(tmp_path: Path) -> None:
    """Owners, modes, exact times, extended attributes, device nodes, links: as from an archive, entry by entry."""
    pax = {
        "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.user.note": "line\nline",
        "mtime": "1700000000.123456789",
        "atime": "5.000000001",
    }
    plain = layer(
        folder("d", mode=0o1777, uid=70000, gid=4_000_000_000),
        member("d/ping", data=b"program", mode=0o4755, uid=3, gid=4, pax_headers=pax),
        member("d/same", tarfile.LNKTYPE, linkname="d/ping"),
        member("d/link", tarfile.SYMTYPE, linkname="/nowhere at all", uid=9),
        member("d/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
        member("d/disk", tarfile.BLKTYPE, mode=0o660, devmajor=259, devminor=70000),
        member("d/fifo", tarfile.FIFOTYPE, mode=0o622),
    )
    (tmp_path / "tree.tar").write_bytes(plain)
    archived = stage_tar(TarSource(path=tmp_path / "tree.tar"), origin="image.toml")
    layered = stage(made.layout(tmp_path / "image.tar", plain, packing="+gzip", archive=True))
    assert entries(layered) == entries(archived)
    assert layered.measure == archived.measure
    assert (layered.directory / "d/ping").samefile(layered.directory / "d/same")
    noted = entries(layered)["d/ping"].metadata
    assert dict(noted.xattrs) == {b"security.capability": CAPABILITY, b"user.note": b"line\nline"}
    assert noted.mtime == 1_700_000_000_123_456_789


def merged(tmp_path: Path, *layers: bytes) -> StagedTree:
    """The tree of these layers."""
    return stage(made.layout(tmp_path / "image.tar", *layers, archive=True))


DIRECTORY = layer(folder("x"), folder("x/sub"), member("x/sub/file", data=b"below"), member("x/other", data=b"below"))
FILE = layer(member("x", data=b"file"))
LINK = layer(folder("target"), member("target/kept", data=b"kept"), member("x", tarfile.SYMTYPE, linkname="target"))
NODE = layer(member("x", tarfile.FIFOTYPE))
KEPT = {"target": "d", "target/kept": "kept"}


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (DIRECTORY, FILE, {"x": "file"}),
        (DIRECTORY, LINK, {"x": "-> target", **KEPT}),
        (DIRECTORY, NODE, {"x": "p"}),
        (FILE, layer(folder("x"), member("x/new", data=b"n")), {"x": "d", "x/new": "n"}),
        (LINK, layer(folder("x"), member("x/new", data=b"n")), {"x": "d", "x/new": "n", **KEPT}),
        (LINK, FILE, {"x": "file", **KEPT}),
        (NODE, LINK, {"x": "-> target", **KEPT}),
        (LINK, layer(member("x/new", data=b"n")), {"x": "-> target", "target/new": "n", **KEPT}),
        (DIRECTORY, layer(member(".wh.x")), {}),
        (LINK, layer(member(".wh.x")), KEPT),
        (LINK, layer(member("x/.wh.kept")), {"x": "-> target", "target": "d"}),
        (LINK, layer(member("x/.wh..wh..opq")), {"x": "-> target", "target": "d"}),
        (FILE, layer(member(".wh.y"), member("no/such/.wh.y")), {"x": "file"}),
        (DIRECTORY, layer(member(".wh..wh..opq"), member("y", data=b"y")), {"y": "y"}),
        (FILE, layer(member(".wh..wh.aufs"), folder(".wh..wh.plnk"), member(".wh..wh.plnk/1")), {"x": "file"}),
        (FILE, layer(member("/abs/file", data=b"a"), member("/.wh.x")), {"abs": "d", "abs/file": "a"}),
        (FILE, layer(member("x", data=b"1"), member("x", data=b"2")), {"x": "2"}),
        (FILE, layer(folder("x"), member("x/y", data=b"1"), member("x", data=b"2")), {"x": "2"}),
    ],
)
def test_layers_replace_and_hide(tmp_path: Path, lower: bytes, upper: bytes, expected: dict[str, str]) -> None:
    """Of any two types the upper one counts, only directories join; whiteouts hide; links are followed in the tree."""
    assert whats(merged(tmp_path, lower, upper)) == expected


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_whiteout_hides_only_what_is_below(tmp_path: Path, *, first: bool) -> None:
    """What a layer itself brings stays, whether a whiteout or opaque mark of its name stands before or after it."""
    hiding = [member(".wh.x"), member("y/.wh..wh..opq")]
    bringing = [folder("x"), folder("x/sub"), member("x/sub/new", data=b"n"), folder("y"), member("y/own", data=b"o")]
    upper = [*hiding, *bringing] if first else [*bringing, *hiding]
    lower = layer(folder("x"), folder("x/sub"), member("x/sub/old"), folder("x/gone"), folder("y"), member("y/old"))
    expected = {"x": "d", "x/sub": "d", "x/sub/new": "n", "y": "d", "y/own": "o"}
    assert whats(merged(tmp_path, lower, layer(*upper))) == expected


def test_hard_links_reach_into_lower_layers(tmp_path: Path) -> None:
    """A link to a file below is that file; replacing one name leaves the other; hiding one does, too."""
    tree = merged(
        tmp_path,
        layer(member("a", data=b"one", uid=5), member("b", tarfile.LNKTYPE, linkname="a"), member("c", data=b"c")),
        layer(member("d", tarfile.LNKTYPE, linkname="/a"), member("c", tarfile.LNKTYPE, linkname="a")),
        layer(member("a", data=b"two", uid=6), member(".wh.b")),
    )
    found = entries(tree)
    assert {path: entry.what for path, entry in found.items()} == {"a": "two", "c": "one", "d": "one"}
    assert (tree.directory / "c").samefile(tree.directory / "d")
    assert (found["a"].metadata.uid, found["d"].metadata.uid) == (6, 5)


def test_an_absolute_link_starts_at_the_trees_root(tmp_path: Path) -> None:
    """A link such as ``/var/run`` to ``/run`` leads a member inside the tree, as in a container."""
    outside = tmp_path / "outside"
    outside.mkdir()
    lower = layer(folder("run"), member("here", tarfile.SYMTYPE, linkname="/run"))
    lower_too = layer(member("away", tarfile.SYMTYPE, linkname=str(outside)))
    tree = merged(tmp_path, lower, lower_too, layer(member("here/pid", data=b"1"), member("away/escaped", data=b"2")))
    assert whats(tree)["run/pid"] == "1"
    assert whats(tree)[f"{str(outside)[1:]}/escaped"] == "2"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([member("a/../../x")], "the member 'a/../../x' has '..'"),
        ([member("x", tarfile.LNKTYPE, linkname="../../etc/passwd")], "the member 'x' has '..'"),
        ([member("x", tarfile.LNKTYPE, linkname="none")], "'x' is a hard link to 'none', which"),
        ([member("opt", tarfile.LNKTYPE, linkname="opt/gone")], "'opt/gone', which lies in what it replaces"),
        ([member("out", tarfile.SYMTYPE, linkname="../.."), member("out/x")], "'out/x' passes through"),
        ([member("out", tarfile.SYMTYPE, linkname="../.."), member("out/.wh.x")], "'out/.wh.x' passes through"),
        ([member("l", tarfile.SYMTYPE, linkname="/l"), member("l/x")], "which leads in a circle"),
        ([member("etc/passwd/x")], "'etc/passwd/x' passes through 'etc/passwd', which is not a directory"),
        ([member("../.wh.etc")], "has '..'"),
        ([member("opt/.wh...")], "'opt/.wh...' is a whiteout that names no file"),
        ([member("opt/.wh..")], "is a whiteout that names no file"),
        ([member("opt/.wh.")], "is a whiteout that names no file"),
        ([member(".wh.etc/passwd")], "lies in a directory whose name stands for a deleted file"),
        ([member("x", b"Z")], "'x' is of the type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_dangerous_member_is_refused(tmp_path: Path, members: list[made.Member], words: str) -> None:
    """A member that would be written, or would delete, elsewhere is refused by its layer and name."""
    error = refused(made.layout(tmp_path / "image.tar", BASE, layer(*members), archive=True))
    assert "layer 2 of 2 (sha256:" in str(error)
    assert words in str(error)
    assert error.key == "root.source.oci"


def manifest_of(blobs: Blobs) -> dict[str, Any]:
    """The manifest of a layout's first image."""
    digest = json.loads(blobs.files["index.json"])["manifests"][0]["digest"]
    manifest: dict[str, Any] = json.loads(blobs.files[f"blobs/{digest.replace(':', '/')}"])
    return manifest


def altered(change: Callable[[dict[str, Any]], None]) -> Callable[[Blobs], None]:
    """Put a changed manifest in the place of the first."""

    def alter(blobs: Blobs) -> None:
        manifest = manifest_of(blobs)
        change(manifest)
        blobs.index(blobs.add_json(manifest, made.MANIFEST))

    return alter


def layer_file(blobs: Blobs) -> str:
    return f"blobs/{manifest_of(blobs)['layers'][1]['digest'].replace(':', '/')}"


def lose_layer(blobs: Blobs) -> None:
    del blobs.files[layer_file(blobs)]


def flip_layer(blobs: Blobs) -> None:
    data = bytearray(blobs.files[layer_file(blobs)])
    data[600] ^= 1
    blobs.files[layer_file(blobs)] = bytes(data)


def cut_layer(blobs: Blobs) -> None:
    blobs.files[layer_file(blobs)] = blobs.files[layer_file(blobs)][:-1]


def lose_manifest(blobs: Blobs) -> None:
    digest = json.loads(blobs.files["index.json"])["manifests"][0]["digest"]
    del blobs.files[f"blobs/{digest.replace(':', '/')}"]


def swap_layers(manifest: dict[str, Any]) -> None:
    manifest["layers"].reverse()


def foreign_layer(blobs: Blobs) -> None:
    lose_layer(blobs)
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    altered(lambda manifest: manifest["layers"][1].update(mediaType=kind))(blobs)


def packed_wrongly(blobs: Blobs) -> None:
    broken = made.zstd(BASE)[:-20]
    descriptor = blobs.add(broken, made.LAYER + "+zstd")
    altered(lambda manifest: manifest["layers"].__setitem__(0, descriptor))(blobs)


def packed_unknown(blobs: Blobs) -> None:
    blobs.index(blobs.image([b"\x89BR\0" * 200, UPPER]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose_layer, "the blob sha256:"),
        (flip_layer, "has another digest than its name says"),
        (cut_layer, f"has {len(UPPER) - 1} bytes, and {len(UPPER)} are announced"),
        (lose_manifest, "is missing"),
        (foreign_layer, "since it may not be distributed (a foreign layer)"),
        (altered(swap_layers), "has another content than the image's configuration states"),
        (altered(lambda m: m["layers"].pop()), "the manifest has 1 layers, and the configuration 2"),
        (altered(lambda m: m["layers"][0].update(mediaType=made.LAYER + "+br")), "layer.v1.tar+br', which is not"),
        (altered(lambda m: m["layers"][0].update(digest="md5:0")), "'md5:0' is not a digest by sha256 or sha512"),
        (altered(lambda m: m["layers"][0].update(digest="sha256:../../../etc/passwd")), "is not a digest"),
        (altered(lambda m: m["layers"][0].pop("size")), "lacks a size or a media type"),
        (altered(lambda m: m.update(layers={})), "'layers' is not a list"),
        (packed_wrongly, "zstd ended with status"),
        (packed_unknown, "is not a tar archive"),
        (lambda blobs: blobs.files.update({"index.json": b"{"}), "'index.json' is not JSON"),
        (lambda blobs: blobs.files.update({"index.json": b"[" * 100_000}), "'index.json' is not JSON"),
        (lambda blobs: blobs.files.update({"index.json": b"[]"}), "'index.json' is not a JSON object"),
        (lambda blobs: blobs.files.pop("index.json"), "has neither index.json nor manifest.json"),
        (lambda blobs: blobs.index(), "holds no image"),
        (lambda blobs: blobs.index(blobs.add(b"x", "text/plain")), "holds no container image, only 'text/plain'"),
        (lambda blobs: blobs.index(7), "a descriptor is not an object"),  # type: ignore[arg-type]  # that is the test
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "folder"])
def test_a_damaged_image_is_refused(
    tmp_path: Path, damage: Callable[[Blobs], None], words: str, *, archive: bool
) -> None:
    """Whatever is missing, changed or unknown is named in one sentence, and no tree is made of the rest."""
    blobs = Blobs()
    blobs.index(blobs.image([BASE, UPPER]))
    damage(blobs)
    place = tmp_path / "image"
    error = refused(blobs.to_archive(place) if archive else blobs.to_folder(place))
    assert words in error.what
    assert str(place) in error.what
    assert error.origin == "image.toml"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    """Wherever an archive is cut, plain or packed, it is an error that says so."""
    for path in (layout_archive(tmp_path), packed_archive(tmp_path)):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data.rstrip(b"\0")) * share)])  # not within the end mark
        text = str(refused(path))
        assert any(words in text for words in ("ends early", "ends within", "is empty", "zstd ended with")), text


def test_a_path_that_is_no_image_is_the_definitions_fault(tmp_path: Path) -> None:
    """The error names the path, the key, and what is wanted there."""
    assert "none.tar: does not exist" in str(refused(tmp_path / "none.tar"))
    (tmp_path / "text").write_text("no archive" * 100)
    assert "is not a tar archive" in str(refused(tmp_path / "text"))
    (tmp_path / "tree.tar").write_bytes(BASE)
    error = refused(tmp_path / "tree.tar")
    assert error.key == "root.source.oci"
    assert "{ tar = ... }" in str(error.hint)
    (tmp_path / "old.tar").write_bytes(layer(member("repositories", data=b"{}")))
    assert "before 1.10" in str(refused(tmp_path / "old.tar").hint)


def test_a_saved_name_cannot_lead_outside(tmp_path: Path) -> None:
    """Names of pieces that a manifest.json makes up are looked for in the image only."""
    for name in ("../secret", "/etc/passwd"):
        place = tmp_path / "saved"
        place.mkdir(exist_ok=True)
        (place / "manifest.json").write_text(json.dumps([{"Config": name, "Layers": []}]))
        assert "outside of the tree" in str(refused(place))


def several(place: Path) -> Path:
    """Images of two names and platforms, one of them for two variants."""
    blobs = Blobs()
    listed = []
    for name, platform in (
        ("one:1", "linux/amd64"),
        ("two:1", "linux/amd64"),
        ("two:1", "linux/arm64/v8"),
        ("arm:1", "linux/arm/v6"),
        ("arm:1", "linux/arm/v7"),
    ):
        image = blobs.image([layer(member(f"{name} {platform.replace('/', ' ')}"))], platform=platform)
        listed.append({**image, "annotations": {made.REF_NAME: name}})
    blobs.index(*listed)
    return blobs.to_archive(place / "image.tar")


@pytest.mark.parametrize(
    ("settings", "file"),
    [
        ({"reference": "one:1"}, "one:1 linux amd64"),
        ({"reference": "two:1"}, "two:1 linux amd64"),
        ({"reference": "two:1", "platform": "linux/arm64"}, "two:1 linux arm64 v8"),
        ({"platform": "linux/arm64/v8"}, "two:1 linux arm64 v8"),
        ({"platform": "linux/arm/v7"}, "arm:1 linux arm v7"),
    ],
)
def test_reference_and_platform_choose(tmp_path: Path, settings: dict[str, str], file: str) -> None:
    """A name and a platform choose among several images; the platform is the machine's unless it is given."""
    assert list(whats(stage(several(tmp_path), **settings))) == [file]


@pytest.mark.parametrize(
    ("settings", "key", "words", "allowed"),
    [
        ({}, "reference", "holds 2 images that fit", "one:1, two:1"),
        ({"platform": "linux/arm"}, "platform", "holds 2 images that fit", "linux/arm/v6, linux/arm/v7"),
        ({"reference": "three:1"}, "reference", "holds no image 'three:1'", "one:1, sha256:"),
        ({"reference": "arm:1"}, "platform", "has no image for linux/amd64", "linux/arm/v6, linux/arm/v7"),
        ({"platform": "linux/arm64/v9"}, "platform", "has no image for linux/arm64/v9", "linux/amd64, linux/arm/v6"),
        ({"platform": "amd64"}, "platform", "'amd64' is not a platform", "linux/amd64"),
    ],
)
def test_an_ambiguity_lists_what_there_is(
    tmp_path: Path, settings: dict[str, str], key: str, words: str, allowed: str
) -> None:
    """Where none or several images fit, the error names the key to set and the values that it can have."""
    error = refused(several(tmp_path), **settings)
    assert error.key == f"root.source.{key}"
    assert words in error.what
    assert error.allowed.startswith(allowed)


def test_images_without_names_are_asked_for_by_digest(tmp_path: Path) -> None:
    """Where names do not tell images apart, their manifests' digests do, and the error lists them."""
    blobs = Blobs()
    first, second = blobs.image([BASE]), blobs.image([UPPER])
    blobs.index(first, second, first)
    path = blobs.to_archive(tmp_path / "image.tar")
    assert refused(path).allowed == ", ".join(sorted([first["digest"], second["digest"]]))
    assert "opt/gone" in whats(stage(path, reference=first["digest"]))


def test_saved_images_are_chosen_by_tag(tmp_path: Path) -> None:
    """Of several saved images a tag chooses, with or without what stands before its last part; shared layers work."""
    path = tmp_path / "image.tar"
    path.write_bytes(layer(*made.saved(("registry.example/a/base:1", [BASE]), ("system:1", [BASE, UPPER]))))
    assert refused(path).allowed == "registry.example/a/base:1, system:1"
    assert whats(stage(path, reference="system:1")) == MERGED
    assert "opt/gone" in whats(stage(path, reference="base:1"))


def test_a_newer_save_is_found_by_its_whole_name(tmp_path: Path) -> None:
    """The name that newer Dockers note can be given in full, or as people type it."""
    path = newer_docker_save(tmp_path)
    trees = [stage(path, reference=name) for name in ("registry.example/library/system:1", "system:1")]
    assert trees[0] == trees[1]


def test_the_same_layers_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layers in another form come from the cache; others do not."""
    first = stage(layout_folder(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(oci, "apply_layers", None)
        for form in (docker_save, nested_index, gzip_layers):
            assert stage(form(tmp_path)) == first
    assert merged(tmp_path, BASE).identity != first.identity


def test_a_missing_decompressor_is_the_hosts_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zstd the error names the package to install."""
    path = zstd_layers(tmp_path)
    monkeypatch.setattr("vmharness.host.proc.find", lambda _program: None)
    with pytest.raises(HostError, match="'zstd' is not installed"):
        stage(path)


def test_a_full_disk_is_said_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space in the cache for a packed archive's plain bytes is a host's error, and not the image's fault."""

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs, "_unpack", full)
    with pytest.raises(HostError, match=r"(?s)No space left on device.*XDG_CACHE_HOME"):
        stage(packed_archive(tmp_path))


@pytest.mark.usefixtures("nothing_left_behind")
def test_nothing_runs_on_after_a_refusal(tmp_path: Path) -> None:
    """When a layer is refused at its first member, its decompressor, its thread and its pipe are gone."""
    bulk = hashlib.shake_256(b"bulk").digest(8 << 20)
    bad = layer(member("../x"), *(member(f"bulk{number}", data=bulk) for number in range(2)))
    for packing in PACKERS:
        refused(made.layout(tmp_path / f"image{packing}", BASE, bad, packing=packing))
