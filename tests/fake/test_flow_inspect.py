"""Looking into an output folder."""

import json
import struct
from pathlib import Path
from uuid import UUID

import finished_disk
import pytest
from attrs import evolve

from vmharness.disk import efivars, image
from vmharness.errors import SpecError, VerificationFailed
from vmharness.flows.inspect import Inspection, inspect, to_data, to_lines
from vmharness.host import cache
from vmharness.model.image import Format
from vmharness.model.manifest import FirmwareIdentity, Manifest, OutputFile, SourceFile, StepTime, to_json
from vmharness.model.variable_records import decode

IMAGE = "debian.qcow2"
STORE = "efi-vars.fd"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder that no test changes."""
    scratch, output = tmp_path_factory.mktemp("scratch"), tmp_path_factory.mktemp("output")
    finished = finished_disk.make(scratch)
    image.convert(finished.disk, output / IMAGE, Format.QCOW2, UUID(int=1))
    finished.store.rename(output / STORE)
    (output / "transcript.log").write_bytes(b"the guest's words\n")
    file = SourceFile(path=Path("/a/file"), sha256="0" * 64)
    made = Manifest(
        vmharness="0.1",
        name="debian",
        inputs="0" * 32,
        definition=SourceFile(path=Path("/d/debian.toml"), sha256="0" * 64),
        seed="debian",
        format=Format.QCOW2,
        files=tuple(
            output_file(role, output / name)
            for role, name in (("image", IMAGE), ("efi-variables", STORE), ("transcript", "transcript.log"))
        ),
        table=finished.layout,
        variables=tuple(decode(variable) for variable in efivars.read_store(output / STORE).variables),
        firmware=FirmwareIdentity(description="UEFI for x86_64", code=file, template=file),
        bootloader="systemd-boot",
        kernel="6.1.0",
        accelerator="tcg",
        tools={"sfdisk": "2.38.1"},
        steps=(StepTime(step="boot the appliance", seconds=2.5),),
    )
    (output / "manifest.json").write_text(to_json(made))
    return output


@pytest.fixture
def output(original: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed."""
    for file in original.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def output_file(role: str, path: Path) -> OutputFile:
    """A file as the manifest lists it."""
    return OutputFile(role=role, name=path.name, size=path.stat().st_size, sha256=cache.digest_of(path))


def lines(inspection: Inspection) -> str:
    """The text for people."""
    return "\n".join(to_lines(inspection))


def test_boot_entry_of_the_loader_is_shown(original: Path) -> None:
    """The installed loader's entry is there, first in BootOrder, and names our partition and the loader's file."""
    inspection = inspect(original)
    data = json.loads(json.dumps(to_data(inspection)))
    variables = {item["name"]: item for item in data["variables"]}
    first = variables[variables["BootOrder"]["value"][0]]
    esp = inspection.manifest.table.by_role("esp")
    assert first["kind"] == "boot-entry"
    assert first["value"]["description"] == "Linux Boot Manager"
    assert first["value"]["active"]
    assert first["value"]["path"] == (
        f"HD(1,GPT,{esp.guid},{esp.start:#x},{esp.sectors:#x})/File(\\EFI\\systemd\\systemd-bootx64.efi)"
    )
    assert data["findings"] == []
    assert data["name"] == "debian"


def test_text_says_what_a_person_asks_for(original: Path) -> None:
    """Files with digests, partitions, filesystems, boot entries and the checks' result are in the text."""
    inspection = inspect(original)
    text = lines(inspection)
    for item in inspection.manifest.files:
        assert f"{item.name}  " in text
        assert item.sha256 in text
    for part in inspection.manifest.table.partitions:
        assert f"PARTUUID {part.guid}" in text
    assert str(finished_disk.IDENTIFIERS.root_uuid) in text
    assert "EFI variables\n  BootOrder: Boot0003, Boot0000\n  Boot0000: " in text
    assert "  Boot0000: UiApp, hidden, application, automatic: FvFile(" in text
    assert text.endswith("every file is as it was published")


def test_variables_are_those_of_now(output: Path) -> None:
    """A store that changed since is a finding, and what it says now is what is shown."""
    finished_disk.write_store(output / STORE, output / STORE, {"BootNext": b"\x07\x00"})
    inspection = inspect(output)
    assert inspection.findings == ("efi-vars.fd is not the file that was published: its SHA-256 differs",)
    assert "  BootOrder: Boot0003, Boot0000\n  BootNext: Boot0007\n  Boot0000: " in lines(inspection)
    assert lines(inspection).endswith(inspection.findings[0])


def test_changed_image_is_a_finding(output: Path) -> None:
    """A byte of the image that changed, or bytes that are gone, are named with the file."""
    finished_disk.overwrite(output / IMAGE, (output / IMAGE).stat().st_size - 1, b"x")
    assert inspect(output).findings == (f"{IMAGE} is not the file that was published: its SHA-256 differs",)
    whole = (output / IMAGE).read_bytes()
    (output / IMAGE).write_bytes(whole[:-1])
    assert inspect(output).findings == (f"{IMAGE} has {len(whole) - 1} bytes instead of {len(whole)}",)


def test_missing_files_are_named(output: Path) -> None:
    """A folder that lacks files says which."""
    (output / IMAGE).unlink()
    (output / STORE).unlink()
    with pytest.raises(VerificationFailed, match="is not complete") as caught:
        inspect(output)
    assert caught.value.findings == (f"the file {IMAGE} is missing", f"the file {STORE} is missing")


def test_damaged_store_is_an_error(output: Path) -> None:
    """A store that is none cannot be shown, and the error says why."""
    finished_disk.overwrite(output / STORE, 100, b"\0\0")
    with pytest.raises(VerificationFailed, match="chain of variables is broken"):
        inspect(output)


def test_folder_without_a_manifest(tmp_path: Path) -> None:
    """Another folder, or none, is the caller's mistake, with the way out."""
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(SpecError, match=r"cannot read .*manifest.json: No such file") as caught:
            inspect(folder)
        assert caught.value.hint


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff\xfe", b'{"schema": 99}'])
def test_damaged_manifest(output: Path, text: bytes) -> None:
    """A manifest that is cut off, another document or of a later version is refused with a sentence."""
    (output / "manifest.json").write_bytes(text)
    with pytest.raises(SpecError, match="cannot be used: "):
        inspect(output)


def test_build_without_variables(output: Path) -> None:
    """Where no variable store was published there is nothing to decode, and that is no fault."""
    inspection = inspect(output)
    files = tuple(item for item in inspection.manifest.files if item.role != "efi-variables")
    (output / "manifest.json").write_text(to_json(evolve(inspection.manifest, files=files, variables=None)))
    (output / STORE).unlink()
    without = inspect(output)
    assert (without.variables, without.findings) == (None, ())
    assert "EFI variables" not in lines(without)


def test_text_of_a_guest_cannot_reach_the_terminal(output: Path) -> None:
    """A boot entry whose name holds control sequences is shown with them escaped."""
    entry = struct.pack("<IH", 1, 4) + "\x1b[2Jevil\0".encode("utf-16-le") + b"\x7f\xff\x04\x00"
    finished_disk.write_store(output / STORE, output / STORE, {"Boot0009": entry})
    text = lines(inspect(output))
    assert "\x1b" not in text
    assert "\\x1b[2Jevil" in text
