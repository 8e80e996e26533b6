"""Driven installs: any installer on an empty disk, walked through by a dialogue, and entered where it is stuck."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import installer
import pexpect
import pytest
from running import PROGRAM, Workplace

from vmharness.host import packages
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 120

DEFINITION = r"""
[image]
name = "small"
size = "200M"

[install]
iso = "small.iso"

[[dialogue]]
name = "the disk"
expect = 'Install to which disk\?'
send = "DISK\r"

[[dialogue]]
name = "the name"
expect = 'called\?'
send = "emma\r"
within = 10

[[dialogue]]
expect = 'Installed\.'

[[dialogue]]
end = "power-off"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A folder with the small installer."""
    one = Workplace(folder=tmp_path_factory.mktemp("installs"))
    installer.write(one.folder)
    yield one
    shutil.rmtree(one.folder)


@pytest.fixture(scope="module")
def stuck(shop: Workplace) -> Path:
    """The run directory of an install that got a wrong answer; no test changes it."""
    before = set(shop.run_directories())
    done = shop.run("build", shop.define(DEFINITION.replace("DISK", "vdz")), "-o", shop.folder / "stuck")
    (left,) = set(shop.run_directories()) - before
    assert done.status == 1
    for words in ("step 'the name'", "expected 'called", "There is no disk /dev/vdz.", f"vmharness reproduce {left}"):
        assert words in done.stderr
    assert not (shop.folder / "stuck").exists()
    return left


def test_install(shop: Workplace, vm_factory: MachineFactory) -> None:
    """The installer divides the disk, installs, and switches off; the published image boots with its own store."""
    built = shop.build(DEFINITION.replace("DISK", "vda"), output="installed")
    manifest = json.loads((built / "manifest.json").read_text())
    (esp,) = manifest["table"]["partitions"]
    assert (esp["role"], esp["name"], manifest["table"]["scheme"]) == ("esp", "ESP", "gpt")
    assert [Path(file["path"]).name for file in manifest["media"]] == ["small.iso"]
    assert "the disk" in [step["step"] for step in manifest["steps"]]
    assert shop.run("inspect", built).status == 0
    boots(built, vm_factory)


def test_stuck_install_is_entered(stuck: Path, shop: Workplace, vm_factory: MachineFactory) -> None:
    """A person sees what the installer shows, answers it, and the dialogue goes on to an image that boots."""
    with pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], "reproduce", str(stuck)],
        env={**shop.environment_of_runs(), "TERM": "vt100"},
        cwd=shop.folder,
        timeout=SECONDS,
        dimensions=(33, 111),
        encoding="utf-8",
    ) as terminal:
        terminal.expect_exact("step 2 of 4, 'the name'")
        terminal.expect_exact("There is no disk /dev/vdz.")
        terminal.send("vda\r")
        terminal.expect_exact("What is the system called?")
        terminal.send("\x1d")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("retry")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("continue repaired")
        terminal.expect_exact("repaired by hand")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("quit")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    manifest = json.loads((shop.folder / "repaired/manifest.json").read_text())
    assert manifest["repaired"]
    assert any("Install to which disk? vda" in line for line in manifest["repairs"])
    boots(shop.folder / "repaired", vm_factory)


def test_verbs_without_a_person(stuck: Path, shop: Workplace) -> None:
    """Entries are listed and shown as the definition has them; what needs an agent in the guest is refused."""
    done = shop.run("reproduce", stuck, "--steps", "--show", "2", "--efivars")
    assert done.status == 0, done.stderr
    assert "->  2 the name (expect)" in done.stdout
    assert 'send = "emma\\r"' in done.stdout
    assert "BootOrder" in done.stdout
    done = shop.run("reproduce", stuck, "--run", "ls")
    assert done.status == 5
    assert "has no agent of vmharness" in done.stderr


def test_bundle(stuck: Path, shop: Workplace) -> None:
    """A stuck install is packed and opened elsewhere, with the installer's image and what it had shown."""
    packed = shop.folder / "stuck.vmbundle"
    assert shop.run("bundle", stuck, "-o", packed).status == 0
    done = shop.run("reproduce", packed, "--steps", "--retry")
    assert done.status == 5
    assert "->  2 the name (expect)" in done.stdout
    assert "There is no disk /dev/vdz." in done.stderr
    assert shop.guests() == []


def test_what_is_on_the_display(shop: Workplace) -> None:
    """The graphical screen is read, and keys go to the emulated keyboard; the run stops where it is told to."""
    entry = "[[dialogue]]\ndisplay = 'loading|starting|DVD'\nkeys = ['a']\n"
    looking = DEFINITION.replace("[[dialogue]]", f"{entry}\n[[dialogue]]", 1)
    looking = looking.replace('iso = "small.iso"', 'iso = "small.iso"\ndisplay = true')
    done = shop.run("build", shop.define(looking), "-o", shop.folder / "seen", "--break-before", "the disk")
    assert done.status == 1
    assert "stopped before 'the disk', as it was to" in done.stderr, done.stderr


