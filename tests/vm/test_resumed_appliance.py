"""The resumed appliance: the same result as a cold one, and a cold one on any doubt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trees
from running import Done, Workplace

from vmharness.disk import efivars, esp
from vmharness.host import cache
from vmharness.model.variables import EfiVariable

DEFINITION = trees.MINIMAL + trees.SYSTEMD_BOOT


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose cache holds no saved state yet, but the kernel and the packages of the user's."""
    folder = tmp_path_factory.mktemp("resumed")
    packages = cache.root() / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    own = folder / "cache" / "vmharness"
    own.mkdir(parents=True)
    (own / "packages").symlink_to(packages)
    return Workplace(folder=folder, environment={"XDG_CACHE_HOME": str(folder / "cache")})


@pytest.fixture(scope="module")
def cold(bench: Workplace) -> Path:
    """An image built by an appliance that booted."""
    return bench.build(DEFINITION, "--cold", output="cold")


@pytest.fixture(scope="module")
def resumed(bench: Workplace) -> Path:
    """An image built by an appliance that was resumed from a state that an earlier build had saved."""
    bench.build(DEFINITION, output="first")
    return bench.build(DEFINITION, output="resumed")


def variables(output: Path) -> tuple[EfiVariable, ...]:
    """The EFI variables of an output."""
    return efivars.read_store(output / "efi-vars.fd").variables


def notes(done: Done) -> list[str]:
    """What a run with ``--json`` said."""
    return [event["text"] for event in done.events() if event["event"] == "Note"]


def test_same_table_tree_and_variables(cold: Path, resumed: Path, tmp_path: Path) -> None:
    """Cold and resumed give the same table, the same files on ESP and root, and the same EFI variables."""
    assert variables(cold) == variables(resumed)
    assert_same_disks((cold, resumed), tmp_path)


def assert_same_disks(outputs: tuple[Path, Path], folder: Path) -> None:
    """Compare the tables, and every file on ESP and root."""
    one, other = (trees.read_manifest(output) for output in outputs)
    assert one.table == other.table
    looks = []
    for number, output in enumerate(outputs):
        (place := folder / str(number)).mkdir()
        disk = trees.raw_disk(output, place)
        offset = trees.esp_of(output)
        on_esp = {name: esp.read_file(disk, offset, name) for name in esp.list_files(disk, offset)}
        on_root = {
            name: (file.mode, file.uid, file.gid, file.size)
            for name, file in trees.root_of(output, disk).tree().items()
        }
        looks.append((on_esp, on_root))
        disk.unlink()
    assert looks[0] == looks[1]


def test_resumed_variables_are_those_of_this_build(resumed: Path) -> None:
    """What the loader's installer wrote after the resume is in the published store, the same as in a cold build."""
    store = efivars.read_store(resumed / "efi-vars.fd")
    assert any(store.load_option(number) for number in store.boot_order())


def test_damaged_state_boots_cold_and_says_so(bench: Workplace, resumed: Path, cold: Path) -> None:
    """A state that QEMU refuses is discarded: the build boots cold, says why, and has the same variables."""
    (devices,) = (bench.folder / "cache/vmharness/state").glob("*/devices")
    content = bytearray(devices.read_bytes())
    content[:4096] = bytes(4096)
    devices.write_bytes(content)
    built = bench.run("build", bench.define(DEFINITION), "-o", bench.folder / "damaged", "--rebuild", "--json")
    assert built.status == 0, built.stderr
    assert any("boots cold" in note for note in notes(built)), notes(built)
    assert not devices.exists()
    assert variables(bench.folder / "damaged") == variables(cold)


def test_up_to_date_build_does_nothing(bench: Workplace, resumed: Path) -> None:
    """A second build of the same inputs says so and leaves every file as it is."""
    before = {path.name: path.stat().st_mtime_ns for path in resumed.iterdir()}
    again = bench.run("build", bench.define(DEFINITION), "-o", resumed, "--json")
    assert any("up to date" in note for note in notes(again)), notes(again)
    assert {path.name: path.stat().st_mtime_ns for path in resumed.iterdir()} == before


def test_changed_output_is_made_anew(bench: Workplace, resumed: Path) -> None:
    """An output that somebody wrote to is not up to date, and not taken for a copy either."""
    for output in bench.folder.glob("*/minimal.qcow2"):
        with output.open("ab") as image:
            image.write(b"more")
    again = bench.run("build", bench.define(DEFINITION), "-o", resumed, "--json")
    assert again.status == 0, again.stderr
    assert not any("up to date" in note for note in notes(again))
    assert bench.run("inspect", resumed).status == 0


def test_same_table_and_tree_without_firmware(bench: Workplace, tmp_path: Path) -> None:
    """So it is where no firmware runs: QEMU enters the unpacked kernel, as the plan says with its reason."""
    definition = trees.MINIMAL + trees.SYSTEMD_BOOT + "[efi]\ntouch-variables = false\n"
    planned = json.loads(bench.run("plan", bench.define(definition)).stdout)
    assert planned["start"]["entry"]["taken"] == "PVH, uncompressed"
    assert planned["machine"]["kernel"]["image"].endswith("/vmlinux")
    cold = bench.build(definition, "--cold", output="cold-without")
    resumed = bench.build(definition, "--rebuild", output="resumed-without")
    assert_same_disks((cold, resumed), tmp_path)
