"""The embedded minimal tree with systemd-boot: built, looked into, booted, and left as it was."""

from __future__ import annotations

from pathlib import Path

import trees
from running import Workplace

from vmharness.disk import esp
from vmharness.model.milestones import MILESTONES

LOADER = "\\EFI\\systemd\\systemd-bootx64.efi"


def test_outputs_are_image_variables_manifest_and_transcript(minimal: Path) -> None:
    """A build publishes exactly these four files, and the manifest has the digest of each of the others."""
    names = {"minimal.qcow2", "efi-vars.fd", "manifest.json", "transcript.log"}
    assert {path.name for path in minimal.iterdir()} == names
    recorded = {item.name: item.sha256 for item in trees.read_manifest(minimal).files}
    found = trees.digests(minimal)
    assert recorded == {name: found[name] for name in names - {"manifest.json"}}


def test_loader_comes_first_in_the_boot_order(minimal: Path, shop: Workplace) -> None:
    """``inspect --json`` shows the entry that bootctl wrote: first in BootOrder, pointing at the loader on the ESP."""
    inspected = shop.run("inspect", minimal, "--json")
    assert inspected.status == 0, inspected.stderr
    variables = {variable["name"]: variable for variable in inspected.json()["variables"]}
    first = variables["BootOrder"]["value"][0]
    entry = variables[first]["value"]
    part = trees.read_manifest(minimal).table.by_role("esp")
    assert entry["active"]
    assert entry["description"] == "Linux Boot Manager"
    assert entry["path"] == f"HD(1,GPT,{part.guid},{part.start:#x},{part.sectors:#x})/File({LOADER})"
    assert "LoaderSystemToken" not in variables


def test_nothing_is_left_that_machines_must_not_share(minimal: Path, tmp_path: Path) -> None:
    """The ESP holds the loader and an entry, and no random seed; the root filesystem an empty machine id."""
    disk = trees.raw_disk(minimal, tmp_path)
    files = esp.list_files(disk, trees.esp_of(minimal))
    assert LOADER.replace("\\", "/") in files
    assert [name for name in files if name.startswith("/loader/entries/")] != []
    assert "/loader/random-seed" not in files
    root = trees.root_of(minimal, disk)
    machine_id = root.tree()[b"etc/machine-id"]
    assert (machine_id.mode, machine_id.size) == (0o100444, 0)


def test_it_boots_to_login_and_stays_as_it_is(minimal: Path, place: Workplace) -> None:
    """``boot --until login --json`` passes every milestone in order and changes no byte of the output."""
    before = trees.digests(minimal)
    booted = place.run("boot", minimal, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout
    report = booted.json()
    assert (report["outcome"], report["reached"]) == ("reached", True)
    assert list(report["milestones"]) == [milestone.name for milestone in MILESTONES]
    assert list(report["milestones"].values()) == sorted(report["milestones"].values())
    assert b"vmharness minimal: up" in Path(report["transcript"]).read_bytes()
    assert trees.digests(minimal) == before
    assert place.guests() == []
    assert not list(place.runs.rglob("*.qcow2"))


def test_boot_ends_at_the_first_text_that_was_asked_for(minimal: Path, place: Workplace) -> None:
    """``--until`` with a regular expression ends the boot there, and prints the console live on the way."""
    booted = place.run("boot", minimal, "--until", r"Linux version 6\.\d+")
    assert booted.status == 0, booted.stderr
    assert "Linux version 6." in booted.stdout
    assert "login:" not in booted.stdout
    assert "reached Linux version" in booted.stderr
    assert "transcript: " in booted.stderr


def test_boot_that_comes_too_late_has_not_reached(minimal: Path, place: Workplace) -> None:
    """A milestone that does not come within ``--within`` seconds ends the boot with status 1 and what it came to."""
    booted = place.run("boot", minimal, "--until", "login", "--within", "3", "--json")
    report = booted.json()
    assert (booted.status, report["outcome"], report["reached"]) == (1, "stalled", False)
    assert report["text"].startswith("no login within 3 s, after ")
    assert booted.seconds < 10
    assert Path(report["transcript"]).is_file()
    assert place.guests() == []
