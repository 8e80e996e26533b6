"""The plan as text and back, and what is refused when a stranger wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from plans import FIRMWARE, declared_plan, plan_of

from vmharness.model.bootloader import BOOTLOADERS
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Disk
from vmharness.model.image import PartitionTable
from vmharness.model.rootfs import ROOT_FILESYSTEMS
from vmharness.model.steps import Step, StepFile
from vmharness.plan.bounds import SCRIPTS
from vmharness.plan.make import Plan
from vmharness.plan.stored import from_json, relocated, to_json

TABLES = [table for table in PartitionTable if table is not PartitionTable.DECLARED]
PLAN = plan_of(PartitionTable.EFI, "btrfs", "systemd-boot")
GUEST_SCRIPTS = Path(__file__).resolve().parents[2] / "guest-scripts/steps"
BESIDES = {"wake", "resize-terminal", "run-by-hand", "list-target"}
"""Scripts that no plan has as a step."""


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("filesystem", ROOT_FILESYSTEMS)
def test_what_is_written_is_read_back_equal(table: PartitionTable, filesystem: str) -> None:
    """Every partition table and root filesystem comes back as it was, with the definition that is given."""
    plan = plan_of(table, filesystem)
    assert from_json(to_json(plan), plan.spec) == plan


@pytest.mark.parametrize("bootloader", BOOTLOADERS)
def test_every_bootloaders_step_is_read_back(bootloader: str) -> None:
    """No installer's script is taken for a stranger's."""
    plan = plan_of(BOOTLOADERS[bootloader].tables[-1], "ext4", bootloader)
    assert from_json(to_json(plan), plan.spec) == plan


def test_declared_partitions_are_read_back_equal() -> None:
    """So do plans that need no machine, with swap areas and copied blocks."""
    plan = declared_plan()
    assert from_json(to_json(plan), plan.spec) == plan


@given(st.text(), st.dictionaries(st.text(), st.text()), st.floats(min_value=0.001, max_value=600_000))
def test_parameters_of_any_text_are_read_back_equal(value: str, parameters: dict[str, str], deadline: float) -> None:
    """What scripts are told may be any text, with line breaks and quotation marks."""
    parameters = {"V": value, **parameters}
    file = StepFile(name="x", path="/run/x", sha256="0" * 64, size=3)
    step = Step(name="x", script="graft", parameters=parameters, deadline=deadline, file=file, expect="a b")
    plan = evolve(PLAN, steps=(step,))
    assert from_json(to_json(plan), plan.spec) == plan


def test_the_definition_is_the_one_that_is_given() -> None:
    """What the text says about it is not looked at."""
    other = evolve(PLAN.spec, name="another")
    data = json.loads(to_json(PLAN))
    data["spec"] = {"anything": ["/etc/shadow"]}
    assert from_json(json.dumps(data), other) == evolve(PLAN, spec=other)


def test_the_scripts_are_those_that_there_are() -> None:
    """The list of scripts is that of the folder, without those that no plan has."""
    assert {path.name for path in GUEST_SCRIPTS.iterdir()} - BESIDES == SCRIPTS


def test_paths_are_replaced() -> None:
    """Kernel, initramfs and firmware are this host's, wherever the text names them, and it names no other."""
    ours = Firmware(code=Path("/h/CODE.fd"), template=Path("/h/VARS.fd"), features=("requires-smm",))
    plan = relocated(
        from_json(to_json(PLAN), PLAN.spec), kernel=Path("/h/vmlinuz"), initrd=Path("/h/init"), firmware=ours
    )
    assert plan.machine is not None
    assert plan.machine.kernel is not None
    assert plan.firmware == plan.machine.firmware == ours
    assert (plan.machine.kernel.image, plan.machine.kernel.initrd) == (Path("/h/vmlinuz"), Path("/h/init"))
    found = json.loads(to_json(plan))
    del found["spec"]
    assert {text for text in _texts(found) if text.startswith(("/h/", "/k/", "/f/", "/q/", "/tree", "/run", "/d"))} == {
        "/h/CODE.fd", "/h/VARS.fd", "/h/vmlinuz", "/h/init",
    }  # fmt: skip


def test_a_plan_without_firmware_gets_none() -> None:
    """What was started without firmware is so again; what had some is refused without."""
    plain = plan_of(PartitionTable.LEGACY, "ext4")
    again = relocated(plain, kernel=Path("/k"), initrd=Path("/i"), firmware=FIRMWARE)
    assert again.firmware is None
    assert again.machine is not None
    assert again.machine.firmware is None
    with pytest.raises(ValueError, match="needs firmware"):
        relocated(PLAN, kernel=Path("/k"), initrd=Path("/i"), firmware=None)


def test_copied_blocks_are_not_looked_for() -> None:
    """A file that another host had is not opened on this one."""
    with pytest.raises(ValueError, match="copied from a file"):
        relocated(declared_plan(), kernel=Path("/k"), initrd=Path("/i"), firmware=None)


