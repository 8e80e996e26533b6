"""Signature databases as values, and the state of Secure Boot that they lead to."""

import hashlib
import struct
from datetime import UTC, datetime
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model import signatures
from vmharness.model.secure_boot import secure_boot
from vmharness.model.signatures import IMAGE_SECURITY, SECURE_BOOT_ENABLE
from vmharness.model.variable_records import decode
from vmharness.model.variables import GLOBAL, EfiVariable, Variables

OWNER = UUID(int=5)
X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256 = UUID("c1c41626-504c-4092-aca9-41f936934328")


def siglist(kind: UUID, *datas: bytes, header: bytes = b"") -> bytes:
    """One ``EFI_SIGNATURE_LIST``."""
    each = 16 + len(datas[0])
    size = 28 + len(header) + each * len(datas)
    return (
        kind.bytes_le
        + struct.pack("<III", size, len(header), each)
        + header
        + b"".join(OWNER.bytes_le + data for data in datas)
    )


def certificate(name: str) -> bytes:
    """A certificate for that name, DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, start, end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="module")
def der() -> bytes:
    """A certificate."""
    return certificate("Test Key")


def variable(name: str, data: bytes, guid: UUID = GLOBAL) -> EfiVariable:
    """A variable of the usual attributes."""
    return EfiVariable(name=name, guid=guid, attributes=0x27, data=data)


def test_certificates_and_hashes_are_read(der: bytes) -> None:
    """Every list of a database gives its entries, in order, whatever header a list has."""
    found = signatures.parse(siglist(X509, der) + siglist(SHA256, b"a" * 32, b"b" * 32, header=b"12"))
    assert [(key.kind, key.owner, key.data) for key in found] == [
        ("x509", OWNER, der),
        ("sha256", OWNER, b"a" * 32),
        ("sha256", OWNER, b"b" * 32),
    ]
    assert (found[0].subject, found[0].fingerprint) == ("CN=Test Key", hashlib.sha256(der).hexdigest())
    assert (found[1].subject, found[1].fingerprint) == ("", "61" * 32)


def test_keys_are_shown_by_subject_and_owner(der: bytes) -> None:
    """A key variable is shown as a list of its keys; one that holds no key lists says why it cannot be."""
    record = decode(variable("db", siglist(X509, der), IMAGE_SECURITY))
    fingerprint = hashlib.sha256(der).hexdigest()
    table = {"kind": "x509", "owner": str(OWNER), "subject": "CN=Test Key", "fingerprint": fingerprint}
    assert (record.kind, record.value) == ("keys", [table])
    damaged = decode(variable("db", siglist(X509, der)[:-1], IMAGE_SECURITY))
    assert (damaged.kind, damaged.value["why"]) == (
        "damaged",
        f"the signature list at byte 0 has the impossible size {44 + len(der)}",
    )
    assert decode(variable("db", siglist(X509, der))).kind == "bytes"  # another vendor's


def test_garbage_for_a_certificate_has_no_subject() -> None:
    """A list may hold anything for a certificate: it has its fingerprint then, and no name."""
    (key,) = signatures.parse(siglist(X509, b"no certificate"))
    assert key.subject == ""
    assert "cannot be read" in str(key)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(27), "at byte 0 is cut off"),
        (siglist(SHA256, b"a" * 32) + b"x", "at byte 76 is cut off"),
        (SHA256.bytes_le + struct.pack("<III", 10, 0, 48), "impossible size 10"),
        (SHA256.bytes_le + struct.pack("<III", 76, 60, 48) + bytes(48), "impossible size 76"),
        (SHA256.bytes_le + struct.pack("<III", 76, 0, 16) + bytes(48), "impossible size 16"),
        (SHA256.bytes_le + struct.pack("<III", 76, 0, 0) + bytes(48), "impossible size 0"),
        (SHA256.bytes_le + struct.pack("<III", 76, 0, 47) + bytes(48), "impossible size 47"),
    ],
)
def test_damaged_databases_are_refused(data: bytes, message: str) -> None:
    """Sizes that cannot be are named with their byte."""
    with pytest.raises(ValueError, match=message):
        signatures.parse(data)


@given(
    st.binary()
    | st.lists(st.binary(min_size=1, max_size=40)).map(lambda datas: b"".join(siglist(X509, x) for x in datas))
)
def test_garbage_is_refused_as_a_value(data: bytes) -> None:
    """Bytes that are no signature database raise ValueError and nothing else; a variable of them can be shown."""
    decode(variable("dbx", data, IMAGE_SECURITY))
    try:
        found = signatures.parse(data)
    except ValueError:
        return
    assert sum(len(key.data) for key in found) <= len(data)


@pytest.mark.parametrize(
    ("pk", "enable", "enforced", "setup_mode"),
    [
        (False, None, False, True),
        (False, b"\x01", False, True),
        (True, None, True, False),
        (True, b"\x01", True, False),
        (True, b"\x00", False, False),
    ],
)
def test_state_that_a_store_leads_to(
    der: bytes, pk: bool, enable: bytes | None, enforced: bool, setup_mode: bool
) -> None:
    """Without a platform key nothing is enforced; with one it is, unless edk2's switch says no."""
    variables = [variable("PK", siglist(X509, der))] if pk else []
    if enable is not None:
        variables.append(variable("SecureBootEnable", enable, SECURE_BOOT_ENABLE[1]))
    state = secure_boot(Variables(variables=tuple(variables)))
    assert (state.enforced, state.setup_mode) == (enforced, setup_mode)
    assert list(state.keys) == (["PK"] if pk else [])


def test_state_that_a_running_system_shows(der: bytes) -> None:
    """What the firmware says about itself counts more than what may be concluded."""
    variables = (variable("PK", siglist(X509, der)), variable("SecureBoot", b"\0"), variable("SetupMode", b"\1"))
    state = secure_boot(Variables(variables=variables))
    assert (state.enforced, state.setup_mode) == (False, True)
