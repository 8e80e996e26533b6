"""Signature databases (PK, KEK, db, dbx): ``EFI_SIGNATURE_LIST`` as values (UEFI 2.10, section 32.4.1)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from uuid import UUID

from attrs import frozen

IMAGE_SECURITY = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
"""Vendor of ``db`` and its like (``EFI_IMAGE_SECURITY_DATABASE_GUID``)."""

SHIM = UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
"""Vendor of shim's own lists."""

# edk2's own: whether a firmware with a PK enforces Secure Boot, and whether its keys may be changed in its menu.
SECURE_BOOT_ENABLE = ("SecureBootEnable", UUID("f0a30bc7-af08-4556-99c4-001009c93a44"))
CUSTOM_MODE = ("CustomMode", UUID("c076ec0c-7028-4399-a072-71ee5c448b9f"))

X509 = "x509"
SHA256 = "sha256"
_KINDS = {
    UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072"): X509,
    UUID("c1c41626-504c-4092-aca9-41f936934328"): SHA256,
    UUID("826ca512-cf10-4ac9-b187-be01496631bd"): "sha1",
    UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): "sha384",
    UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"): "sha512",
    UUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6"): "rsa2048",
    UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): "x509-sha256",
    UUID("452e8ced-dfff-4b8c-ae01-5118862e682c"): "external-management",
}
_HEADER = struct.Struct("<16sIII")  # type, size of the list, size of its own header, size of each signature
_OWNER = 16


@frozen(kw_only=True)
class Signature:
    """One entry of a signature database.

    :param kind: ``x509`` (a certificate, DER), ``sha256`` (the Authenticode digest of a binary), another kind's name,
        or the GUID of an unknown one.
    :param owner: who brought it; any GUID that its owner chose.
    :param data: the certificate, or the digest's bytes.
    """

    kind: str
    owner: UUID
    data: bytes

    @property
    def fingerprint(self) -> str:
        """What names it in hexadecimal: the SHA-256 of a certificate; a digest is its own name."""
        return hashlib.sha256(self.data).hexdigest() if self.kind == X509 else self.data.hex()

    @property
    def subject(self) -> str:
        """Whom a certificate is for (RFC 4514 text, such as ``CN=Test``); empty for other kinds and damaged ones."""
        if self.kind != X509:
            return ""
        from cryptography import x509  # noqa: PLC0415 -- takes 0.1 s, and most stores hold no keys

        try:
            return x509.load_der_x509_certificate(self.data).subject.rfc4514_string()
        except ValueError:
            return ""

    def __str__(self) -> str:
        if self.kind == X509:
            return (
                f"certificate {self.subject or 'that cannot be read'} ({self.fingerprint[:16]}..., owner {self.owner})"
            )
        return f"{self.kind} {self.fingerprint} (owner {self.owner})"


def parse(data: bytes) -> tuple[Signature, ...]:
    """The entries of a signature database, in order.

    :raises ValueError: with a sentence that names the byte, if it is damaged.
    """
    return tuple(_signatures(data))


def _signatures(data: bytes) -> Iterator[Signature]:
    at = 0
    while at < len(data):
        if at + _HEADER.size > len(data):
            raise ValueError(f"the signature list at byte {at} is cut off")
        kind, size, header, each = _HEADER.unpack_from(data, at)
        begin, end = at + _HEADER.size + header, at + size
        if end > len(data) or begin > end:
            raise ValueError(f"the signature list at byte {at} has the impossible size {size}")
        if each <= _OWNER or (end - begin) % each:
            raise ValueError(f"the signature list at byte {at} has signatures of the impossible size {each}")
        guid = UUID(bytes_le=kind)
        for place in range(begin, end, each):
            yield Signature(
                kind=_KINDS.get(guid, str(guid)),
                owner=UUID(bytes_le=data[place : place + _OWNER]),
                data=data[place + _OWNER : place + each],
            )
        at = end
