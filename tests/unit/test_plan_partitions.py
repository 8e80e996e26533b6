"""``[[partition]]`` tables: every key, and every refusal."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from vmharness.errors import SpecError
from vmharness.model.declared import DeclaredContent, DeclaredPartition, Minimize, StorePrefix
from vmharness.model.image import ImageSpec, PartitionTable
from vmharness.model.partition_types import TYPES
from vmharness.model.sizes import GIB, MIB
from vmharness.model.sources import DirectorySource, MinimalSource
from vmharness.plan.load import load

ORIGIN = Path("/definitions/image.toml")
IMAGE = '[image]\nname = "x"\n'
GUID = "f222513b-ded1-49fa-b591-20ce86a2fe7f"


def loaded(text: str) -> ImageSpec:
    return load(text, ORIGIN)


def part(*lines: str) -> str:
    return "\n".join(["[[partition]]", *lines, ""])


ESP = part('type = "esp"', 'filesystem = "vfat"')
ROOT = part('type = "root"', "source = { minimal = true }")


def test_every_key() -> None:
    """Every key arrives, and relative paths are those beside the definition."""
    spec = loaded(f"""{IMAGE}
        partition-table = "declared"
        size = "4G"
        [identifiers]
        disk-guid = "{GUID}"
        [[partition]]
        type = "{TYPES["esp"]}"
        label = "boot"
        uuid = "{GUID}"
        filesystem = "vfat"
        filesystem-label = "BOOT"
        volume-id = "1234-abcd"
        size-min = "64M"
        size-max = "1G"
        weight = 5
        padding-min = "1M"
        padding-max = "2M"
        padding-weight = 3
        priority = 1
        minimize = "guess"
        contents = [
            {{ tree = "root", source = "/vmlinuz", target = "/linux" }},
            {{ source = "a", target = "/b", mode = "0600", user = 3, group = 4 }},
        ]
        directories = ["/EFI"]
        flags = 1
        [[partition]]
        type = "root"
        source = {{ directory = "tree" }}
        store-paths = ["/nix/store/a"]
        nix-store = "store"
        nix-store-prefix = "strip"
        filesystem-uuid = "{GUID}"
        minimize = true
        grow-file-system = false
        read-only = true
        no-auto = true
        [[partition]]
        type = "linux-generic"
        copy-blocks = "data.raw"
    """)
    folder = ORIGIN.parent
    guid = UUID(GUID)
    assert (spec.partition_table, spec.size, spec.identifiers.disk_guid) == (PartitionTable.DECLARED, 4 * GIB, guid)
    assert (spec.has_esp, spec.needs_machine, spec.efi.touch_variables) == (True, False, False)
    assert spec.partitions == (
        DeclaredPartition(
            type=TYPES["esp"],
            label="boot",
            uuid=guid,
            filesystem="vfat",
            filesystem_label="BOOT",
            volume_id=0x1234ABCD,
            size_min=64 * MIB,
            size_max=GIB,
            weight=5,
            padding_min=MIB,
            padding_max=2 * MIB,
            padding_weight=3,
            priority=1,
            minimize=Minimize.GUESS,
            contents=(
                DeclaredContent(tree="root", source="/vmlinuz", target="/linux"),
                DeclaredContent(source=str(folder / "a"), target="/b", mode=0o600, user="3", group="4"),
            ),
            directories=("/EFI",),
            flags=1,
        ),
        DeclaredPartition(
            type=TYPES["root-x86-64"],
            filesystem="ext4",
            source=DirectorySource(path=folder / "tree"),
            store_paths=(Path("/nix/store/a"),),
            nix_store=folder / "store",
            nix_store_prefix=StorePrefix.STRIP,
            filesystem_uuid=guid,
            minimize=Minimize.BEST,
            grow_file_system=False,
            read_only=True,
            no_auto=True,
        ),
        DeclaredPartition(type=TYPES["linux-generic"], copy_blocks=folder / "data.raw"),
    )


def test_the_least() -> None:
    """A type is enough; files imply a filesystem."""
    empty, root = loaded(IMAGE + part('type = "home"') + ROOT).partitions
    assert empty == DeclaredPartition(type=TYPES["home"])
    assert root == DeclaredPartition(type=TYPES["root-x86-64"], source=MinimalSource(), filesystem="ext4")
    assert not loaded(IMAGE + ROOT).has_esp


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        (f"{IMAGE}{ROOT}[root]\nsource = {{ minimal = true }}", "root", "declares all partitions; give its source"),
        (f'{IMAGE}{ROOT}[[contents]]\nsource="a"\ntarget="/a"', "contents", "declares all partitions; give its cont"),
        (f'{IMAGE}partition-table = "efi"\n{ROOT}', "image.partition-table", "leave this key out"),
        (f'{IMAGE}boot-size = "64M"\n{ROOT}', "image.boot-size", "leave this key out"),
        (f'{IMAGE}additional-space = "64M"\n{ROOT}', "image.additional-space", "leave this key out"),
        (f'{IMAGE}partition-table = "declared"\n[root]\nsource = {{ minimal = true }}', "partition", "no partition is"),
        (f'{IMAGE}{ROOT}[bootloader]\ninstall = "grub"', "bootloader.install", "made without a machine"),
        (f"{IMAGE}{ESP}[efi]\ntouch-variables = true", "efi.touch-variables", "nothing writes EFI variables"),
        (f'{IMAGE}{ROOT}[identifiers]\nroot-partition-guid = "{GUID}"', "identifiers", "are given in [[partition]]"),
        (IMAGE + part('type = "rot"'), "partition[0].type", "'rot' is no partition type; did you mean 'root'?"),
        (IMAGE + part('label = "x"'), "partition[0].type", "the key 'type' is missing"),
        (IMAGE + part('type = "esp"', "copies = []"), "partition[0].copies", "unknown key 'copies'"),
        (IMAGE + part('type = "esp"', 'size-mim = "1M"'), "partition[0].size-mim", "did you mean 'size-min'?"),
        (IMAGE + part('type = "esp"', 'minimize = "most"'), "partition[0].minimize", "'most' is not known"),
        (IMAGE + part('type = "esp"', "weight = -1"), "partition[0].weight", "-1 is not a weight"),
        (IMAGE + part('type = "esp"', "priority = true"), "partition[0].priority", "True is not a priority"),
        (IMAGE + part('type = "esp"', "flags = 8"), "partition[0].flags", "8 is not a set of flags"),
        (IMAGE + part('type = "esp"', 'uuid = "1"'), "partition[0].uuid", "'1' is not a UUID"),
        (IMAGE + part('type = "esp"', f'label = "{"x" * 37}"'), "partition[0].label", "is too long for a GPT"),
        (IMAGE + part('type = "esp"', "label = 'a\"b'"), "partition[0].label", "quotation mark"),
        (IMAGE + part('type = "esp"', 'filesystem-label = "x"'), "partition[0].filesystem-label", "no filesystem"),
        (
            IMAGE + part('type = "esp"', 'filesystem = "vfat"', 'filesystem-label = "TWELVE LETTE"'),
            "partition[0].filesystem-label",
            "a label of vfat has at most 11 bytes",
        ),
        (
            IMAGE + part('type = "esp"', 'filesystem = "vfat"', 'filesystem-label = "small"'),
            "partition[0].filesystem-label",
            "'small' is not a label of a FAT",
        ),
        (IMAGE + part('type = "home"', 'filesystem = "zfs"'), "partition[0].filesystem", "'zfs' is not supported"),
        (
            IMAGE + part('type = "swap"', 'filesystem = "swap"', 'directories = ["/a"]'),
            "partition[0].filesystem",
            "files need a filesystem",
        ),
        (
            IMAGE + part('type = "home"', 'copy-blocks = "a"', 'filesystem = "ext4"'),
            "partition[0].copy-blocks",
            "either copied blocks or a filesystem",
        ),
        (IMAGE + part('type = "home"', 'volume-id = "12345678"'), "partition[0].volume-id", "only a FAT has one"),
        (
            IMAGE + part('type = "esp"', 'filesystem = "vfat"', f'filesystem-uuid = "{GUID}"'),
            "partition[0].filesystem-uuid",
            "no filesystem with a UUID",
        ),
        (IMAGE + part('type = "esp"', "grow-file-system = true"), "partition[0].grow-file-system", "means nothing"),
        (IMAGE + part('type = "home"', 'size-min = "2M"', 'size-max = "1M"'), "partition[0].size-min", "more than"),
        (IMAGE + part('type = "home"', 'size-max = "0"'), "partition[0].size-max", "at least 1 MiB"),
        (
            IMAGE + part('type = "home"', 'padding-min = "2M"', 'padding-max = "1M"'),
            "partition[0].padding-min",
            "is more than padding-max",
        ),
        (IMAGE + part('type = "home"', 'directories = ["a"]'), "partition[0].directories", "not an absolute path"),
        (IMAGE + part('type = "home"', 'directories = ["/a/.."]'), "partition[0].directories", "without '..'"),
        (
            IMAGE + part('type = "home"', 'contents = [{ source = "a", target = "b" }]'),
            "partition[0].contents[0].target",
            "'b' is not an absolute path in the partition",
        ),
        (
            IMAGE + part('type = "home"', 'contents = [{ source = "a", target = "/b", user = "u" }]'),
            "partition[0].contents[0]",
            "user and group go together",
        ),
        (
            IMAGE + ROOT + part('type = "esp"', 'contents = [{ tree = "rot", source = "/a", target = "/b" }]'),
            "partition[1].contents[0].tree",
            "no partition 'rot' has a source",
        ),
        (
            IMAGE + part('type = "esp"', f'uuid = "{GUID}"') + part('type = "home"', f'uuid = "{GUID}"'),
            "partition[1].uuid",
            "partition[0] has the same UUID",
        ),
        (IMAGE + part('type = "tmp"') * 129, "partition", "a table has at most 128 partitions"),
        (f"partition = 3\n{IMAGE}", "partition", "3 is not a list of tables"),
    ],
)
def test_refusals(text: str, key: str, what: str) -> None:
    """Everything that cannot be is refused in one sentence, before anything is touched."""
    with pytest.raises(SpecError) as refusal:
        loaded(text)
    assert refusal.value.key == key
    assert what in str(refusal.value)
