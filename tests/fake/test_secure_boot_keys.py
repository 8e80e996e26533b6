"""Secure Boot keys: made, enrolled into stores, and used to sign EFI binaries."""

import shutil
import struct
from pathlib import Path

import finished_disk
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from test_disk_variables import first_opinion, second_opinion

from vmharness.cli.main import cli
from vmharness.disk import authenticode, efivars, enrolment, keys
from vmharness.disk.enrolment import Enrolment
from vmharness.errors import HostError, SpecError, VerificationFailed
from vmharness.flows import efivars as flow
from vmharness.model.key_folder import NAMES, KeyFolder
from vmharness.model.secure_boot import secure_boot
from vmharness.model.signatures import IMAGE_SECURITY
from vmharness.model.variables import GLOBAL, EfiVariable


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> KeyFolder:
    """Test keys."""
    return keys.make_folder(tmp_path_factory.mktemp("made") / "keys", name="a test")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with boot entries of its own."""
    path = tmp_path / "efi-vars.fd"
    finished_disk.write_store(path, finished_disk.template_store(), {"BootOrder": b"\3\0", "Odd": b"123"})
    return path


def efi_binary(length: int = 1024, sections: int = 2, *, directories: int = 16) -> bytes:
    """A small PE32+ image: headers of 512 bytes, sections of 128, then ``length`` bytes more that belong to none."""
    optional = bytearray(112 + 8 * directories)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 56, 0x1000, 512)  # size of image, of headers
    struct.pack_into("<I", optional, 108, directories)
    head = bytearray(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + b"PE\0\0")
    head += struct.pack("<HHIIIHH", 0x8664, sections, 0, 0, 0, len(optional), 0x22) + optional
    for number in range(sections):
        place = 512 + 128 * number
        head += struct.pack("<8sIIIIIIHHI", b".text", 128, 0x1000 * (number + 1), 128, place, 0, 0, 0, 0, 0x60000020)
    body = b"".join(bytes([number + 1]) * 128 for number in range(sections))
    return bytes(head).ljust(512, b"\0") + body + b"x" * length


def vmharness(*arguments: object, status: int = 0) -> Result:
    """Run the command line."""
    result = CliRunner().invoke(cli, ["efivars", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


def subjects(path: Path) -> dict[str, list[str]]:
    """What each signature database of a store holds: subjects of certificates, and digests."""
    found = secure_boot(efivars.read_store(path)).keys
    return {name: [key.subject or key.fingerprint for key in keys] for name, keys in found.items()}


def test_keys_are_made_private(made: KeyFolder) -> None:
    """Certificates belong to their keys, and the keys are nobody else's."""
    assert keys.open_folder(made.path, signing=True) == made
    assert {path.name for path in made.path.iterdir()} == {f"{name}.{end}" for name in NAMES for end in ("crt", "key")}
    assert {made.private(name).stat().st_mode & 0o777 for name in NAMES} == {0o600}
    found = keys.read_certificate(made.certificate("db"))
    assert found.subject.rfc4514_string() == "CN=a test db"
    found.verify_directly_issued_by(found)


def test_keys_are_never_overwritten(made: KeyFolder) -> None:
    """A second call in the same folder is refused before anything is written."""
    before = made.private("PK").read_bytes()
    with pytest.raises(SpecError, match="is there already"):
        keys.make_folder(made.path)
    assert made.private("PK").read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "KEK.crt").unlink(), "cannot read the certificate .*KEK.crt"),
        (lambda folder: (folder / "KEK.crt").write_text("no"), "is no X.509 certificate"),
        (lambda folder: (folder / "db.key").unlink(), "cannot read the private key"),
        (lambda folder: (folder / "db.key").write_text("no"), "is no private key"),
        (lambda folder: shutil.copyfile(folder / "PK.key", folder / "db.key"), "does not belong to the certificate"),
        (lambda folder: der(folder / "db.crt", folder / "db.crt"), "is not PEM"),
    ],
)
def test_damaged_folders_are_refused(made: KeyFolder, tmp_path: Path, damage, message: str) -> None:
    """A folder of keys is checked before anything is signed with it."""
    folder = Path(shutil.copytree(made.path, tmp_path / "keys"))
    damage(folder)
    with pytest.raises(SpecError, match=message):
        keys.open_folder(folder, signing=True)


