"""The manifest as a value and as text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from vmharness.model.image import Format
from vmharness.model.manifest import (
    FirmwareIdentity,
    Manifest,
    OutputFile,
    SourceFile,
    StepTime,
    from_json,
    to_json,
)
from vmharness.model.partitions import (
    Btrfs,
    Erofs,
    Ext4,
    F2fs,
    Fat,
    Layout,
    Partition,
    Scheme,
    Squashfs,
    Subvolume,
    Xfs,
)
from vmharness.model.variable_records import VariableRecord

GUID = UUID(int=5)
FILE = SourceFile(path=Path("/f w/x.fd"), sha256="00")
FAT = Fat(label="ESP", volume_id=3)
EXT4 = Ext4(label="root", uuid=GUID, hash_seed=GUID, size=1, inodes=2)
FILESYSTEMS = (
    Xfs(label="x", uuid=GUID, options=("-i", "size=1024")),
    Btrfs(label="b", uuid=GUID, compression="zstd", subvolumes=(Subvolume(name="@", path="/"),)),
    F2fs(label="f", uuid=GUID),
    Erofs(label="e", uuid=GUID, compression="lz4"),
    Squashfs(compression="zstd"),
)
MBR = Layout(
    scheme=Scheme.MBR,
    identifier=0x1234ABCD,
    size=1,
    partitions=(Partition(number=1, role="root", type=0x83, start=1, sectors=2, active=True, filesystem=EXT4),),
)
BARE = Layout(scheme=Scheme.NONE, size=1, partitions=(Partition(number=0, role="root", start=0, sectors=2),))
MANIFEST = Manifest(
    vmharness="0.1",
    name="debian",
    inputs="0" * 32,
    definition=FILE,
    seed="debian",
    format=Format.QCOW2,
    files=(OutputFile(role="image", name="debian.qcow2", size=1, sha256="aa"),),
    table=Layout(
        scheme=Scheme.GPT,
        identifier=GUID,
        size=1,
        partitions=(
            Partition(number=1, role="esp", name="ESP", type=GUID, guid=GUID, start=1, sectors=2, filesystem=FAT),
            Partition(number=2, role="root", name="root", type=GUID, guid=GUID, start=3, sectors=2, filesystem=EXT4),
            Partition(number=3, role="bios", name="BIOS boot", type=GUID, guid=GUID, start=5, sectors=2),
        ),
    ),
    variables=(
        VariableRecord(name="Boot0001", guid=str(GUID), attributes=["runtime"], kind="bytes", size=1, value="é\x1b"),
        VariableRecord(name="BootOrder", guid=str(GUID), attributes=[], kind="order", size=2, value=["Boot0001"]),
    ),
    firmware=FirmwareIdentity(description="UEFI", code=FILE, template=FILE),
    bootloader="systemd-boot",
    kernel="6.1",
    accelerator="tcg",
    tools={"sfdisk": "2.38", "mke2fs": "1.47"},
    steps=(StepTime(step="create", seconds=1.5),),
)


@pytest.mark.parametrize(
    "manifest",
    [
        MANIFEST,
        evolve(MANIFEST, variables=None),
        evolve(MANIFEST, table=MBR, variables=None, firmware=None),
        evolve(MANIFEST, table=BARE, variables=None, firmware=None),
        *(evolve(MANIFEST, table=MBR.with_filesystem("root", filesystem)) for filesystem in FILESYSTEMS),
    ],
)
def test_text_and_value_are_the_same(manifest: Manifest) -> None:
    """What is written is read back equal, with and without variables, for every kind of table."""
    assert from_json(to_json(manifest)) == manifest


def test_text_is_stable() -> None:
    """Keys come in the order of the fields, tools by name, whatever the order they were gathered in."""
    text = to_json(MANIFEST)
    turned = evolve(MANIFEST, tools=dict(reversed(MANIFEST.tools.items())))
    assert to_json(turned) == text
    keys = list(json.loads(text))
    assert keys[:5] == ["schema", "vmharness", "name", "inputs", "definition"]
    assert list(json.loads(text)["tools"]) == ["mke2fs", "sfdisk"]


def test_text_is_plain() -> None:
    """What a guest wrote cannot send control sequences to a terminal through the file."""
    text = to_json(MANIFEST)
    assert text.isascii()
    assert "\x1b" not in text
    assert text.endswith("}\n")


def test_files_are_found_by_role() -> None:
    """A published file is found by what it is for."""
    found = MANIFEST.file("image")
    assert found is not None
    assert found.name == "debian.qcow2"
    assert MANIFEST.file("efi-variables") is None


def _newer(data: dict[str, Any]) -> None:
    data["schema"] = 99


def _half(data: dict[str, Any]) -> None:
    del data["name"]


def _unknown(data: dict[str, Any]) -> None:
    data["extra"] = 1


def _not_a_guid(data: dict[str, Any]) -> None:
    data["table"]["partitions"][1]["filesystem"]["uuid"] = "zz"


def _not_a_list(data: dict[str, Any]) -> None:
    data["files"] = None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_newer, "has the format 99"),
        (_half, r"required field missing @ \$.name"),
        (_unknown, "extra fields found"),
        (_not_a_guid, "badly formed|invalid"),
        (_not_a_list, r"\$.files"),
    ],
)
def test_damaged_manifest_is_refused(damage: Callable[[dict[str, Any]], None], message: str) -> None:
    """What is missing, unknown or of the wrong kind is named with its place."""
    data = json.loads(to_json(MANIFEST))
    damage(data)
    with pytest.raises(ValueError, match=message):
        from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"schema"'])
def test_text_that_is_no_manifest_is_refused(text: str) -> None:
    """Half a file, or another JSON document, is refused with a sentence."""
    with pytest.raises(ValueError, match="it is not"):
        from_json(text)
