"""What this host has of what a record names."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from vmharness.host import here
from vmharness.model.manifest import FirmwareIdentity, SourceFile


def identity(code: Path, code_data: bytes, template: Path, template_data: bytes) -> FirmwareIdentity:
    """A firmware as another host recorded it."""
    return FirmwareIdentity(
        description="UEFI",
        code=SourceFile(path=code, sha256=hashlib.sha256(code_data).hexdigest()),
        template=SourceFile(path=template, sha256=hashlib.sha256(template_data).hexdigest()),
        features=("requires-smm",),
    )


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with firmware files that a descriptor of the user's names."""
    folder = tmp_path / "firmware"
    config = tmp_path / "config/qemu/firmware"
    folder.mkdir()
    config.mkdir(parents=True)
    (folder / "code").write_bytes(b"code")
    (folder / "vars").write_bytes(b"vars")
    mapping = {
        "device": "flash",
        "executable": {"filename": str(folder / "code"), "format": "raw"},
        "nvram-template": {"filename": str(folder / "vars"), "format": "raw"},
    }
    text = {"description": "", "interface-types": ["uefi"], "mapping": mapping, "targets": [], "features": []}
    (config / "00-test.json").write_text(json.dumps(text))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


def test_firmware_at_its_recorded_place(tmp_path: Path) -> None:
    """Where the recorded files lie here with the same content, they are taken."""
    code, template = tmp_path / "c", tmp_path / "t"
    code.write_bytes(b"1")
    template.write_bytes(b"2")
    found = here.find_firmware(identity(code, b"1", template, b"2"))
    assert found is not None
    assert (found.code, found.template, found.needs_smm) == (code, template, True)


def test_firmware_elsewhere(described: Path, tmp_path: Path) -> None:
    """On another distribution the same files lie elsewhere: they are found through the descriptors, by content."""
    other = tmp_path / "c"
    other.write_bytes(b"something else")
    found = here.find_firmware(identity(other, b"code", Path("/nowhere/t"), b"vars"))
    assert found is not None
    assert (found.code, found.template) == (described / "code", described / "vars")


def test_firmware_that_is_not_there(described: Path) -> None:
    """Both files must be there; one of them is not enough, nor is one in the other's role."""
    assert here.find_firmware(identity(Path("/nowhere"), b"code", Path("/nowhere"), b"other")) is None
    assert here.find_firmware(identity(Path("/nowhere"), b"other", Path("/nowhere"), b"vars")) is None
    assert here.find_firmware(identity(Path("/nowhere"), b"vars", Path("/nowhere"), b"code")) is None


def test_recorded_paths_of_strangers_do_no_harm(tmp_path: Path) -> None:
    """A pipe does not make us wait, an endless device is not read, and what is no path is no error."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    for path in (
        tmp_path / "pipe",
        tmp_path / "huge",
        Path("/dev/zero"),
        tmp_path,
        Path("a\0b"),
        Path("/a\0b"),
        Path("c"),
    ):
        assert here.find_firmware(identity(path, b"", path, b"")) is None


def test_the_processor_is_the_first_one(tmp_path: Path) -> None:
    """Name and abilities are those of the first processor, and the abilities' order says nothing."""
    (tmp_path / "one").write_text(
        "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu vme\nprocessor: 1\nmodel name: B\n"
    )
    (tmp_path / "two").write_text("model name\t: Xeon\nflags\t\t: vme fpu\n")
    (tmp_path / "three").write_text("Hardware: board\n")
    one, two = here.processor(tmp_path / "one"), here.processor(tmp_path / "two")
    assert one is not None
    assert one.name == "Xeon"
    assert one == two
    assert here.processor(tmp_path / "three") is None


def test_this_host_is_looked_at() -> None:
    """QEMU is known by version and by its file."""
    found = here.emulator()
    assert found.version[0].isdigit()
    assert len(found.sha256) == 64
