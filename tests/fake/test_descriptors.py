"""Reading firmware descriptors from folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vmharness.host import descriptors
from vmharness.host.data import data_directory
from vmharness.model.image import AutoFirmware, DescriptorFirmware, FirmwareFiles
from vmharness.plan.firmware import judge_all, select


def volume(size: int) -> bytes:
    """An empty variable store of that size: the header of its firmware volume and nothing else."""
    guid = bytes.fromhex("8d2bf1ff96768b4ca9852747075b4f50")
    head = bytes(16) + guid + size.to_bytes(8, "little") + b"_FVH"
    return head + b"\xff" * (size - len(head))


def write(path: Path, **changes: Any) -> Path:
    """Write a descriptor for ``code.fd`` and ``vars.fd`` beside it."""
    flash = {
        "device": "flash",
        "executable": {"filename": str(path.parent / "code.fd"), "format": "raw"},
        "nvram-template": {"filename": str(path.parent / "vars.fd"), "format": "raw"},
    }
    said = {
        "description": f"firmware {path.stem}",
        "interface-types": ["uefi"],
        "mapping": flash,
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["acpi-s3"],
        "tags": [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said | changes))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The user's, the administrator's and the distribution's folder."""
    made = (tmp_path / "user", tmp_path / "etc", tmp_path / "share")
    for folder in made:
        folder.mkdir()
    return made


def test_files_are_sorted_by_name_over_all_folders(folders: tuple[Path, Path, Path]) -> None:
    """The number in the name counts, not the folder; only ``.json`` files are read."""
    user, etc, share = folders
    expected = [write(share / "10-a.json"), write(user / "20-b.json"), write(etc / "30-c.json")]
    (etc / "05-notes.txt").write_text("not a descriptor")
    assert [descriptor.path for descriptor in descriptors.installed(folders)] == expected


def test_an_earlier_folder_masks_a_later_one(folders: tuple[Path, Path, Path]) -> None:
    """Of equal names the more particular one counts; an empty one, or a link to /dev/null, hides the name."""
    user, etc, share = folders
    for name in ("10-a.json", "20-b.json", "30-c.json"):
        write(share / name)
    write(user / "10-a.json", description="mine")
    (etc / "20-b.json").touch()
    (user / "30-c.json").symlink_to("/dev/null")
    found = descriptors.installed(folders)
    assert [(descriptor.path, descriptor.description) for descriptor in found] == [(user / "10-a.json", "mine")]


def test_the_folders_are_those_of_the_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_CONFIG_HOME, then /etc, then /usr/share, then our own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert descriptors.directories() == (
        tmp_path / "qemu/firmware",
        Path("/etc/qemu/firmware"),
        Path("/usr/share/qemu/firmware"),
        data_directory("firmware"),
    )
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert descriptors.directories()[0] == tmp_path / ".config/qemu/firmware"


def test_a_descriptor_is_read_with_what_lies_at_its_paths(tmp_path: Path) -> None:
    """Code image and store are measured, and a store is known by its header."""
    (tmp_path / "code.fd").write_bytes(bytes(1_966_080))
    (tmp_path / "vars.fd").write_bytes(volume(131_072))
    descriptor = descriptors.read(write(tmp_path / "60-x.json", features=["secure-boot"]))
    assert descriptor.problem == ""
    assert descriptor.code is not None
    assert descriptor.template is not None
    assert (descriptor.code.size, descriptor.code.is_variable_store) == (1_966_080, False)
    assert (descriptor.template.size, descriptor.template.is_variable_store) == (131_072, True)
    assert descriptor.features == ("secure-boot",)
    assert select(DescriptorFirmware(path=tmp_path / "60-x.json"), [descriptor]).code == tmp_path / "code.fd"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a firmware descriptor"),
        ("{}", "not a firmware descriptor"),
        ('{"mapping": 3}', "not a firmware descriptor"),
    ],
)
def test_a_broken_descriptor_is_no_exception(tmp_path: Path, text: str, words: str) -> None:
    """What cannot be read is kept with its problem, so that a refusal can be shown."""
    (tmp_path / "x.json").write_text(text)
    assert words in descriptors.read(tmp_path / "x.json").problem
    assert "No such file" in descriptors.read(tmp_path / "absent.json").problem
    (tmp_path / "latin.json").write_bytes(b'{"description": "\xe9"}')
    assert "not JSON" in descriptors.read(tmp_path / "latin.json").problem


def test_other_mappings_are_refused_for_their_device(tmp_path: Path) -> None:
    """A BIOS in memory has no flash files, and is still a proper descriptor."""
    path = write(tmp_path / "bios.json", mapping={"device": "memory", "filename": "/bios.bin"})
    (verdict,) = judge_all(AutoFirmware(), [descriptors.read(path)])
    assert verdict.refusal == "it is mapped as memory, not as flash"


def test_each_choice_leaves_its_own_descriptors(tmp_path: Path) -> None:
    """A named descriptor is the only one; two files by path are measured; ``auto`` looks at the folders."""
    path = write(tmp_path / "60-x.json")
    (named,) = descriptors.for_choice(DescriptorFirmware(path=path))
    assert named.path == path
    (files,) = descriptors.for_choice(FirmwareFiles(code=path, variables=tmp_path / "absent"))
    assert files.code is not None
    assert files.template is not None
    assert (files.code.size, files.template.size) == (path.stat().st_size, None)
    assert descriptors.for_choice(AutoFirmware()) == descriptors.installed()


def test_our_own_descriptors_are_right(checkout: Path) -> None:
    """Every descriptor that comes with vmharness is read without a problem, and refused at most for missing files."""
    files = sorted((checkout / "firmware").glob("*.json"))
    assert files
    for descriptor in map(descriptors.read, files):
        (verdict,) = judge_all(AutoFirmware(), [descriptor])
        assert verdict.firmware is not None or "is not there" in verdict.refusal


def test_this_host_has_firmware_that_fits() -> None:
    """With OVMF installed, as the README asks, a firmware is found, and it is not a Secure Boot build."""
    firmware = select(AutoFirmware(), descriptors.installed())
    assert firmware.code.is_file()
    assert firmware.template.is_file()
    assert not firmware.needs_smm
