"""From systemd-repart's definition files to an image, and each wrong one to an error that names file, line and key."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from vmharness.errors import SpecError
from vmharness.model.declared import Copy, DeclaredPartition, Minimize
from vmharness.model.image import Format, ImageSpec, PartitionTable
from vmharness.model.partition_types import TYPES
from vmharness.model.sizes import GIB, MIB
from vmharness.model.sources import NoSource
from vmharness.plan.repart import DefinitionFile, load_repart

FOLDER, ROOT = Path("/defs/router.d"), Path("/tree")


def folder(**texts: str | list[str]) -> ImageSpec:
    """The image of a folder with these files; of a list, the later ones are drop-ins."""
    files = {}
    for name, given in texts.items():
        parts = [given] if isinstance(given, str) else given
        paths = [FOLDER / f"{name}.conf", *(FOLDER / f"{name}.conf.d/{n}.conf" for n in range(1, len(parts)))]
        files[f"{name}.conf"] = [DefinitionFile(path=p, text=text) for p, text in zip(paths, parts, strict=True)]
    return load_repart(files, FOLDER, ROOT)


def one(*lines: str) -> DeclaredPartition:
    """The only partition of a folder with one file."""
    (found,) = folder(a="\n".join(["[Partition]", *lines])).partitions
    return found


def test_a_folder_is_an_image() -> None:
    """Partitions have the order of the files' names; the image is named after the folder."""
    image = folder(b="[Partition]\nType=root\n", a="[Partition]\nType=esp\n", c="[Partition]\n")
    assert [part.type for part in image.partitions] == [TYPES[n] for n in ("esp", "root-x86-64", "linux-generic")]
    assert [part.declared_in for part in image.partitions] == ["a.conf", "b.conf", "c.conf"]
    assert (image.name, image.origin, image.size, image.format) == ("router", FOLDER, None, Format.QCOW2)
    assert (image.partition_table, image.root.source) == (PartitionTable.DECLARED, NoSource())
    assert not image.needs_machine
    assert not image.efi.touch_variables


def test_every_key() -> None:
    """Every key that is supported arrives."""
    guid = "0867da16f251457da9e8c31f9a3c220b"
    found = one(
        "# a comment", "; another", "Type = home", "Label=data 100%%", f"UUID={guid}", "Priority=-3", "Weight=333",
        "PaddingWeight=7", "SizeMinBytes=1.5G", "SizeMaxBytes=2G", "PaddingMinBytes=1M", "PaddingMaxBytes=4096K",
        "Format=ext4", "CopyFiles=/usr/share:/share", "CopyFiles=/etc", "MakeDirectories=/a /b\\", "  /c",
        "MakeDirectories=/d", "Minimize=guess", "Flags=0x4", "NoAuto=yes", "ReadOnly=0", "GrowFileSystem=true",
        "FactoryReset=yes", "SplitName=-", "Encrypt=off", "Verity=off",
    )  # fmt: skip
    assert found == DeclaredPartition(
        declared_in="a.conf",
        type=TYPES["home"],
        label="data 100%",
        uuid=UUID(guid),
        priority=-3,
        weight=333,
        padding_weight=7,
        size_min=3 * GIB // 2,
        size_max=2 * GIB,
        padding_min=MIB,
        padding_max=4 * MIB,
        filesystem="ext4",
        copies=(Copy(root=ROOT, source="/usr/share", target="/share"), Copy(root=ROOT, source="/etc", target="/etc")),
        directories=("/a", "/b", "/c", "/d"),
        minimize=Minimize.GUESS,
        flags=4,
        no_auto=True,
        read_only=False,
        grow_file_system=True,
    )


def test_blocks_come_from_the_root() -> None:
    """Paths of a folder are relative to the root that it is given."""
    assert one("CopyBlocks=/images/data.raw").copy_blocks == ROOT / "images/data.raw"


@pytest.mark.parametrize(("kind", "filesystem"), [("esp", "vfat"), ("xbootldr", "vfat"), ("root", "ext4")])
def test_files_imply_a_filesystem(kind: str, filesystem: str) -> None:
    """As systemd-repart has it: FAT for what firmware and loaders read, ext4 for the rest."""
    assert one(f"Type={kind}", "CopyFiles=/x").filesystem == filesystem
    assert one(f"Type={kind}").filesystem == ""


