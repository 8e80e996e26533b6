"""What a boot takes from the manifest of what it boots."""

from pathlib import Path

import pytest

from vmharness.errors import HostError, SpecError
from vmharness.host import cache
from vmharness.model.manifest import FirmwareIdentity, SourceFile
from vmharness.testing import BootState, Bus, Disk, firmware, fork
from vmharness.testing.state import find_firmware


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


def test_store_of_another_size_is_refused(tmp_path: Path) -> None:
    """A 2M store under 4M firmware would boot and keep nothing: it is refused before the start, with both named."""
    ovmf = firmware("ovmf")
    assert ovmf is not None
    store = ovmf.template.with_name("OVMF_VARS.fd")
    with pytest.raises(SpecError, match=r"has 131,072 bytes, but the code image .* needs one of 540,672"):
        fork(BootState(disks=(), firmware=ovmf, variables=store), tmp_path)


def test_fork_leaves_the_state_alone(tmp_path: Path) -> None:
    """A fork has an overlay of its own over the disk, and a store of its own; what is written there stays there."""
    disk = tmp_path / "base.raw"
    disk.write_bytes(b"base" * 1024)
    folder = tmp_path / "fork"
    folder.mkdir()
    state = BootState(disks=(Disk(name="disk", path=disk),), firmware=firmware("ovmf"))
    own = fork(state, folder)
    assert own.disks[0].path.parent == folder
    assert own.disks[0].format == "qcow2"
    assert own.variables is not None
    own.variables.write_bytes(b"ruined")
    assert state.firmware is not None
    assert state.firmware.template.read_bytes() != b"ruined"
    assert BootState.of(folder) == own, "a fork's folder can be opened again"


def test_bus_and_firmware_change_nothing_else(tmp_path: Path) -> None:
    """A disk that moves to another bus keeps its store; another firmware begins with a blank one."""
    state = BootState(disks=(Disk(name="disk", path=tmp_path / "x"),), variables=tmp_path / "vars")
    moved = state.on(Bus.NVME, block_size=4096)
    assert (moved.disks[0].bus, moved.disks[0].block_size, moved.variables) == (Bus.NVME, 4096, state.variables)
    assert state.with_firmware(None).variables is None
    with pytest.raises(SpecError, match="there is no disk called 'other'"):
        state.on(Bus.NVME, disk="other")
