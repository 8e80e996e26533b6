"""Secure Boot keys as files, and EFI binaries signed with them. The door to sbsign and to key making."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from vmharness.disk import authenticode
from vmharness.errors import HostError, SpecError
from vmharness.host import proc
from vmharness.model.key_folder import NAMES, KeyFolder

_BITS = 2048
_YEARS = 20


def open_folder(path: Path, *, signing: bool = False) -> KeyFolder:
    """The keys of a folder, each certificate checked to be one.

    :param signing: whether ``db``'s private key is needed, too, and belongs to its certificate.
    :raises SpecError: one is missing or damaged.
    """
    folder = KeyFolder(path=path)
    for name in NAMES:
        read_certificate(folder.certificate(name))
        if b"-----BEGIN" not in folder.certificate(name).read_bytes():
            raise SpecError(f"{folder.certificate(name)} is not PEM", hint="`openssl x509 -inform DER` converts it")
    if signing:
        _require_pair(folder.certificate("db"), folder.private("db"))
    return folder


def make_folder(path: Path, *, name: str = "vmharness test") -> KeyFolder:
    """Make a folder of new keys (RSA-2048, self-signed), for tests.

    :param name: begins the keys' common names, such as ``vmharness test PK``.
    :raises SpecError: one of the files is there already; nothing is overwritten.
    :raises HostError: they cannot be written.
    """
    folder = KeyFolder(path=path)
    there = [file for key in NAMES for file in (folder.certificate(key), folder.private(key)) if file.exists()]
    if there:
        raise SpecError(f"{there[0]} is there already", hint="choose a new folder, or use the keys that are there")
    try:
        path.mkdir(parents=True, exist_ok=True)
        for key in NAMES:
            certificate, private = _make(f"{name} {key}")
            with os.fdopen(os.open(folder.private(key), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(private)
            folder.certificate(key).write_bytes(certificate)
    except OSError as error:
        raise HostError(f"cannot write keys to {path}: {error.strerror}") from error
    return folder


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a file, PEM or DER.

    :raises SpecError: there is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot read the certificate {path}: {error.strerror}") from error
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise SpecError(f"{path} is no X.509 certificate, neither PEM nor DER") from error


def sign(binary: Path, folder: KeyFolder) -> None:
    """Sign an EFI binary with ``db``'s key, in place; one that the key has signed before stays as it is.

    :raises HostError: it cannot be signed, or the signature does not verify.
    """
    certificate = folder.certificate("db")
    if is_signed_by(binary, certificate):
        return
    aside = binary.with_name(f"{binary.name}.signed")
    argv: list[str | Path] = ["sbsign", "--key", folder.private("db"), "--cert", certificate, "--output", aside, binary]
    proc.run(argv, doing=f"signing {binary.name}")
    if not is_signed_by(aside, certificate):
        aside.unlink()
        raise HostError(f"the signature of {binary.name} does not verify with {certificate}")
    os.replace(aside, binary)  # noqa: PTH105 -- says what it does better than rename


def is_signed_by(binary: Path, certificate: Path) -> bool:
    """Whether an EFI binary carries a valid signature of that certificate (PEM).

    :raises HostError: it is no EFI binary.
    """
    done = proc.run(["sbverify", "--cert", certificate, binary], doing=f"verifying {binary.name}", ok=(0, 1))
    return done.status == 0


def digests(binary: Path) -> tuple[bytes, ...]:
    """The digests by which the firmware knows an EFI binary, as it is and as it will be when it is signed.

    :raises SpecError: it is none.
    """
    try:
        return authenticode.digests(binary.read_bytes())
    except OSError as error:
        raise SpecError(f"cannot read the EFI binary {binary}: {error.strerror}") from error
    except ValueError as error:
        raise SpecError(f"{binary}: {error}") from error


def _require_pair(certificate: Path, private: Path) -> None:
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), None)
    except OSError as error:
        raise SpecError(f"cannot read the private key {private}: {error.strerror}") from error
    except (ValueError, TypeError) as error:  # TypeError: it needs a password
        raise SpecError(f"{private} is no private key in PEM without a password") from error
    if key.public_key() != read_certificate(certificate).public_key():
        raise SpecError(f"the private key {private} does not belong to the certificate {certificate}")


def _make(common_name: str) -> tuple[bytes, bytes]:
    """A new certificate and its private key, both PEM."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=_BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    start = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - dt.timedelta(days=1))  # the clock of a machine may be in another time zone
        .not_valid_after(start + dt.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    private = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(form), private