@pytest.mark.parametrize(
    ("word", "meant"),
    [("yes", Minimize.BEST), ("best", Minimize.BEST), ("guess", Minimize.GUESS), ("off", Minimize.OFF),
     ("no", Minimize.OFF)],
)  # fmt: skip
def test_minimize(word: str, meant: Minimize) -> None:
    """A truth value is ``best`` or ``off``."""
    assert one(f"Minimize={word}").minimize is meant


def test_drop_ins_come_later() -> None:
    """What a drop-in says wins; lists grow, and an empty value begins them anew."""
    first = "[Partition]\nType=home\nLabel=a\nWeight=5\nCopyFiles=/a\nFormat=ext4\n"
    image = folder(a=[first, "[Partition]\nLabel=b\nWeight=\nCopyFiles=/b\n", "[Partition]\nLabel=c\n"])
    (part,) = image.partitions
    assert (part.label, part.weight, [copy.source for copy in part.copies]) == ("c", 1000, ["/a", "/b"])
    (part,) = folder(a=[first, "[Partition]\nCopyFiles=\nCopyFiles=/b\n"]).partitions
    assert [copy.source for copy in part.copies] == ["/b"]


@pytest.mark.parametrize(
    ("lines", "place", "what"),
    [
        (["[Partition]", "SizeMinByte=3"], "a.conf:2", "unknown key 'SizeMinByte'; did you mean 'SizeMinBytes'?"),
        (["[Partition]", "", "Encrypt=tpm2"], "a.conf:3", "Encrypt=tpm2: partitions are not encrypted here"),
        (["[Partition]", "Verity=data"], "a.conf:2", "Verity=data: no Verity data are made here"),
        (["[Partition]", "VerityMatchKey=root"], "a.conf:2", "VerityMatchKey=root: no Verity data are made here"),
        (["[Partition]", "ExcludeFiles=/a"], "a.conf:2", "ExcludeFiles=/a: files cannot be left out"),
        (["[Partitions]"], "a.conf:1", "[Partitions] is not a section of these files"),
        (["Type=root"], "a.conf:1", "'Type=root' is no setting of a section"),
        (["[Partition]", "Type"], "a.conf:2", "'Type' is no setting of a section"),
        (["[Partition]", "Label=a\\", "b", "Tipe=c"], "a.conf:4", "unknown key 'Tipe'; did you mean 'Type'?"),
        (["[Partition]", "Type=rooot"], "a.conf: Type", "'rooot' is no partition type; did you mean 'root'?"),
        (["[Partition]", "UUID=null"], "a.conf: UUID", "'null' is not a UUID"),
        (["[Partition]", "UUID=0867da16-f251-457d-a9e8-c31f9a3c220"], "a.conf: UUID", "is not a UUID"),
        (["[Partition]", "SizeMinBytes=lots"], "a.conf: SizeMinBytes", "'lots' is not a size"),
        (["[Partition]", "Weight=1000001"], "a.conf: Weight", "1000001 is not a weight"),
        (["[Partition]", "Weight=much"], "a.conf: Weight", "'much' is not a weight"),
        (["[Partition]", "NoAuto=maybe"], "a.conf: NoAuto", "'maybe' is neither yes nor no"),
        (["[Partition]", "Flags=8"], "a.conf: Flags", "8 is not a set of flags"),
        (["[Partition]", "CopyFiles=a"], "a.conf: CopyFiles", "'a' is not an absolute path"),
        (["[Partition]", "CopyFiles=/a:/b:fsverity=copy"], "a.conf: CopyFiles", "the options 'fsverity=copy' are not"),
        (["[Partition]", "CopyBlocks=auto"], "a.conf: CopyBlocks", "'auto' is not an absolute path"),
        (["[Partition]", "Label=%m"], "a.conf: Label", "'%m' has a specifier"),
        (["[Partition]", "Format=zfs"], "a.conf.filesystem", "'zfs' is not supported in declared partitions"),
        (["[Partition]", "CopyBlocks=/a", "Format=ext4"], "a.conf.copy-blocks", "either copied blocks or a file"),
        (["[Partition]", "Type=esp", "NoAuto=yes"], "a.conf.no-auto", "means nothing for the type 'esp'"),
        (["[Partition]", "SizeMinBytes=2", "SizeMaxBytes=1"], "a.conf.size-min", "is more than size-max"),
    ],
)
def test_wrong_files(lines: list[str], place: str, what: str) -> None:
    """The error names the file, and the line or the key; what is known and not done is refused by its name."""
    with pytest.raises(SpecError) as refusal:
        folder(a="\n".join(lines))
    assert place in str(refusal.value)
    assert what in refusal.value.what
