"""``[install]`` and ``[[dialogue]]``: from the definition to the entries of the plan, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmharness.errors import SpecError
from vmharness.model.dialogue import ENDED, End, Entry, InstallSpec, Network, Sight
from vmharness.model.hardware import Accelerator, AcceleratorVerdict
from vmharness.model.image import ImageSpec
from vmharness.plan import stored
from vmharness.plan.dialogue import to_toml
from vmharness.plan.load import load, load_entry
from vmharness.plan.make import Plan, make_install

ORIGIN = Path("/definitions/image.toml")
IMAGE = '[image]\nname = "x"\nsize = "2G"\n'
ISO = '[install]\niso = "a.iso"\n'
EMULATED = AcceleratorVerdict(accelerator=Accelerator.TCG, reason="a test")


def loaded(*entries: str, base: str = IMAGE + ISO) -> ImageSpec:
    return load("\n".join([base, *(f"[[dialogue]]\n{entry}" for entry in entries)]), ORIGIN)


def install_of(*entries: str, base: str = IMAGE + ISO) -> InstallSpec:
    install = loaded(*entries, base=base).install
    assert install is not None
    return install


def plan_of(*entries: str) -> Plan:
    spec = loaded(*entries)
    assert spec.install is not None
    return make_install(spec, spec.install, accelerator=EMULATED, firmware=None)


def test_defaults() -> None:
    """An ISO image and one expectation are enough: UEFI, no network, two minutes, and the machine must end."""
    install = install_of("expect = 'Disk:'\nsend = \"1\\r\"")
    assert install.iso == Path("/definitions/a.iso")
    assert (install.network, install.display, install.bios) == (Network.NONE, False, False)
    asked, ended = install.dialogue
    assert asked == Entry(name="expect Disk:", sight=Sight.CONSOLE, expected="Disk:", send="1\r", deadline=120.0)
    assert ended == ENDED


def test_everything_given() -> None:
    """Every key arrives."""
    base = IMAGE + (
        '[install]\nkernel = "linux"\ninitrd = "initrd.gz"\nkernel-parameters = ["console=ttyS0"]\n'
        'display = true\nnetwork = "user"\nbios = true\n'
    )
    install = install_of(
        'name = "a"\nscreen = "Language"\nkeys = ["down", "enter"]\nwithin = "5m"',
        'name = "b"\ndisplay = "Country"\nstop = true',
        'end = "reset"\nwithin = 20',
        base=base,
    )
    assert install.kernel_parameters == ("console=ttyS0",)
    assert (install.network, install.display, install.bios) == (Network.USER, True, True)
    a, b, end = install.dialogue
    assert (a.name, a.sight, a.keys, a.deadline) == ("a", Sight.SCREEN, ("down", "enter"), 300.0)
    assert (b.sight, b.stop) == (Sight.DISPLAY, True)
    assert (end.sight, end.expected, end.deadline) == (Sight.END, End.RESET.value, 20.0)


def test_names_are_made_unique() -> None:
    """Entries without a name are called by what they wait for or do; the same twice gets a number."""
    names = [
        entry.name for entry in install_of('expect = "a"', 'expect = "a"', 'send = "y\\r"', 'keys = ["f1"]').dialogue
    ]
    assert names == ["expect a", "expect a (2)", "send y", "keys f1", ENDED.name]


def test_no_variables_with_bios() -> None:
    """A BIOS has no variables, and none are published."""
    spec = loaded('expect = "a"', base=IMAGE + ISO + "bios = true\n")
    assert not spec.has_esp
    assert not spec.efi.touch_variables
    assert loaded('expect = "a"').efi.touch_variables


@pytest.mark.parametrize(
    ("entry", "key", "words"),
    [
        ('expect = "a"\nscreen = "b"', "dialogue[0]", "waits for one thing; given: expect, screen"),
        ('expect = "("', "dialogue[0]", "no regular expression"),
        ('expect = ".*"', "dialogue[0]", "matches where there is nothing"),
        ('screen = ""', "dialogue[0]", "empty"),
        ('display = "a"', "dialogue[0].display", "no display"),
        ('expct = "a"', "dialogue[0].expct", "did you mean 'expect'"),
        ('keys = ["dwn"]', "dialogue[0]", "no key is called 'dwn'"),
        ('expect = "a"\nsend = "a"\nkeys = ["a"]', "dialogue[0]", "does one thing"),
        ("within = 5", "dialogue[0]", "waits for nothing and does nothing"),
        ('expect = "a"\nwithin = 0', "dialogue[0].within", "not a time"),
        ('end = "off"', "dialogue[0].end", "not known"),
        ('end = "reset"\nsend = "a"', "dialogue[0]", "nothing to do when the machine has ended"),
        ('name = "a/b\\n"\nexpect = "a"', "dialogue[0]", "cannot be a name"),
        (f'expect = "{"a" * 1001}"', "dialogue[0]", "too long"),
    ],
)
def test_bad_entries(entry: str, key: str, words: str) -> None:
    """Each fault of an entry is named with its key."""
    with pytest.raises(SpecError) as caught:
        loaded(entry)
    assert caught.value.key == key
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("base", "key", "words"),
    [
        (IMAGE, "dialogue", "needs an installer"),
        (IMAGE + "[install]\n", "install", "neither is given"),
        (IMAGE + ISO + 'kernel = "a"\ninitrd = "b"\n', "install", "both are given"),
        (IMAGE + '[install]\nkernel = "a"\n', "install", "go together"),
        (IMAGE + ISO + 'kernel-parameters = ["a"]\n', "install.kernel-parameters", "starts its kernel itself"),
        (IMAGE + ISO + 'dialogue = "a.py"\n', "install", "one dialogue, and both"),
        (IMAGE + ISO + 'isso = "a"\n', "install.isso", "unknown key"),
        (IMAGE + ISO + 'network = "usr"\n', "install.network", "did you mean 'user'"),
        (IMAGE + ISO + "[root]\nsource = { minimal = true }\n", "root", "remove [root], or [install]"),
        (IMAGE + ISO + '[[contents]]\nsource = "a"\ntarget = "/a"\n', "contents", "remove [contents]"),
        (IMAGE + ISO + '[bootloader]\ninstall = "grub"\n', "bootloader", "remove [bootloader]"),
        (IMAGE + 'boot-size = "1G"\n' + ISO, "image.boot-size", "divides the disk itself"),
        (IMAGE + 'partition-table = "efi"\n' + ISO, "image.partition-table", "divides the disk itself"),
        ('[image]\nname = "x"\n' + ISO, "image.size", "needs a disk of a size"),
        ('[image]\nname = "x"\nsize = 1000\n' + ISO, "image.size", "whole number of sectors"),
        (IMAGE + ISO + 'bios = true\n[efi]\nfirmware = "a.json"\n', "efi.firmware", "has no UEFI"),
        (IMAGE + ISO + "bios = true\n[efi]\ntouch-variables = true\n", "efi.touch-variables", "no EFI variables"),
    ],
)
def test_bad_installs(base: str, key: str, words: str) -> None:
    """Each fault beside the entries is named with its key."""
    with pytest.raises(SpecError) as caught:
        loaded('expect = "a"', base=base)
    assert caught.value.key == key
    assert words in str(caught.value)


def test_there_must_be_a_dialogue() -> None:
    """Nobody talks to an installer without a dialogue, and nothing comes after the machine's end."""
    with pytest.raises(SpecError, match="there is none"):
        loaded()
    with pytest.raises(SpecError, match="last entry"):
        loaded('end = "reset"', 'expect = "a"')
    with pytest.raises(SpecError, match="same name"):
        loaded('name = "a"\nexpect = "a"', 'name = "a"\nexpect = "b"')