def _texts(data: Any) -> list[str]:
    """Every text in JSON data."""
    if isinstance(data, dict):
        return [text for value in data.values() for text in _texts(value)]
    if isinstance(data, list):
        return [text for value in data for text in _texts(value)]
    return [data] if isinstance(data, str) else []


def _machine(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["machine"].__setitem__(key, value)


def _layout(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["layout"].__setitem__(key, value)


def _partition(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["layout"]["partitions"][1].__setitem__(key, value)


def _step(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["steps"][2].__setitem__(key, value)


def _top(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.__setitem__(key, value)


DISK = {"name": "x", "path": "/dev/sda"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_top("extra", 1), "extra fields"),
        (_top("steps", None), r"\$.steps"),
        (_top("boot_deadline", 1e300), "boot_deadline"),
        (_top("boot_deadline", float("nan")), "boot_deadline"),
        (_top("machine", None), "no machine to run them in"),
        (_top("firmware", None), "machine.firmware: it is not the plan's"),
        (_machine("disks", [DISK]), "machine.disks"),
        (_machine("disks", [{**DISK, "path": 5}]), r"\$.machine.disks"),
        (_machine("variables", "/etc/passwd"), "machine.variables"),
        (_machine("memory_file", "/etc/passwd"), "machine.memory_file"),
        (_machine("tpm", "/etc"), "machine.tpm"),
        (_machine("monitor_socket", "/tmp/x"), "machine.monitor_socket"),
        (_machine("network", {"guest_port": 22}), "machine.network"),
        (_machine("memory", 1 << 50), "machine.memory"),
        (_machine("memory", "512"), r"invalid.*machine.memory"),
        (_machine("memory", True), r"invalid.*machine.memory"),
        (_machine("cpus", 0), "machine.cpus"),
        (_machine("cpus", 1000), "machine.cpus"),
        (_machine("root_ports", 1000), "machine.root_ports"),
        (_machine("cpu", "qemu64,hv-vendor-id=x"), "machine.cpu"),
        (_machine("clock", "tomorrow"), "clock"),
        (_machine("accelerator", "kvm,tcg"), r"machine.accelerator"),
        (_step("script", "../../bin/sh"), "no step of this vmharness"),
        (_step("script", "wake"), "no step of this vmharness"),
        (_step("name", ""), r"steps\[2\].name"),
        (_step("name", "\x1b[2J"), r"steps\[2\].name"),
        (_step("deadline", -1.0), r"steps\[2\].deadline"),
        (_step("deadline", float("inf")), r"steps\[2\].deadline"),
        (_step("parameters", {"A": 1}), "parameters"),
        (_step("file", {"name": "../x", "path": "/x", "sha256": "", "size": 1}), "cannot be a file name"),
        (_step("file", {"name": "x", "path": "x", "sha256": "", "size": 1}), r"steps\[2\].file"),
        (_step("file", {"name": "x", "path": "/x", "sha256": "", "size": -1}), r"steps\[2\].file"),
        (_step("file", {"name": "\x07", "path": "/x", "sha256": "", "size": 1}), r"steps\[2\].file"),
        (_layout("size", -512), "layout.size"),
        (_layout("size", 1 << 62), "layout.size"),
        (_partition("sectors", 1 << 40), "does not lie on the disk"),
        (_partition("start", -1), "does not lie on the disk"),
        (_partition("number", 1), "two have the same number"),
        (_partition("role", "other"), "there is no root filesystem"),
        (_partition("name", "\n"), "cannot be printed"),
        (_partition("filesystem", {"kind": "ntfs"}), "filesystem"),
        (_partition("guid", "zz"), "guid"),
        (lambda data: data["scratch"].__setitem__("size", 0), "scratch.size"),
    ],
)
def test_what_no_build_writes_is_refused(damage: Callable[[dict[str, Any]], None], message: str) -> None:
    """Host paths, numbers beyond reason, scripts that are not ours and wrong types are refused with their place."""
    data = json.loads(to_json(PLAN))
    damage(data)
    with pytest.raises(ValueError, match=message) as refusal:
        from_json(json.dumps(data), PLAN.spec)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"spec": {}}', "[" * 100_000, "9" * 10_000])
def test_text_that_is_no_plan_is_refused(text: str) -> None:
    """Half a file, or another JSON document, is refused with a sentence."""
    with pytest.raises(ValueError, match=r"JSON|\$|required"):
        from_json(text, PLAN.spec)


def test_a_disk_in_a_plan_that_was_made_is_refused_too() -> None:
    """The check is of values, whatever the way they came."""
    assert PLAN.machine is not None
    disk = Disk(name="x", path=Path("/dev/sda"))
    plan: Plan = evolve(PLAN, machine=evolve(PLAN.machine, disks=(disk,)))
    with pytest.raises(ValueError, match=r"machine\.disks"):
        from_json(to_json(plan), plan.spec)
