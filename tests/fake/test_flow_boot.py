"""What a boot takes from the manifest of what it boots."""

from pathlib import Path

import finished_disk
import pytest

from vmharness.errors import HostError, SpecError
from vmharness.events import nobody
from vmharness.flows.boot import BootOptions, find_firmware, machine_spec
from vmharness.flows.run import Run
from vmharness.host import accelerator, cache
from vmharness.host.rundir import RunDirectory
from vmharness.model.image import Format
from vmharness.model.manifest import FirmwareIdentity, Manifest, OutputFile, SourceFile


def identity(code: Path) -> FirmwareIdentity:
    """A Secure Boot build's, as a manifest has it."""
    file = SourceFile(path=code, sha256=cache.digest_of(code))
    return FirmwareIdentity(description="UEFI", code=file, template=file, features=("requires-smm",))


def test_firmware_keeps_its_features(tmp_path: Path) -> None:
    """A firmware that needs System Management Mode gets it in a boot, too, not only in the build."""
    (tmp_path / "code.fd").write_bytes(b"code")
    assert find_firmware(identity(tmp_path / "code.fd")).needs_smm


def test_another_firmware_is_refused(tmp_path: Path) -> None:
    """A code image that has changed since is named, with what to do."""
    (tmp_path / "code.fd").write_bytes(b"code")
    known = identity(tmp_path / "code.fd")
    (tmp_path / "code.fd").write_bytes(b"other code")
    with pytest.raises(HostError, match=r"code.fd, which has another content") as caught:
        find_firmware(known)
    assert "build the image again" in str(caught.value)


def test_store_of_another_size_is_refused(tmp_path: Path, run: RunDirectory) -> None:
    """A 2M store under 4M firmware would boot and keep nothing: it is refused before the start, with both named."""
    finished = finished_disk.make(tmp_path)
    folder = finished_disk.template_store().parent
    (tmp_path / "efi-vars.fd").write_bytes((folder / "OVMF_VARS.fd").read_bytes())
    files = (
        OutputFile(role="image", name=finished.disk.name, size=0, sha256=""),
        OutputFile(role="efi-variables", name="efi-vars.fd", size=0, sha256=""),
    )
    made = Manifest(
        vmharness="0.1",
        name="x",
        inputs="",
        definition=SourceFile(path=Path("/x.toml"), sha256=""),
        seed="x",
        format=Format.RAW,
        files=files,
        table=finished.layout,
        variables=None,
        firmware=identity(folder / "OVMF_CODE_4M.fd"),
        bootloader="none",
        kernel=None,
        accelerator="tcg",
        tools={},
        steps=(),
    )
    verdict = accelerator.choose("tcg")
    with pytest.raises(SpecError, match=r"has 131,072 bytes, but the code image .* needs one of 540,672"):
        machine_spec(tmp_path, made, verdict, BootOptions(), Run(directory=run, emit=nobody))
