"""The example of declared partitions: built without a machine, and booted."""

from __future__ import annotations

from pathlib import Path

import trees
from running import Workplace

from vmharness.disk import esp

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/appliance.toml"


def test_the_appliance_example_boots(place: Workplace) -> None:
    """It is built without starting QEMU, boots to a login with a blank variable store, and has no package manager."""
    output = place.folder / "out"
    built = place.run("build", EXAMPLE, "-o", output, "--rebuild", "--json")
    assert built.status == 0, built.stdout + built.stderr
    assert not [event for event in built.events() if "appliance" in str(event.get("step", ""))]
    assert {path.name for path in output.iterdir()} == {"appliance.img", "manifest.json"}
    table = trees.read_manifest(output).table
    assert [part.role for part in table.partitions] == ["esp", "root", "var"]
    disk = trees.raw_disk(output, place.folder)
    assert "/EFI/BOOT/BOOTX64.EFI" in esp.list_files(disk, table.by_role("esp").offset)
    found = trees.root_of(output, disk).tree()
    assert found[b"etc/motd"].uid == 0
    managers = {b"dpkg", b"apt", b"apt-get", b"rpm", b"dnf"}
    owned = {name for name, entry in found.items() if name.rpartition(b"/")[2] in managers and entry.mode >> 12 == 8}
    assert owned == set()
    booted = place.run("boot", output, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout + booted.stderr
    transcript = Path(booted.json()["transcript"]).read_bytes()
    assert b"vmharness minimal: up" in transcript
    assert b"root=PARTUUID=5c9e64c6-4a2b-4d0e-9a36-0d6ff29b5b2e" in transcript
