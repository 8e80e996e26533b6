"""EFI binaries of a finished disk signed where they lie."""

from pathlib import Path

import finished_disk
import pytest
from finished_disk import Finished
from test_secure_boot_keys import efi_binary

from vmharness.disk import authenticode, esp, keys
from vmharness.disk.signing import sign_disk
from vmharness.errors import HostError, VerificationFailed
from vmharness.model.key_folder import KeyFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    """Test keys."""
    return keys.make_folder(tmp_path_factory.mktemp("made"), name="a test")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A disk with a loader, a kernel, and files that are no EFI binaries."""
    finished = finished_disk.make(tmp_path_factory.mktemp("finished"))
    finished.put("/EFI/systemd/systemd-bootx64.efi", efi_binary(1021))
    finished.put("/EFI/BOOT/BOOTX64.EFI", efi_binary(1021))
    finished.put("/debian/6.1/linux", efi_binary(5000))
    finished.put("/debian/6.1/initrd.img", b"no binary" * 1000)
    finished.put("/empty")
    finished.put("/dos.com", b"MZ" + bytes(100))
    return finished


@pytest.fixture
def finished(original: Finished, tmp_path: Path) -> Finished:
    """A copy of it to be changed."""
    return original.copy_to(tmp_path)


def read(finished: Finished, path: str) -> bytes:
    """A file's content."""
    return esp.read_file(finished.disk, finished.esp.offset, path)


BINARIES = ["/EFI/BOOT/BOOTX64.EFI", "/EFI/systemd/systemd-bootx64.efi", "/debian/6.1/linux"]


def test_every_efi_binary_is_signed(finished: Finished, made: KeyFolder, tmp_path: Path) -> None:
    """Loader, fallback and kernel are signed, with their digest and the certificate named; other files stay."""
    signed = sign_disk(finished.disk, finished.layout, made, tmp_path)
    assert [(item.partition, item.path) for item in signed] == [("esp", path) for path in BINARIES]
    assert {item.certificate for item in signed} == {"CN=a test db"}
    for item in signed:
        data = read(finished, item.path)
        (tmp_path / "binary.efi").write_bytes(data)
        assert keys.is_signed_by(tmp_path / "binary.efi", made.certificate("db"))
        assert authenticode.digest(data).hex() == item.digest
    assert read(finished, "/debian/6.1/initrd.img") == b"no binary" * 1000
    assert read(finished, "/dos.com") == b"MZ" + bytes(100)
    assert esp.check_fat(finished.disk, finished.esp.offset, finished.esp.size, tmp_path) == ()
    assert not list(tmp_path.glob("sign-*"))


def test_signing_again_changes_nothing(finished: Finished, made: KeyFolder, tmp_path: Path) -> None:
    """What the key has signed stays as it is."""
    first = sign_disk(finished.disk, finished.layout, made, tmp_path)
    before = [read(finished, path) for path in BINARIES]
    assert sign_disk(finished.disk, finished.layout, made, tmp_path) == first
    assert [read(finished, path) for path in BINARIES] == before


def test_disk_without_efi_binaries_is_refused(tmp_path: Path, made: KeyFolder) -> None:
    """A definition that asks for signatures, and a disk with nothing to sign, do not go together."""
    finished = finished_disk.make(tmp_path)
    with pytest.raises(VerificationFailed, match="no EFI binary"):
        sign_disk(finished.disk, finished.layout, made, tmp_path)


def test_no_room_for_a_signature(finished: Finished, made: KeyFolder, tmp_path: Path) -> None:
    """A partition that is full to the last cluster is named."""
    finished.put("/debian/6.1/linux", efi_binary(400_000))
    room = 512
    for size in (1 << 20, 1 << 16, 1 << 12, room):
        number = 0
        while True:
            try:
                finished.put(f"/fill-{size}-{number}", bytes(size))
            except HostError:
                break
            number += 1
    with pytest.raises(HostError, match=r"writing /EFI/BOOT/BOOTX64\.EFI to its partition"):
        sign_disk(finished.disk, finished.layout, made, tmp_path)