def der(source: Path, target: Path) -> Path:
    """A certificate as DER."""
    target.write_bytes(keys.read_certificate(source).public_bytes(Encoding.DER))
    return target


def test_enrolled_keys_are_read_back(made: KeyFolder, store: Path, tmp_path: Path) -> None:
    """Each database holds its key, Secure Boot is on, and all else in the store is as it was."""
    before = efivars.read_store(store).variables
    state = enrolment.enroll(store, enrolment.of_folder(made))
    assert (state.enforced, state.setup_mode) == (True, False)
    assert subjects(store) == {"PK": ["CN=a test PK"], "KEK": ["CN=a test KEK"], "db": ["CN=a test db"]}
    after = efivars.read_store(store)
    assert after.variables[: len(before)] == before
    for name, guid in (("PK", GLOBAL), ("KEK", GLOBAL), ("db", IMAGE_SECURITY)):
        found = after.get(name, guid)
        assert found is not None
        assert (found.attributes, bool(found.time)) == (0x27, True)
    assert first_opinion(store) == second_opinion(store, tmp_path)


def test_databases_are_added_to(made: KeyFolder, store: Path, tmp_path: Path) -> None:
    """A second enrolment adds keys and replaces the platform key; one that changes nothing writes nothing."""
    enrolment.enroll(store, enrolment.of_folder(made))
    before = store.read_bytes()
    enrolment.enroll(store, Enrolment(db=(made.certificate("db"),)))
    assert efivars.read_store(store).variables == _variables(before, tmp_path)
    other = keys.make_folder(tmp_path / "other", name="other")
    enrolment.enroll(
        store, Enrolment(pk=other.certificate("PK"), db=(der(other.certificate("db"), tmp_path / "db.der"),))
    )
    assert subjects(store) == {
        "PK": ["CN=other PK"],
        "KEK": ["CN=a test KEK"],
        "db": ["CN=a test db", "CN=other db"],
    }


def _variables(blob: bytes, scratch: Path) -> tuple[EfiVariable, ...]:
    (scratch / "before.fd").write_bytes(blob)
    return efivars.read_store(scratch / "before.fd").variables


def test_variable_of_the_same_name_survives(made: KeyFolder, store: Path) -> None:
    """Another vendor's ``db`` is not taken for the signature database."""
    flow.set_bytes(store, "db", b"mine", guid=GLOBAL)
    enrolment.enroll(store, enrolment.of_folder(made))
    mine = efivars.read_store(store).get("db", GLOBAL)
    assert mine is not None
    assert mine.data == b"mine"


def test_secure_boot_is_switched(made: KeyFolder, store: Path) -> None:
    """With a platform key it can be switched off and on; without one it cannot be on."""
    assert "no platform key" in vmharness("enroll", store, "--secure-boot", status=2).output
    vmharness("enroll", store, "--pk", made.certificate("PK"), "--db", made.certificate("db"), "--secure-boot")
    assert (
        vmharness("enroll", store, "--no-secure-boot").output == "Secure Boot: off, although there is a platform key\n"
    )
    assert vmharness("enroll", store, "--secure-boot").output == "Secure Boot: on\n"


def test_generated_keys_are_enrolled(store: Path, tmp_path: Path) -> None:
    """One command makes keys and enrolls them; a second one does not overwrite them."""
    assert vmharness("enroll", store, "--generate", tmp_path / "keys").output == "Secure Boot: on\n"
    assert subjects(store)["db"] == ["CN=vmharness test db"]
    before = store.read_bytes()
    assert "is there already" in vmharness("enroll", store, "--generate", tmp_path / "keys", status=2).output
    assert store.read_bytes() == before


