"""Boot menus under OVMF: an entry is selected, its command line edited, and the kernel says what it was given."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trees

from vmharness.disk import image
from vmharness.host import accelerator, packages, proc
from vmharness.host.published import read_manifest
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Disk, MachineSpec
from vmharness.model.image import Format
from vmharness.model.listing import MenuKind
from vmharness.model.sizes import MIB
from vmharness.testing.state import find_firmware
from vmharness.vm.console import Seen
from vmharness.vm.keyboard import Keyboard, emulated_keyboard, serial_keyboard
from vmharness.vm.machine import Machine
from vmharness.vm.menu import Menu
from vmharness.vm.screen import Screen

SECONDS = 120
ENTRY = re.compile(r"^(title|version|sort-key|options|linux|initrd) (.*)$", re.MULTILINE)

Connect = Callable[[Machine, Screen], Keyboard]


@pytest.fixture(scope="module")
def disk(minimal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The minimal image as a raw disk, with a second entry for systemd-boot, and GRUB on the fallback path."""
    folder = tmp_path_factory.mktemp("menus")
    raw = folder / "disk.raw"
    made = read_manifest(minimal)
    proc.run(["qemu-img", "convert", "-O", "raw", minimal / f"{made.name}.qcow2", raw], doing="converting the image")
    esp = f"{raw}@@{trees.esp_of(minimal)}"

    def put(name: str, content: bytes) -> None:
        (folder / "file").write_bytes(content)
        proc.run(["mcopy", "-o", "-i", esp, folder / "file", f"::{name}"], doing="changing the ESP")

    (first,) = proc.run(["mdir", "-b", "-i", esp, "::/loader/entries"], doing="reading the ESP").text.split()
    entry = dict(ENTRY.findall(proc.run(["mtype", "-i", esp, first], doing="reading the ESP").text.replace("\r", "")))
    entry |= {"title": "Second", "sort-key": "zz", "options": f"{entry['options']} own.word=second"}
    put("/loader/entries/second.conf", "".join(f"{key} {value}\n" for key, value in entry.items()).encode())
    put("/loader/loader.conf", b"timeout 20\n")
    grub = packages.unpack(("grub-efi-amd64-bin",)) / "usr/lib/grub/x86_64-efi/monolithic/grubx64.efi"
    put("/EFI/BOOT/BOOTX64.EFI", grub.read_bytes())
    proc.run(["mmd", "-i", esp, "::/EFI/debian"], doing="changing the ESP")
    commands = f"linux {entry['linux']} {entry['options']}\ninitrd {entry['initrd']}\n"
    put(
        "/EFI/debian/grub.cfg",
        f"timeout=20\nmenuentry First {{\nfalse\n}}\nmenuentry Second {{\n{commands}}}\n".encode(),
    )
    yield raw
    raw.unlink()


@contextmanager
def running(minimal: Path, disk: Path, variables: Path | None, folder: Path) -> Iterator[tuple[Machine, Screen]]:
    """A machine that has started from the disk, with these variables or none."""
    made = read_manifest(minimal)
    assert made.firmware is not None
    firmware = find_firmware(made.firmware)
    run = RunDirectory(path=folder)
    image.create_overlay(disk, Format.RAW, folder / "disk.qcow2")
    shutil.copyfile(variables or firmware.template, run.variables)
    spec = MachineSpec(
        accelerator=accelerator.choose("auto").accelerator,
        memory=512 * MIB,
        cpu="max",
        firmware=firmware,
        variables=run.variables,
        disks=(Disk(name="disk", path=folder / "disk.qcow2", format="qcow2"),),
    )
    screen = Screen()
    with Machine(spec, run, on_output=screen.feed) as machine:
        screen.follow(machine)
        machine.start()
        yield machine, screen


def command_line(machine: Machine) -> str:
    """The command line that the kernel prints."""
    seen = machine.log.expect([re.compile(r"Command line: (.*)\n")], within=SECONDS, waiting_for="command line")
    assert isinstance(seen, Seen)
    return seen.text.strip()


@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(lambda machine, screen: serial_keyboard(machine.log.send, screen), id="serial"),
        pytest.param(lambda machine, screen: emulated_keyboard(machine.send_keys, screen), id="emulated"),
    ],
)
def test_systemd_boot(connect: Connect, minimal: Path, disk: Path, tmp_path: Path) -> None:
    """The second entry is chosen, and its command line is what the kernel gets."""
    with running(minimal, disk, minimal / "efi-vars.fd", tmp_path) as (machine, screen):
        menu = Menu(screen, connect(machine, screen))
        found = menu.wait(within=SECONDS)
        assert isinstance(found, tuple)
        assert found[:2] == ("minimal", "Second")
        assert menu.kind is MenuKind.SYSTEMD_BOOT
        assert menu.selected() == "minimal"
        assert menu.choose("Second") == "Second"
        assert command_line(machine).endswith(" own.word=second")


def test_grub(minimal: Path, disk: Path, tmp_path: Path) -> None:
    """An edited command line is what the kernel gets, once."""
    with running(minimal, disk, None, tmp_path) as (machine, screen):
        menu = Menu(screen, serial_keyboard(machine.log.send, screen))
        assert menu.wait(within=SECONDS) == ("First", "Second")
        assert menu.kind is MenuKind.GRUB
        editor = menu.edit("Second")
        editor.replace("own.word=second", "own.word=third")
        editor.append('more  "a b"')
        editor.boot()
        assert command_line(machine).endswith(' own.word=third more "a b"')
