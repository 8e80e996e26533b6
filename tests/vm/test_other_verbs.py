"""The verbs that start no machine: ``plan``, ``inspect`` of a changed output, ``doctor``."""

from __future__ import annotations

import shutil
from pathlib import Path

import trees
from running import Workplace


def test_plan_is_json_and_makes_nothing(place: Workplace) -> None:
    """``plan`` prints what a build would do, every step with its deadline, and publishes nothing."""
    definition = place.define(trees.MINIMAL + trees.SYSTEMD_BOOT)
    done = place.run("plan", definition)
    assert done.status == 0, done.stderr
    plan = done.json()
    assert [part["role"] for part in plan["layout"]["partitions"]] == ["esp", "root"]
    scripts = [step["script"] for step in plan["steps"]]
    assert scripts == ["identify", "format-fat", "mount-target", "install-systemd-boot", "seal", "unmount"]
    assert all(step["deadline"] > 0 for step in plan["steps"])
    assert sorted(path.name for path in place.folder.iterdir()) == ["image.toml", "runs"]
    assert place.run_directories() == []


def test_plan_is_what_the_build_does(place: Workplace, minimal: Path) -> None:
    """The plan of the same definition has the very table that the published image has."""
    plan = place.run("plan", place.define(trees.MINIMAL + trees.SYSTEMD_BOOT)).json()
    table = trees.read_manifest(minimal).table
    assert plan["layout"]["identifier"] == str(table.identifier)
    assert [part["start"] for part in plan["layout"]["partitions"]] == [part.start for part in table.partitions]


def test_inspect_finds_a_changed_file(place: Workplace, minimal: Path) -> None:
    """A published file that was changed later is a finding: named, with status 1."""
    changed = place.folder / "changed"
    shutil.copytree(minimal, changed)
    with (changed / "minimal.qcow2").open("r+b") as image:
        image.seek(1 << 20)
        image.write(b"changed")
    done = place.run("inspect", changed, "--json")
    assert done.status == 1
    assert done.json()["findings"] == ["minimal.qcow2 is not the file that was published: its SHA-256 differs"]


def test_inspect_prints_for_people(place: Workplace, minimal: Path) -> None:
    """Without ``--json`` the same is said in lines: files, partitions, variables, checks."""
    done = place.run("inspect", minimal)
    assert done.status == 0, done.stderr
    assert "Boot0001: Linux Boot Manager: HD(1,GPT," in done.stdout
    assert "every file is as it was published" in done.stdout


def test_doctor(place: Workplace) -> None:
    """``doctor --json`` says that a host that builds images is fit for it, and which accelerator it takes."""
    done = place.run("doctor", "--json")
    assert done.status == 0, done.stdout
    report = done.json()
    assert report["ok"]
    rows = {row["name"]: row for section in report["sections"] for row in section["rows"]}
    assert rows["qemu-system-x86_64"]["ok"]
    assert rows["accelerator"]["detail"].startswith(("KVM: ", "TCG: "))
