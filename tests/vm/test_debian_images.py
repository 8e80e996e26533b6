"""Real Debian trees with their own bootloaders' installers, from the host's apt configuration to the login prompt."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import trees
from attrs import frozen
from running import Workplace

from vmharness.disk import esp
from vmharness.model.manifest import Manifest
from vmharness.model.partitions import Ext4

# The cloud kernel and few packages: what is tested is the way from tree to login, not Debian's size.
COMMON = '"linux-image-cloud-amd64", "systemd-sysv", "systemd-boot"'
DEFINITION = """
[image]
name = "{name}"
additional-space = "64M"
boot-size = "128M"

[root]
source = {{ debian = "{suite}", include = [{include}] }}

[[contents]]
source = "id"
target = "/etc/machine-id"

[[contents]]
source = "key"
target = "/etc/ssh/ssh_host_ed25519_key"
mode = "0600"

[bootloader]
install = "{install}"
kernel-parameters = ["console=ttyS0", "vmharness.words=one;$two&three", "systemd.mask=apt-daily.timer"]
"""


@frozen(kw_only=True)
class Case:
    """One image: its suite and bootloader, and where its boot entry points."""

    suite: str
    install: str
    include: str
    description: str
    loader: str

    @property
    def name(self) -> str:
        """The image's name."""
        return f"{self.suite}-{self.install}"


GRUB = ', "grub-efi-amd64-bin", "grub2-common"'
SYSTEMD_BOOT = "\\EFI\\systemd\\systemd-bootx64.efi"
CASES = [
    Case(
        suite="bookworm",
        install="grub",
        include=COMMON + GRUB,
        description="bookworm-grub",
        loader="\\EFI\\bookworm-grub\\grubx64.efi",
    ),
    Case(
        suite="trixie",
        install="systemd-boot",
        include=COMMON,
        description="Linux Boot Manager",
        loader=SYSTEMD_BOOT,
    ),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Each of the images in turn."""
    chosen: Case = request.param
    return chosen


@pytest.fixture(scope="module")
def built(case: Case, shop: Workplace) -> Path:
    """Its output folder."""
    (shop.folder / "id").write_text("0123456789abcdef0123456789abcdef\n")
    (shop.folder / "key").write_text("the same secret for everybody\n")
    definition = DEFINITION.format(name=case.name, suite=case.suite, include=case.include, install=case.install)
    return shop.build(definition, output=case.name)


@pytest.fixture(scope="module")
def manifest(built: Path) -> Manifest:
    """Its manifest."""
    return trees.read_manifest(built)


def test_boot_entry_is_the_installers(case: Case, built: Path, manifest: Manifest, shop: Workplace) -> None:
    """``inspect --json`` shows the entry that the target's own installer wrote, first in BootOrder."""
    inspected: dict[str, Any] = shop.run("inspect", built, "--json").json()
    variables = {variable["name"]: variable["value"] for variable in inspected["variables"]}
    entry = variables[variables["BootOrder"][0]]
    part = manifest.table.by_role("esp")
    assert entry["description"] == case.description
    assert entry["path"] == f"HD(1,GPT,{part.guid},{part.start:#x},{part.sectors:#x})/File({case.loader})"
    assert "LoaderSystemToken" not in variables


def test_it_boots_to_login_with_its_parameters(case: Case, built: Path, manifest: Manifest, place: Workplace) -> None:
    """The pair boots to login; the kernel says that it got the right root and the user's own parameters."""
    before = trees.digests(built)
    booted = place.run("boot", built, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout
    report = booted.json()
    assert list(report["milestones"].values()) == sorted(report["milestones"].values())
    assert report["milestones"]["kernel"] < report["milestones"]["init"] < report["milestones"]["login"]
    console = Path(report["transcript"]).read_bytes().decode("utf-8", "replace")
    (line, *_) = [line for line in console.splitlines() if "Command line: " in line]
    root = manifest.table.by_role("root")
    assert isinstance(root.filesystem, Ext4)
    wanted = f"root=UUID={root.filesystem.uuid}" if case.install == "grub" else f"root=PARTUUID={root.guid}"
    assert f"{wanted} " in line
    assert "console=ttyS0 vmharness.words=one;$two&three systemd.mask=apt-daily.timer" in line
    assert trees.digests(built) == before


def test_nothing_is_left_that_machines_must_not_share(built: Path, tmp_path: Path) -> None:
    """A machine id and an SSH host key that the tree held are gone, and the installer's random seed is."""
    disk = trees.raw_disk(built, tmp_path)
    root = trees.root_of(built, disk)
    machine_id = trees.file_at(root, b"etc/machine-id")
    assert machine_id is not None
    assert (stat.S_IMODE(machine_id.mode), machine_id.size) == (0o444, 0)
    assert trees.file_at(root, b"etc/ssh") is not None
    assert trees.file_at(root, b"etc/ssh/ssh_host_ed25519_key") is None
    assert trees.file_at(root, b"var/lib/systemd/random-seed") is None
    assert "/loader/random-seed" not in esp.list_files(disk, trees.esp_of(built))
