"""Secure Boot keys put into a variable store. The door to virt-firmware, which is only ever run as a program.

virt-firmware makes the key variables from what the store has of them, in a scratch store of nothing else, and they are
put into the store as they came out: its other variables are none of virt-firmware's business.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import UUID

from attrs import frozen

from vmharness.disk import authenticode, efivars, keys
from vmharness.errors import SpecError
from vmharness.host import proc
from vmharness.model.key_folder import OWNER, KeyFolder
from vmharness.model.secure_boot import DATABASES, SecureBoot, secure_boot
from vmharness.model.signatures import SECURE_BOOT_ENABLE


@frozen(kw_only=True)
class Enrolment:
    """What is to be enrolled: certificates, or EFI binaries by their digests in ``db`` and ``dbx``.

    :param pk: takes the place of the platform key that is there.
    :param kek: is added, as ``db`` (what may boot) and ``dbx`` (what may not) are.
    :param owner: whom the keys belong to.
    :param secure_boot: whether Secure Boot is enforced from then on; None leaves it as it is.
    """

    pk: Path | None = None
    kek: tuple[Path, ...] = ()
    db: tuple[Path, ...] = ()
    dbx: tuple[Path, ...] = ()
    owner: UUID = OWNER
    secure_boot: bool | None = None


def of_folder(folder: KeyFolder) -> Enrolment:
    """All the keys of a folder, and Secure Boot on."""
    return Enrolment(
        pk=folder.certificate("PK"),
        kek=(folder.certificate("KEK"),),
        db=(folder.certificate("db"),),
        secure_boot=True,
    )


def enroll(path: Path, enrolment: Enrolment) -> SecureBoot:
    """Put keys into the store of a machine that is off.

    :returns: the state that the store leads to.
    :raises SpecError: a file is neither a certificate nor, in ``db`` and ``dbx``, an EFI binary; or Secure Boot is to
        be on without a platform key, and no firmware enforces it so.
    :raises HostError: a machine is using the store, or a program is missing.
    :raises VerificationFailed: the store is damaged or too small; nothing was changed.
    """
    words = _words(enrolment)
    before = efivars.read_store(path)
    with tempfile.TemporaryDirectory(prefix="vmharness-") as folder:
        scratch = Path(folder) / "keys.fd"
        scratch.write_bytes(path.read_bytes())
        ours = {*DATABASES.items(), SECURE_BOOT_ENABLE}
        others = [(item.name, item.guid) for item in before.variables if (item.name, item.guid) not in ours]
        efivars.edit(scratch, delete=others)
        if words:
            proc.run(["virt-fw-vars", "--inplace", scratch, *words], doing="enrolling keys")
        made = efivars.read_store(scratch)
    state = secure_boot(made)
    if enrolment.secure_boot and not state.enforced:
        raise SpecError(
            f"{path} has no platform key, without which no firmware enforces Secure Boot", hint="enroll a PK, too"
        )
    # a key that was there already is not written again: it keeps its time
    changed = [item for item in made.variables if before.get(item.name, item.guid) != item]
    efivars.edit(path, put=changed)
    return state


def _words(enrolment: Enrolment) -> list[str | Path]:
    """The enrolment in virt-fw-vars' words."""
    owner = str(enrolment.owner)
    words: list[str | Path] = []
    if enrolment.pk is not None:
        words += ["--set-pk", owner, _certificate(enrolment.pk)]
    for path in enrolment.kek:
        words += ["--add-kek", owner, _certificate(path)]
    for name, paths in (("db", enrolment.db), ("dbx", enrolment.dbx)):
        for path in paths:
            words += _certificate_or_digest(name, owner, path)
    if enrolment.secure_boot is not None:  # not --secure-boot, which brings a dbx that nobody asked for
        words += ["--set-true" if enrolment.secure_boot else "--set-false", SECURE_BOOT_ENABLE[0]]
    return words


def _certificate(path: Path) -> Path:
    keys.read_certificate(path)
    return path.absolute()


def _certificate_or_digest(name: str, owner: str, path: Path) -> list[str | Path]:
    try:
        binary = authenticode.is_efi_binary(path.read_bytes())
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from error
    if binary:
        return [word for known in keys.digests(path) for word in (f"--add-{name}-hash", owner, known.hex())]
    return [f"--add-{name}-cert", owner, _certificate(path)]
