"""The record of a build that was stopped, as text and back, and what stands in the way of opening it here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.firmware import Firmware
from vmharness.model.hardware import Accelerator, AcceleratorVerdict
from vmharness.model.manifest import FirmwareIdentity, SourceFile, StepTime
from vmharness.model.record import (
    SCHEMA,
    Failure,
    Here,
    ProcessorIdentity,
    ProgramIdentity,
    Record,
    from_json,
    to_json,
)
from vmharness.plan.reopening import doubts, obstacles

FAILURE = Failure(
    step="install GRUB",
    index=4,
    sentence="the script install-grub ended with status 1\n  the guest's last lines:\n    no module",
    status=1,
    last_lines=("Installing for x86_64-efi platform.", "grub-install: error: no module"),
    kernel_line="[    1.0] EXT4-fs error (device vda2)",
    hint="look at it",
)
QEMU = ProgramIdentity(version="7.2.22", sha256="a" * 64)
CPU = ProcessorIdentity(name="Intel Xeon", sha256="c" * 64)
RECORD = Record(
    vmharness="0.1.0",
    name="debian",
    inputs="0" * 32,
    seed="debian",
    nonce="0123456789abcdef",
    tools={"mke2fs": "1.47.0"},
    accelerator=Accelerator.TCG,
    qemu=QEMU,
    firmware=FirmwareIdentity(
        description="UEFI firmware",
        code=SourceFile(path=Path("/f/CODE.fd"), sha256="1" * 64),
        template=SourceFile(path=Path("/f/VARS.fd"), sha256="2" * 64),
        features=("acpi-s3",),
    ),
    kernel="6.1",
    appliance="3" * 32,
    contents=True,
    times=(StepTime(step="stage the tree", seconds=1.5),),
    failure=FAILURE,
)
TCG = AcceleratorVerdict(accelerator=Accelerator.TCG, reason="TCG: /dev/kvm is not there")
KVM = AcceleratorVerdict(accelerator=Accelerator.KVM, reason="KVM: a 64-bit guest ran")
FIRMWARE = Firmware(code=Path("/h/CODE.fd"), template=Path("/h/VARS.fd"))
HERE = Here(qemu=QEMU, accelerator=TCG, processor=CPU, firmware=FIRMWARE)
UNDER_KVM = evolve(RECORD, accelerator=Accelerator.KVM, processor=CPU)


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        UNDER_KVM,
        evolve(RECORD, failure=None, contents=False),
        evolve(RECORD, firmware=None, kernel=None, appliance=None, failure=Failure(step="verify", sentence="no")),
    ],
)
def test_what_is_written_is_read_back_equal(record: Record) -> None:
    """Text and value are the same, for failures in the guest, on the host, and builds that were stopped on purpose."""
    assert from_json(to_json(record)) == record


@given(st.text(), st.lists(st.text()), st.none() | st.text())
def test_a_guests_words_are_harmless(sentence: str, lines: list[str], line: str | None) -> None:
    """Whatever a guest, or a stranger, wrote: no control character is left, and it is read back as it was written."""
    failure = Failure(step=sentence, sentence=sentence, last_lines=tuple(lines), kernel_line=line, hint=line)
    said = [failure.step, *failure.sentence.split("\n"), *failure.last_lines, failure.kernel_line or ""]
    assert not any(ord(letter) < 32 and letter != "\t" for text in said for letter in text)
    assert from_json(to_json(evolve(RECORD, failure=failure))).failure == failure


def test_a_strangers_words_are_harmless() -> None:
    """Control sequences that were written into the file by hand are removed when it is read."""
    data = json.loads(to_json(RECORD))
    data["failure"]["sentence"] = "one\x1b[2J\ntwo\x9b31m"
    failure = from_json(json.dumps(data)).failure
    assert failure is not None
    assert failure.sentence == "one\ntwo31m"


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.__setitem__(key, value)


def _failure(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["failure"].__setitem__(key, value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("schema", SCHEMA + 1), f"the format {SCHEMA + 1}, and this vmharness reads {SCHEMA}"),
        (lambda data: data.pop("schema"), "is missing"),
        (lambda data: data.pop("nonce"), r"required field missing @ \$.nonce"),
        (_set("extra", 1), "extra fields"),
        (_set("name", "../x"), "cannot be a file name"),
        (_set("name", "a\nb"), "cannot be a file name"),
        (_set("nonce", "0; reboot"), "nonce"),
        (_set("accelerator", "xen"), "accelerator"),
        (_set("tools", {"a": 1}), "tools"),
        (_set("contents", 1), "contents"),
        (lambda data: data["firmware"]["code"].__setitem__("sha256", ""), "no digest"),
        (lambda data: data["firmware"].__setitem__("features", ["x,y=z"]), "feature"),
        (_failure("index", -1), "none that a build can have"),
        (_failure("index", "1"), "index"),
        (_failure("last_lines", ["x"] * 2000), "none that a build can have"),
    ],
)
def test_damaged_records_are_refused(damage: Callable[[dict[str, Any]], None], message: str) -> None:
    """What is missing, unknown, of another type or beyond reason is named."""
    data = json.loads(to_json(RECORD))
    damage(data)
    with pytest.raises(ValueError, match=message):
        from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("record", "here"),
    [
        (RECORD, HERE),
        (RECORD, evolve(HERE, accelerator=KVM)),
        (RECORD, evolve(HERE, processor=None)),
        (evolve(RECORD, firmware=None), evolve(HERE, firmware=None)),
        (UNDER_KVM, evolve(HERE, accelerator=KVM)),
        (RECORD, evolve(HERE, qemu=evolve(QEMU, sha256="b" * 64))),
    ],
)
def test_the_same_host_and_its_like_open_it(record: Record, here: Here) -> None:
    """Nothing is in the way on a host with the same QEMU version and firmware, also where that has KVM besides."""
    assert obstacles(record, here) == ()


@pytest.mark.parametrize(
    ("record", "here", "words"),
    [
        (RECORD, evolve(HERE, qemu=evolve(QEMU, version="8.0.0")), "QEMU 7.2.22, and this host has QEMU 8.0.0"),
        (RECORD, evolve(HERE, firmware=None), "UEFI firmware: 111111111111, 222222222222"),
        (UNDER_KVM, HERE, "under KVM, and this host has none that works (TCG: /dev/kvm is not there)"),
        (UNDER_KVM, evolve(HERE, accelerator=KVM, processor=evolve(CPU, name="AMD")), "Xeon, and this host's is AMD"),
        (UNDER_KVM, evolve(HERE, accelerator=KVM, processor=evolve(CPU, sha256="d" * 64)), "other abilities"),
        (UNDER_KVM, evolve(HERE, accelerator=KVM, processor=None), "another one"),
    ],
)
def test_obstacles_are_named(record: Record, here: Here, words: str) -> None:
    """Another QEMU version, missing firmware, missing KVM and another processor under KVM are one sentence each."""
    (sentence,) = obstacles(record, here)
    assert words in sentence


def test_all_obstacles_are_named_at_once() -> None:
    """Nobody has to find them one by one."""
    here = evolve(HERE, qemu=evolve(QEMU, version="8.0.0"), firmware=None)
    assert len(obstacles(UNDER_KVM, here)) == 3


def test_another_build_of_the_same_version_is_a_doubt() -> None:
    """A distribution's correction does not lock anybody out; it is named if the state cannot be loaded."""
    other = evolve(HERE, qemu=evolve(QEMU, sha256="b" * 64))
    assert obstacles(RECORD, other) == ()
    assert "another build" in doubts(RECORD, other)[0]
    assert doubts(RECORD, HERE) == ()
    assert doubts(RECORD, evolve(HERE, qemu=evolve(QEMU, version="8.0.0"))) == ()
