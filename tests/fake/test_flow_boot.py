"""What a boot takes from the manifest of what it boots."""

from pathlib import Path

import pytest

from vmharness.errors import HostError
from vmharness.flows.boot import find_firmware
from vmharness.host import cache
from vmharness.model.manifest import FirmwareIdentity, SourceFile


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
