"""Run directories of builds that were stopped, and archives that strangers could make of them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vmharness.errors import SpecError
from vmharness.flows.bundle import unpack
from vmharness.host import sparse
from vmharness.model.bundle import INDEX_NAME
from vmharness.model.hardware import Accelerator
from vmharness.model.record import Failure, ProgramIdentity, Record, to_json

MIB = 1 << 20
RECORD = Record(
    vmharness="0.1.0",
    name="debian",
    inputs="0" * 32,
    seed="debian",
    nonce="0123456789abcdef",
    tools={},
    accelerator=Accelerator.TCG,
    qemu=ProgramIdentity(version="7.2", sha256="0" * 64),
    firmware=None,
    kernel="6.1",
    appliance="0" * 32,
    contents=False,
    failure=Failure(step="install GRUB", index=3, sentence="no"),
)
LAYER = "layers/target-1.qcow2"
SECRETS = ("secure-boot-keys/db.key", "id_rsa", "scratch/disk.raw", "layers/x.raw", "appliance/more")


def run_directory(folder: Path, *, disk: int = 300 * MIB) -> Path:
    """What a failed build leaves, with a disk that is mostly holes, and files that are nobody's business."""
    folder.mkdir()
    texts = {
        "record.json": to_json(RECORD),
        "plan.json": "{}\n",
        "definition.toml": '[image]\nname = "debian"\n',
        "console.log": "Linux\n",
        "qemu.stderr": "",
        "command.raw": "c",
        "terminal.raw": "t",
        "appliance/kernel": "k" * 5000,
        "appliance/initramfs": "i" * 100_001,
        "guest-scripts/install-grub": "#!/bin/busybox sh\n",
        "scripts/make it häppen": "#!/bin/sh\n",
        f"scripts/{'ü' * 60}": "#!/bin/sh\n",
        "checkpoints/001-before-04/checkpoint.json": "{}",
        "checkpoints/001-before-04/state": "s" * 70_000,
        "checkpoints/001-before-04/tpm/tpm2-00.permall": "t",
        **dict.fromkeys(SECRETS, "PRIVATE KEY"),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with (folder / "disk.raw").open("wb") as file:
        for place in (0, disk // 2 + 12345, disk - 100):
            file.seek(place)
            file.write(os.urandom(100))
        file.truncate(disk)
    layer = folder / LAYER
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(layer), str(disk)]
    subprocess.run(argv, check=True)
    return folder


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file of a folder with its size and the digest of its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, sparse.digest(path)) for path in files}


def digest(data: bytes) -> str:
    """What :func:`vmharness.host.sparse.digest` says of a file with few bytes, none of them zero."""
    assert len(data) <= 65536
    return hashlib.sha256(bytes(8) + data).hexdigest() if data.strip(b"\0") else hashlib.sha256().hexdigest()


MEMBERS = {"record.json": to_json(RECORD).encode(), "plan.json": b"{}", "console.log": b"hello"}
"""A small bundle's files."""


def index(members: Mapping[str, bytes], **changes: Any) -> dict[str, Any]:
    """The index that fits these files."""
    files = [
        {"name": name, "size": len(data), "data": len(data), "digest": digest(data)} for name, data in members.items()
    ]
    return {"schema": 1, "name": "debian", "vmharness": "0.1.0", "files": files, **changes}


def regular(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def other(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """Something that is no regular file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    member.devmajor, member.devminor = 1, 5
    return member, b""


def archive(
    said: dict[str, Any], members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT
) -> bytes:
    """A tar archive with an index and members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for member, data in [regular(INDEX_NAME, json.dumps(said).encode()), *members]:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def packed(path: Path, data: bytes) -> Path:
    """Bytes in zstd, as a file."""
    path.write_bytes(subprocess.run(["zstd", "-q", "-c"], input=data, check=True, stdout=subprocess.PIPE).stdout)
    return path


def refused(bundle: Path, folder: Path) -> str:
    """Why a bundle is refused; nothing is left, and the bundle is as it was."""
    before, around = bundle.read_bytes(), sorted(folder.parent.iterdir())
    with pytest.raises(SpecError) as error:
        unpack(bundle, folder)
    assert bundle.read_bytes() == before
    assert sorted(folder.parent.iterdir()) == around
    assert str(bundle) in str(error.value)
    assert "\n" not in error.value.what
    return str(error.value)