def test_rewind_and_an_edited_entry(stuck: Path, shop: Workplace) -> None:
    """The dialogue can be done again from its beginning, with another answer, up to the image."""
    answer = 'send = "vda\\r"'
    (shop.folder / "answer.toml").write_text(f"[[dialogue]]\nexpect = 'which disk'\n{answer}\n")
    done = shop.run("reproduce", stuck, "--at", "1", "--script", "answer.toml", "--continue", shop.folder / "again")
    assert done.status == 0, done.stderr
    repairs = json.loads((shop.folder / "again/manifest.json").read_text())["repairs"]
    assert f"    +{answer}" in repairs


def test_installer_that_dies(shop: Workplace) -> None:
    """An installer that switches off too early is no success, and what it said last is told."""
    early = DEFINITION.replace("DISK", "vda").replace("Installed\\.", "the work is done")
    done = shop.fail(early)
    assert "expected 'the work is done', which was not printed: the guest switched the machine off" in done.error()
    assert "Installed." in done.error()


def boots(built: Path, vm_factory: MachineFactory) -> None:
    """Boot the installed system up to its own words."""
    vm = vm_factory(BootState.of(built))
    vm.start()
    vm.expect_boot(f"{installer.MARKER} emma")


SCRIPTED = """
[image]
name = "small"
size = "200M"

[install]
iso = "small.iso"
dialogue = "dialogue.py"
"""

DIALOGUE = r"""
def dialogue(installer):
    installer.expect("which disk.")
    installer.send("vdz\r")
    while installer.expect("There is no disk|called.") == "There is no disk":
        installer.expect("which disk.")
        installer.send("vda\r")
    WAIT
    installer.send("emma\r")
    installer.expect("Installed")
    installer.end("power-off")
"""


def test_python_dialogue(shop: Workplace, vm_factory: MachineFactory) -> None:
    """A Python file sees what the installer says and does what suits; where it is stuck it is entered and goes on."""
    (shop.folder / "dialogue.py").write_text(
        DIALOGUE.replace("WAIT", 'installer.expect("nothing of the kind", within=2)')
    )
    before = set(shop.run_directories())
    done = shop.run("build", shop.define(SCRIPTED), "-o", shop.folder / "scripted")
    (left,) = set(shop.run_directories()) - before
    assert done.status == 1, done.stderr
    assert "step 'line 8: expect nothing of the kind'" in done.stderr
    done = shop.run("reproduce", left, "--steps")
    assert "->  7 line 8: expect nothing of the kind (expect)" in done.stdout
    verbs = subprocess.run(
        [*PROGRAM, "reproduce", str(left)],
        input="skip\ncontinue scripted\n",
        cwd=shop.folder,
        env=shop.environment_of_runs(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert verbs.returncode == 0, verbs.stderr
    manifest = json.loads((shop.folder / "scripted/manifest.json").read_text())
    assert "took 'line 8: expect nothing of the kind' for done" in manifest["repairs"]
    boots(shop.folder / "scripted", vm_factory)


def test_debian_installer(shop: Workplace) -> None:
    """Debian's own text installer is driven through its first dialogs, and entered where it is told to stop."""
    tree = packages.unpack(("debian-installer-12-netboot-amd64",))  # as examples/debian-installer/fetch gets it
    images = tree / "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
    (shop.folder / "debian-installer").mkdir()
    for name in ("linux", "initrd.gz"):
        (shop.folder / "debian-installer" / name).symlink_to(images / name)
    definition = shop.define((CHECKOUT / "examples/driven-install.toml").read_text())
    before = set(shop.run_directories())
    done = shop.run("build", definition, "-o", shop.folder / "debian", within=900)
    (left,) = set(shop.run_directories()) - before
    assert done.status == 1
    assert "stopped before 'keyboard', as it was to" in done.stderr, done.stderr
    with pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], "reproduce", str(left)],
        env={**shop.environment_of_runs(), "TERM": "vt102"},
        cwd=shop.folder,
        timeout=SECONDS,
        dimensions=(33, 111),
        encoding="utf-8",
    ) as terminal:
        terminal.expect_exact("step 3 of 4, 'keyboard'")
        terminal.expect_exact("Configure the keyboard")
        terminal.send("\x1d")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("retry")
        terminal.expect_exact("ok keyboard")
        terminal.sendline("rewind keyboard")
        terminal.expect_exact("->  3 keyboard (screen)")
        terminal.sendline("quit")
        terminal.expect(pexpect.EOF)
        terminal.wait()