def test_entries_are_read_again() -> None:
    """What is shown of an entry is what the definition says, whatever is typed, and an edited copy is an entry."""
    for entry in plan_of(
        'expect = \'a "\\(b\'\nsend = "\\u001b[A\\u007f\\r\\""\nwithin = 7.5\nstop = true', 'keys = ["down", "a"]'
    ).dialogue:
        again = load_entry(to_toml(entry, Accelerator.TCG.time_scale), ORIGIN)
        assert again.deadline * Accelerator.TCG.time_scale == entry.deadline
        assert (again.name, again.expected, again.send, again.keys) == (
            entry.name,
            entry.expected,
            entry.send,
            entry.keys,
        )


@pytest.mark.parametrize(
    "text", ["", "[dialogue]\n", "x = [", "[[dialogue]]\nexpct = 1\n", '[[dialogue]]\nexpect = "("\n']
)
def test_bad_edited_entries(text: str) -> None:
    """An edited copy that is no entry is refused as a definition is."""
    with pytest.raises(SpecError):
        load_entry(text, ORIGIN)


def test_plan_is_read_back() -> None:
    """A plan of an install can be read back; deadlines have the accelerator's scale in them."""
    plan = plan_of('expect = "a"\nwithin = 10')
    assert [entry.deadline for entry in plan.dialogue] == [40.0, ENDED.deadline * 4]
    assert plan.actions == plan.dialogue
    assert stored.from_json(stored.to_json(plan), plan.spec) == plan


def test_stored_dialogue_is_checked() -> None:
    """An entry in a stored plan keeps to what the definition would have to."""
    text = stored.to_json(plan_of('expect = "abc"'))
    with pytest.raises(ValueError, match="regular expression"):
        stored.from_json(text.replace('"expected": "abc"', '"expected": "("'), loaded('expect = "a"'))
