"""How GRUB behaves: what it starts by itself, for how long it waits, and what people and grub-reboot make it do.

GRUB is Debian's own (``grubx64.efi``), on the fallback path of the minimal image's ESP, with a configuration of two
generations there.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trees
from generations import ENTRIES, SECONDS, Esp, command_line, copied, generation
from running import Workplace

from vmharness.host import packages
from vmharness.host.libraries import libraries
from vmharness.model.listing import MenuKind
from vmharness.model.outcome import Stalled
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import BootState, Hardware, Machine, checks

CONTENTS = """
[[contents]]
source = "tools/*"
target = "/usr"
"""
TOOLS = ("usr/bin/grub-editenv", "usr/sbin/grub-reboot", "usr/sbin/grub-probe", "usr/share/grub/grub-mkconfig_lib")
FIND_CONFIGURATION = "configfile /grub/grub.cfg\n"
CONFIGURATION = """
set prefix=($root)/grub
set timeout_style=menu
load_env
if [ -n "$next_entry" ]; then
    set default="$next_entry"
    set next_entry=
    save_env next_entry
fi
"""

NO_DISPLAY = Hardware(display=False)
"""With a graphics card OVMF tells GRUB of more columns than its serial terminal has: long lines cannot be edited."""

GrubSystem = Callable[[str], tuple[BootState, Esp]]


@pytest.fixture(scope="module")
def with_grub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootState]:
    """The minimal image with GRUB's tools, on a raw disk, with a blank store; no test changes it."""
    folder = tmp_path_factory.mktemp("grub")
    unpacked = packages.unpack(("grub-common", "grub2-common"))
    for name in TOOLS:
        file = folder / "tools" / name.removeprefix("usr/")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(unpacked / name, file)
    (folder / "tools/lib").mkdir()
    for library in libraries([unpacked / name for name in TOOLS if "bin/grub-" in name and "reboot" not in name]):
        shutil.copy(library, folder / "tools/lib" / library.name)
    text = trees.MINIMAL.replace("[root]", 'format = "raw"\n\n[root]')
    yield BootState.of(Workplace(folder=folder).build(text + CONTENTS + trees.SYSTEMD_BOOT)).blank()
    shutil.rmtree(folder)


@pytest.fixture
def grub(with_grub: BootState, tmp_path: Path) -> Iterator[GrubSystem]:
    """Makes a system whose GRUB has two generations in its menu, and more configuration before them."""

    def make(configuration: str) -> tuple[BootState, Esp]:
        state, own = copied(with_grub, tmp_path)
        (path,) = (path for path in own.files() if path.startswith(ENTRIES))
        entry = dict(re.findall(r"^(\S+) (.*)$", own.read(path).decode(), flags=re.MULTILINE))
        binary = packages.unpack(("grub-efi-amd64-bin",)) / "usr/lib/grub/x86_64-efi/monolithic/grubx64.efi"
        own.write("/EFI/BOOT/BOOTX64.EFI", binary.read_bytes())
        own.write("/EFI/debian/grub.cfg", FIND_CONFIGURATION.encode())
        text = CONFIGURATION + configuration
        for title, number, options in (("New", 2, "--unrestricted"), ("Old", 1, "")):
            text += f"menuentry {title} --id {title.lower()} {options} {{\n"
            text += f"linux {entry['linux']} {entry['options']} generation={number}\ninitrd {entry['initrd']}\n}}\n"
        own.write("/grub/grub.cfg", text.encode())
        own.write("/grub/grubenv", b"# GRUB Environment Block\n".ljust(1024, b"#"))
        return state, own

    yield make
    (tmp_path / "disk.raw").unlink(missing_ok=True)


def at_menu(vm: Machine) -> None:
    """Start a machine and wait for its menu."""
    vm.start()
    vm.expect_boot("loader")
    assert vm.menu.wait(within=SECONDS) == ("New", "Old")
    assert vm.menu.kind is MenuKind.GRUB