def test_damaged_store_makes_no_keys(store: Path, tmp_path: Path) -> None:
    """What cannot be enrolled into is found before keys are made."""
    finished_disk.overwrite(store, 100, b"\0\0")
    with pytest.raises(VerificationFailed):
        flow.enroll(store, Enrolment(), generate=tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--pk", b"no certificate", "is no X.509 certificate"),
        ("--db", b"no certificate", "is no X.509 certificate"),
        ("--kek", efi_binary(), "is no X.509 certificate"),
        ("--dbx", efi_binary()[:700], "sections reach beyond its end"),
    ],
)
def test_other_files_are_refused(store: Path, tmp_path: Path, option: str, content: bytes, message: str) -> None:
    """What is neither certificate nor, for db and dbx, EFI binary changes nothing."""
    before = store.read_bytes()
    (tmp_path / "file").write_bytes(content)
    assert message in vmharness("enroll", store, option, tmp_path / "file", status=2).output
    assert store.read_bytes() == before


def test_enroll_asks_for_something(store: Path) -> None:
    """An enrolment of nothing, or of two platform keys, is refused."""
    assert "give keys" in vmharness("enroll", store, status=2).output
    assert "cannot be given" in vmharness("enroll", store, "--generate", "x", "--pk", "y", status=2).output


@pytest.mark.parametrize("length", [1024, 1021, 0])
def test_signing_keeps_what_the_firmware_knows(made: KeyFolder, tmp_path: Path, length: int) -> None:
    """Sbsign signs the digest that we compute; a signed binary verifies with its own certificate and no other."""
    binary = tmp_path / "a.efi"
    binary.write_bytes(efi_binary(length))
    known = keys.digests(binary)
    assert len(known) == (2 if length % 8 else 1)
    keys.sign(binary, made)
    assert authenticode.digest(binary.read_bytes()) == known[-1]
    assert known[-1] in binary.read_bytes()  # sbsign's own opinion
    assert keys.is_signed_by(binary, made.certificate("db"))
    assert not keys.is_signed_by(binary, made.certificate("KEK"))
    signed = binary.read_bytes()
    keys.sign(binary, made)
    assert binary.read_bytes() == signed


def test_tampering_is_noticed(made: KeyFolder, tmp_path: Path) -> None:
    """One byte more or other, and the digest is another one: the signature no longer verifies."""
    binary = tmp_path / "a.efi"
    binary.write_bytes(efi_binary())
    keys.sign(binary, made)
    known = authenticode.digest(binary.read_bytes())
    finished_disk.overwrite(binary, 600, b"tampered")
    assert authenticode.digest(binary.read_bytes()) != known
    assert not keys.is_signed_by(binary, made.certificate("db"))


def test_what_cannot_be_signed(made: KeyFolder, tmp_path: Path) -> None:
    """A text is no EFI binary, and that is said; nothing is left behind."""
    text = tmp_path / "text.efi"
    text.write_text("no binary")
    with pytest.raises(HostError, match=r"text\.efi"):
        keys.sign(text, made)
    with pytest.raises(SpecError, match="it is no EFI binary"):
        keys.digests(text)
    assert [path.name for path in tmp_path.iterdir()] == ["text.efi"]


def test_revocation_by_digest(made: KeyFolder, store: Path, tmp_path: Path) -> None:
    """A binary in dbx is there by the digests of its unsigned and its signed form."""
    binary = tmp_path / "a.efi"
    binary.write_bytes(efi_binary(1021))
    vmharness("enroll", store, "--dbx", binary)
    unsigned = authenticode.digest(binary.read_bytes())
    keys.sign(binary, made)
    assert subjects(store)["dbx"] == [unsigned.hex(), authenticode.digest(binary.read_bytes()).hex()]
    vmharness("enroll", store, "--dbx", binary)
    assert len(subjects(store)["dbx"]) == 2


def test_binary_without_room_for_signatures() -> None:
    """An image with few data directories has a digest, too."""
    small = efi_binary(directories=4)
    assert authenticode.is_efi_binary(small)
    assert authenticode.digest(small) != authenticode.digest(small[:-1] + b"y")


@given(st.binary() | st.integers(0, 1792).map(lambda length: efi_binary()[:length]))
def test_garbage_is_no_efi_binary(data: bytes) -> None:
    """Whatever is cut off or no binary raises ValueError and nothing else."""
    try:
        assert len(authenticode.digest(data)) == 32
    except ValueError:
        return
    assert authenticode.is_efi_binary(data)
