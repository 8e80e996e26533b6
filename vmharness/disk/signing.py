"""The EFI binaries of a finished disk, signed for Secure Boot while the machine is off.

The host does this, so that no guest ever sees the private key.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from vmharness.disk import authenticode, esp, keys
from vmharness.errors import VerificationFailed
from vmharness.model.key_folder import KeyFolder
from vmharness.model.manifest import SignedFile
from vmharness.model.partitions import Fat, Layout, Partition


def sign_disk(disk: Path, layout: Layout, folder: KeyFolder, scratch: Path) -> tuple[SignedFile, ...]:
    """Sign every EFI binary of the EFI system partition and the boot partition with ``db``'s key, kernels among them.

    :param scratch: folder that takes a copy of each for as long as it is signed.
    :returns: what is signed now, in order.
    :raises HostError: one cannot be signed, or does not fit on its partition any more.
    :raises VerificationFailed: there is nothing that could be signed.
    """
    signed = []
    for part in layout.partitions:
        if part.role in {"esp", "boot"} and isinstance(part.filesystem, Fat):
            signed += list(_sign_partition(disk, part, folder, scratch))
    if not signed:
        raise VerificationFailed("there is no EFI binary on the EFI system partition that could be signed")
    return tuple(signed)


def _sign_partition(disk: Path, part: Partition, folder: KeyFolder, scratch: Path) -> Iterator[SignedFile]:
    certificate = keys.read_certificate(folder.certificate("db"))
    for path in sorted(esp.list_files(disk, part.offset)):
        with tempfile.TemporaryDirectory(prefix="sign-", dir=scratch) as place:
            binary = Path(place) / "binary.efi"
            esp.copy_out(disk, part.offset, path, binary)
            if not authenticode.is_efi_binary(binary.read_bytes()):
                continue
            time = binary.stat().st_mtime_ns
            keys.sign(binary, folder)
            os.utime(binary, ns=(time, time))
            esp.copy_in(disk, part.offset, binary, path)
            yield SignedFile(
                partition=part.role,
                path=path,
                digest=authenticode.digest(binary.read_bytes()).hex(),
                certificate=certificate.subject.rfc4514_string(),
                fingerprint=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
            )
