"""Secure Boot in a build: what boots is signed on the host, and the keys are enrolled in the image's own store."""

from __future__ import annotations

from pathlib import Path

from attrs import evolve

from vmharness.disk import enrolment, keys, signing
from vmharness.flows.prepared import Prepared
from vmharness.flows.run import Run
from vmharness.model.image import ImageSpec
from vmharness.model.key_folder import NAMES, KeyFolder

_FOLDER = "secure-boot-keys"


def require_keys(spec: ImageSpec) -> None:
    """Look at the keys before anything is built.

    :raises SpecError: a certificate or ``db``'s private key is missing or damaged.
    """
    if spec.secure_boot.keys is not None:
        keys.open_folder(spec.secure_boot.keys, signing=True)


def sign(prepared: Prepared, run: Run) -> Prepared:
    """Sign the finished disk of a definition that says so, and enroll the keys. The machine is off.

    :raises HostError: something cannot be signed, or has no room on its partition any more.
    :raises VerificationFailed: there is nothing to sign.
    """
    spec = prepared.plan.spec
    with run.part("sign what boots, enroll the keys"):
        if spec.secure_boot.keys is not None:
            folder = keys.open_folder(spec.secure_boot.keys, signing=True)
        else:
            folder = keys.make_folder(run.directory.path / _FOLDER, name=spec.name)
        signed = signing.sign_disk(run.directory.finished, prepared.plan.layout, folder, run.directory.path)
        enrolment.enroll(run.directory.variables, enrolment.of_folder(folder))
        made = {} if spec.secure_boot.keys is not None else _files(folder)
    return evolve(prepared, signed=signed, key_files=made)


def _files(folder: KeyFolder) -> dict[Path, str]:
    """The files of a folder of keys, each with its role in the output."""
    roles = {folder.certificate(name): "secure-boot-certificate" for name in NAMES}
    return roles | {folder.private(name): "secure-boot-key" for name in NAMES}
