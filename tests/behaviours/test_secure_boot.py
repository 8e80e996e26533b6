"""Secure Boot, both sides: what is signed boots from its disk, and what is not is refused within seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import finished_disk
import pytest
import trees
from running import Done, Workplace
from unified import of_minimal

from vmharness.disk import esp
from vmharness.disk.enrolment import Enrolment
from vmharness.flows import efivars
from vmharness.host import proc

SIGNED = """
[efi]
firmware = "secure-boot"

[secure-boot]
generate = true
"""
UNIFIED = """
[[contents]]
source = "unified.efi"
target = "/opt/unified.efi"
"""
LOADERS = ("/EFI/systemd/systemd-bootx64.efi", "/EFI/BOOT/BOOTX64.EFI")
REFUSED = r'failed to load Boot[0-9A-F]{4} "Linux Boot Manager" .*: Access Denied'
KERNEL_REFUSED = r"Error loading \S*\\linux: Access Denied"
SECONDS = 120
"""How long a refusal may take: 5 to 10 s on a machine that does nothing else, most of it the firmware's own."""


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A signed image with its keys; no test changes it."""
    text = trees.MINIMAL.replace("[root]", 'format = "raw"\n\n[root]')
    folder = tmp_path_factory.mktemp("signed")
    yield Workplace(folder=folder).build(text + trees.SYSTEMD_BOOT + SIGNED)
    shutil.rmtree(folder)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """An empty workplace."""
    return Workplace(folder=tmp_path)


@pytest.fixture
def machine(signed: Path, place: Workplace) -> Iterator[Path]:
    """A copy of the signed image, to be changed."""
    copy = place.folder / "machine"
    proc.run(["cp", "--recursive", "--sparse=always", signed, copy], doing="copying the machine")
    yield copy
    shutil.rmtree(copy)


def boot(place: Workplace, machine: Path, until: str) -> Done:
    """Boot a machine."""
    return place.run("boot", machine, "--until", until, "--within", str(SECONDS), "--json")


def transcript(done: Done) -> str:
    """What the machine printed."""
    return Path(done.json()["transcript"]).read_bytes().decode("utf-8", "replace")


def rewrite(machine: Path, path: str, change: str) -> None:
    """Take a file from the machine's ESP, change it on the host, and put it back."""
    disk, offset = trees.raw_disk(machine, machine), trees.esp_of(machine)
    file = machine / "changed.efi"
    esp.copy_out(disk, offset, path, file)
    if change == "strip":
        proc.run(["sbattach", "--remove", file], doing="removing the signature")
    else:
        middle = file.stat().st_size // 2
        finished_disk.overwrite(file, middle, bytes([file.read_bytes()[middle] ^ 0xFF]))
    esp.copy_in(disk, offset, file, path)


def test_signed_image_boots(signed: Path, place: Workplace) -> None:
    """Loader and kernel boot from the disk, and the kernel says that Secure Boot is on."""
    done = boot(place, signed, "login")
    assert done.status == 0, done.stdout
    assert "Secure boot enabled" in transcript(done)


def test_signed_unified_kernel_image_boots(place: Workplace) -> None:
    """An image of kernel, initrd and command line is signed as a whole, and the firmware starts it."""
    (place.folder / "unified.efi").write_bytes(of_minimal("root=LABEL=root rw console=ttyS0"))
    install = trees.shell("mkdir -p $ESP/EFI/BOOT && cp /opt/unified.efi $ESP/EFI/BOOT/BOOTX64.EFI")
    output = place.build(trees.MINIMAL.replace('"48M"', '"64M"') + install + UNIFIED + SIGNED)
    done = boot(place, output, "login")
    assert done.status == 0, done.stdout
    assert "Secure boot enabled" in transcript(done)
    shutil.rmtree(output)


@pytest.mark.parametrize("change", ["strip", "tamper"])
def test_loader_is_refused(machine: Path, place: Workplace, change: str) -> None:
    """A loader without its signature, or with one byte changed, is not started, and the firmware says why."""
    for path in LOADERS:
        rewrite(machine, path, change)
    done = boot(place, machine, REFUSED)
    assert done.status == 0, transcript(done)


def test_revoked_loader_is_refused(machine: Path, place: Workplace) -> None:
    """A loader whose digest is in dbx is not started although it is signed by a key of db."""
    loader = machine / "loader.efi"
    esp.copy_out(trees.raw_disk(machine, machine), trees.esp_of(machine), LOADERS[0], loader)
    efivars.enroll(machine / "efi-vars.fd", Enrolment(dbx=(loader,)))
    done = boot(place, machine, REFUSED)
    assert done.status == 0, transcript(done)


def test_revoked_signer_is_refused(machine: Path, place: Workplace) -> None:
    """With the certificate itself in dbx, nothing that it signed is started."""
    efivars.enroll(machine / "efi-vars.fd", Enrolment(dbx=(machine / "db.crt",)))
    done = boot(place, machine, REFUSED)
    assert done.status == 0, transcript(done)


def test_tampered_kernel_is_refused(machine: Path, place: Workplace) -> None:
    """The loader is started, and the firmware refuses the kernel that it wants to start; the loader says so."""
    files = esp.list_files(trees.raw_disk(machine, machine), trees.esp_of(machine))
    (kernel,) = (path for path in files if path.endswith("/linux"))
    rewrite(machine, kernel, "tamper")
    done = boot(place, machine, KERNEL_REFUSED)
    assert done.status == 0, transcript(done)


def test_without_secure_boot_everything_boots(machine: Path, place: Workplace) -> None:
    """The same tampered loader starts once Secure Boot is off: it was the signature and nothing else."""
    for path in LOADERS:
        rewrite(machine, path, "strip")
    efivars.enroll(machine / "efi-vars.fd", Enrolment(secure_boot=False))
    done = boot(place, machine, "login")
    assert done.status == 0, done.stdout
    assert "Secure boot enabled" not in transcript(done)


def test_another_s_keys_refuse_it(machine: Path, place: Workplace, tmp_path: Path) -> None:
    """A machine with another owner's keys does not start what these keys signed."""
    store = machine / "efi-vars.fd"
    efivars.delete(store, ["PK", "KEK", "db"])
    efivars.enroll(store, Enrolment(), generate=tmp_path / "other")
    done = boot(place, machine, REFUSED)
    assert done.status == 0, transcript(done)
