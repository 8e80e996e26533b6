"""Definitions of images of Nix closures: what arrives, the defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmharness.errors import SpecError
from vmharness.model.image import ImageSpec, Installer, NixSpec, PartitionTable
from vmharness.model.sources import NixSource
from vmharness.plan.load import load
from vmharness.plan.steps import esp_mount_point

ORIGIN = Path("/definitions/image.toml")
PATH = "/nix/store/00000000000000000000000000000000-nixos-system"


def definition(rest: str = "", *, image: str = "", root: str = "", source: str = f'{{ nix = "{PATH}" }}') -> ImageSpec:
    """A definition with this root source and these further lines."""
    text = f'[image]\nname = "x"\n{image}\n[root]\nsource = {source}\n{root}\n{rest}'
    return load(text, ORIGIN)


def test_everything_of_nix() -> None:
    """The source takes a store's root, and the section everything else; relative paths are beside the definition."""
    spec = definition(
        f'[bootloader]\ninstall = "nixos"\n[nix]\nadditional-paths = ["{PATH}", "result-2"]\n'
        'channel = "nixpkgs"\nconfiguration = "configuration.nix"',
        source='{ nix = "result", store = "root/" }',
    )
    assert spec.root.source == NixSource(path=Path("/definitions/result"), store=Path("/definitions/root"))
    assert spec.bootloader.install == Installer(name="nixos")
    assert spec.nix == NixSpec(
        additional_paths=(Path(PATH), Path("/definitions/result-2")),
        channel=Path("/definitions/nixpkgs"),
        configuration=Path("/definitions/configuration.nix"),
    )


def test_labels_are_those_of_nixos_images() -> None:
    """NixOS' own configurations look for these; another one can be given, and other sources keep theirs."""
    assert definition().root.label == "nixos"
    assert definition("[nix]\nstore-only = true").root.label == "nix-store"
    assert definition(root='label = "mine"').root.label == "mine"
    assert definition(source="{ minimal = true }").root.label == "root"


def test_a_store_alone_has_no_table_and_no_variables() -> None:
    """``store-only`` is enough: a bare filesystem, for which no machine is needed."""
    spec = definition("[nix]\nstore-only = true")
    assert spec.partition_table is PartitionTable.NONE
    assert not spec.efi.touch_variables
    assert not spec.needs_machine
    assert definition().needs_machine


def test_nixos_has_its_esp_where_it_looks_for_it() -> None:
    """At /boot, unless the kernels have a partition of their own there."""
    install = '[bootloader]\ninstall = "nixos"'
    assert esp_mount_point(definition(install)) == "/boot"
    assert esp_mount_point(definition(install, image='partition-table = "efixbootldr"')) == "/efi"


STORE_ONLY = "[nix]\nstore-only = true\n"


@pytest.mark.parametrize(
    ("rest", "image", "root", "key", "says"),
    [
        (f'{STORE_ONLY}[[contents]]\nsource = "a"\ntarget = "/a"', "", "", "contents", "remove [[contents]]"),
        (f'{STORE_ONLY}configuration = "c.nix"', "", "", "nix.configuration", "remove it"),
        (f'{STORE_ONLY}channel = "c"', "", "", "nix.channel", "add its store path to nix.additional-paths"),
        (f'{STORE_ONLY}[bootloader]\ninstall = "nixos"', "", "", "bootloader.install", "set it to 'none'"),
        (STORE_ONLY, 'partition-table = "efi"', "", "image.partition-table", "set it to 'none'"),
        (STORE_ONLY, "", 'machine-id = "remove"', "root.machine-id", "remove it"),
        (f"{STORE_ONLY}[efi]\ntouch-variables = true", "", "", "efi.touch-variables", "set it to false"),
        ('[bootloader]\ninstall = "nixos"\ntitle = "x"', "", "", "bootloader.title", "own configuration decides"),
        (
            '[bootloader]\ninstall = "nixos"\nkernel-parameters = ["quiet"]',
            "",
            "",
            "bootloader.kernel-parameters",
            "boot.kernelParams",
        ),
        ('[nix]\nadditional-paths = "x"', "", "", "nix.additional-paths", "is not a list of texts"),
        ("[nix]\nstore_only = true", "", "", "nix.store_only", "did you mean 'store-only'?"),
    ],
)
def test_what_does_not_go_together(rest: str, image: str, root: str, key: str, says: str) -> None:
    """The error names the key, and says what to change."""
    with pytest.raises(SpecError) as refusal:
        definition(rest, image=image, root=root)
    assert refusal.value.key == key
    assert says in str(refusal.value)


def test_the_section_belongs_to_the_source() -> None:
    """Elsewhere it would be without effect."""
    with pytest.raises(SpecError, match="nix: this section belongs to the root source 'nix'"):
        definition(STORE_ONLY, source="{ minimal = true }")