def test_grub_reboot_is_for_one_boot(grub: GrubSystem, vm_factory: MachineFactory) -> None:
    """After ``grub-reboot old`` the older generation starts once by itself; then the newer one again."""
    state, own = grub("set timeout=1\n")
    vm = vm_factory(state, persist=True)
    vm.start()
    assert generation(vm) == 2
    vm.run("mount -t vfat /dev/vda1 /efi && grub-reboot --boot-directory=/efi old; umount /efi; sync")
    vm.off()
    assert b"next_entry=old\n" in own.read("/grub/grubenv")
    vm.start()
    assert generation(vm) == 1
    vm.reset()
    assert generation(vm) == 2
    checks.booted_times(vm, 3)
    vm.off()
    assert b"next_entry=\n" in own.read("/grub/grubenv")


def test_menu_waits_as_long_as_it_should(grub: GrubSystem, vm_factory: MachineFactory) -> None:
    """The menu is there for its time-out, in seconds of real time, then the selected entry starts."""
    state, _ = grub("set timeout=5\n")
    vm = vm_factory(state)
    vm.start()
    shown = vm.screen.wait_for(r"executed automatically in 5s", within=SECONDS)
    began = time.monotonic()
    assert not isinstance(shown, Stalled), shown
    vm.screen.wait_until(lambda picture: "automatically" not in picture.text, within=SECONDS, waiting_for="its end")
    waited = time.monotonic() - began
    assert generation(vm) == 2
    assert 4.5 <= waited < 9, f"the menu was there for {waited:.1f} s"


def test_a_key_chooses_the_older_generation(grub: GrubSystem, vm_factory: MachineFactory) -> None:
    """Without a time-out the menu waits; the older generation is chosen there."""
    state, _ = grub("set timeout=-1\n")
    vm = vm_factory(state)
    at_menu(vm)
    assert isinstance(vm.reach("kernel", within=2), Stalled)
    assert vm.menu.selected() == "New"
    assert vm.menu.choose("Old") == "Old"
    assert generation(vm) == 1


def test_a_command_line_is_edited_for_one_boot(grub: GrubSystem, vm_factory: MachineFactory) -> None:
    """What is changed in the menu's editor reaches the kernel, and is not kept."""
    state, own = grub("set timeout=-1\n")
    vm = vm_factory(state, NO_DISPLAY, persist=True)
    at_menu(vm)
    editor = vm.menu.edit("Old")
    editor.replace("generation=1", "generation=7 own.word=edited")
    editor.boot()
    assert " generation=7 own.word=edited" in command_line(vm)
    vm.off()
    assert b"own.word" not in own.read("/grub/grub.cfg")


SALT = bytes(64)
HASH = hashlib.pbkdf2_hmac("sha512", b"secret", SALT, 1000)
GUARDED = f"""
set timeout=-1
set superusers="admin"
password_pbkdf2 admin grub.pbkdf2.sha512.1000.{SALT.hex()}.{HASH.hex()}
"""


def test_a_password_guards_entries_and_editor(grub: GrubSystem, vm_factory: MachineFactory) -> None:
    """Whoever lacks the password starts only what is unrestricted: neither the editor opens nor the other entry starts;
    with it, the other entry starts.
    """
    state, _ = grub(GUARDED)
    vm = vm_factory(state)
    at_menu(vm)
    refused(vm, "e", "wrong")
    vm.menu.select("Old")
    refused(vm, "enter", "wrong")
    vm.menu.select("Old")  # GRUB has gone back to its default
    log_in(vm, "enter", "secret")
    assert generation(vm) == 1


def test_an_unrestricted_entry_needs_no_password(grub: GrubSystem, vm_factory: MachineFactory) -> None:
    """The same menu starts its unrestricted entry for everybody."""
    state, _ = grub(GUARDED)
    vm = vm_factory(state)
    at_menu(vm)
    vm.menu.choose("New")
    assert generation(vm) == 2


def log_in(vm: Machine, key: str, password: str) -> None:
    """Press a key that asks for a login in GRUB, and give one."""
    vm.keyboard.press(key, until=lambda picture: "Enter username:" in picture.text)
    vm.keyboard.type("admin")
    vm.keyboard.press("enter", until=lambda picture: "Enter password:" in picture.text)
    vm.keyboard.type(password, echo=False)
    vm.keyboard.send("enter")


def refused(vm: Machine, key: str, password: str) -> None:
    """Log in with a wrong password; the menu comes back, and nothing has started."""
    log_in(vm, key, password)
    assert vm.menu.wait(within=SECONDS) == ("New", "Old")
    assert "Linux version" not in vm.printed()
