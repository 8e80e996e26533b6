"""The host's disk is full: real filesystems without room, in a mount namespace of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import trees
from attrs import evolve
from running import PROGRAM, Done, Workplace

# As an ordinary user the namespace needs a user namespace, in which mounting is allowed.
_NAMESPACE = (
    "unshare",
    "--mount",
    "--fork",
    "--kill-child",
    *(() if os.getuid() == 0 else ("--user", "--map-root-user")),
)
_SCRIPT = """
size=$1 folder=$2
shift 2
mkdir -p "$folder"
mount -t tmpfs -o "size=$size" tmpfs "$folder"
status=0
"$@" || status=$?
ls -A "$folder" >"$folder.left"
exit "$status"
"""


def with_room(place: Workplace, folder: Path, size: str) -> Workplace:
    """The same workplace, where ``folder`` is a filesystem of ``size``; what is in it at the end is lost."""
    return evolve(place, command=(*_NAMESPACE, "sh", "-euc", _SCRIPT, "room", size, str(folder), *PROGRAM))


def left(folder: Path) -> list[str]:
    """What was in such a filesystem at the end."""
    return Path(f"{folder}.left").read_text().splitlines()


def build(place: Workplace, definition: str) -> Done:
    """Build with ``--json`` into the folder ``out/image``."""
    path = place.define(definition)
    return place.run("build", path, "-o", place.folder / "out" / "image", "--rebuild", "--json")


def test_too_little_room_for_the_disk(place: Workplace) -> None:
    """Run directories on a filesystem that the disk does not fit: how much is needed, before anything is made."""
    done = build(with_room(place, place.runs, "40M"), trees.MINIMAL)
    assert done.status == 3
    assert " are needed" in done.error()
    assert "hint: free some space" in done.error()
    assert left(place.runs) == []


def test_no_room_for_checkpoints(place: Workplace) -> None:
    """Where the machine's memory has no room beside the disk, the build goes on without checkpoints and says so."""
    done = build(with_room(place, place.runs, "400M"), trees.MINIMAL + trees.SYSTEMD_BOOT)
    assert done.status == 0, done.stdout
    assert any("no checkpoints are taken: " in event.get("text", "") for event in done.events())
    assert (place.folder / "out" / "image" / "manifest.json").is_file()


def test_room_that_ends_while_the_guest_writes(place: Workplace) -> None:
    """The disk's filesystem is full in the middle of a step: said at once, instead of a guest that stands still."""
    fill = trees.shell(
        "for n in 0 1 2 3 4 5 6 7 8 9; do cat /boot/vmlinuz* /boot/initrd*; done >/filler && sync && echo it all fit"
    )
    definition = trees.MINIMAL.replace('"8M"', '"400M"') + fill
    done = build(with_room(place, place.runs, "180M"), definition)
    assert done.status == 1
    assert "step 'run the bootloader command'" in done.error()
    assert "the host cannot write its disk 'target': No space left on device" in done.error()
    assert done.failed_after() < 60
    assert place.guests() == []


def test_too_little_room_for_the_output(place: Workplace) -> None:
    """The output's filesystem is full: the build ends with that, and nothing of a half output is left there."""
    out = place.folder / "out"
    done = build(with_room(place, out, "20M"), trees.MINIMAL)
    assert done.status == 3
    assert "No space left on device" in done.error()
    assert left(out) == []


def test_too_little_room_in_the_cache(place: Workplace, tmp_path: Path) -> None:
    """An archive that does not fit the cache's filesystem: the cache is named, and no half tree is left in it."""
    archive = tmp_path / "tree.tar"
    trees.write_archive(archive, {"filler": b"x" * (30 << 20)})
    cached = evolve(place, environment={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    done = build(
        with_room(cached, tmp_path / "cache", "20M"), trees.MINIMAL.replace("minimal = true", f'tar = "{archive}"')
    )
    assert done.status == 3
    assert "No space left on device" in done.error()
