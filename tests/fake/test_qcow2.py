"""Headers of qcow2 images: what QEMU makes for a run passes, what leads elsewhere does not."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from vmharness.disk.qcow2 import require_plain_qcow2
from vmharness.errors import SpecError

GIB = 1 << 30


def make(path: Path, *options: str, size: int = GIB) -> Path:
    """An image as qemu-img makes it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), str(size)], check=True)
    return path


def refusal(path: Path, limit: int = GIB) -> str:
    """Why an image is refused."""
    with pytest.raises(SpecError) as error:
        require_plain_qcow2(path, limit)
    assert str(path) in str(error.value)
    return error.value.what


def changed(path: Path, place: int, form: str, value: int) -> Path:
    """The image with another number in its header."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack(f">{form}", value))
    return path


@pytest.mark.parametrize(
    "options", [(), ("-o", "lazy_refcounts=on"), ("-o", "cluster_size=4096"), ("-o", "preallocation=metadata")]
)
def test_what_a_run_makes_passes(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Images without a backing file pass, empty and written to."""
    image = make(tmp_path / "x", *options)
    require_plain_qcow2(image, GIB)
    argv = ["qemu-io", "-f", "qcow2", "-c", "write -P 5 0 3M", "-c", "write -P 6 900M 64k", str(image)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    require_plain_qcow2(image, GIB)


def test_an_image_that_was_in_use_passes(tmp_path: Path) -> None:
    """An image is dirty where QEMU was killed; QEMU mends it."""
    require_plain_qcow2(changed(make(tmp_path / "x"), 72, "Q", 1), GIB)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-u", "-b", "/etc/passwd", "-F", "raw"), "backing file"),
        (("-u", "-b", "json:{}", "-F", "raw"), "backing file"),
        (("-o", "data_file=other,data_file_raw=on"), "data in another file"),
        (("-o", "compat=0.10"), "version 3"),
        (("-o", "extended_l2=on"), "it has the features"),
        (("--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s"), "encrypted"),
    ],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    """Backing files, data in other files, encryption and features that no image of a run has."""
    here = Path.cwd()
    os.chdir(tmp_path)  # where the data file goes
    try:
        image = make(tmp_path / "x", *options)
    finally:
        os.chdir(here)
    assert words in refusal(image)


def test_bitmaps_and_snapshots_are_refused(tmp_path: Path) -> None:
    """They are whole lists of more places in the file, which no image of a run has."""
    image = make(tmp_path / "x")
    subprocess.run(["qemu-img", "bitmap", "--add", str(image), "b"], check=True)
    assert "bitmaps" in refusal(image)
    image = make(tmp_path / "y")
    subprocess.run(["qemu-img", "snapshot", "-c", "s", str(image)], check=True)
    assert "snapshots" in refusal(image)


@pytest.mark.parametrize(
    ("place", "form", "value", "words"),
    [
        (0, "I", 5, "no header"),
        (4, "I", 9, "no header"),
        (8, "Q", 1 << 20, "backing file"),
        (20, "I", 63, "clusters"),
        (20, "I", 0, "clusters"),
        (24, "Q", 1 << 62, "at most 1 GiB"),
        (24, "Q", 513, "at most 1 GiB"),
        (32, "I", 1, "encrypted"),
        (36, "I", 1 << 31, "mapping table"),
        (40, "Q", 1 << 60, "mapping table"),
        (40, "Q", 5, "mapping table"),
        (48, "Q", 1 << 60, "reference table"),
        (56, "I", 1 << 31, "reference table"),
        (72, "Q", 1 << 63, "features"),
        (72, "Q", 2, "features"),
        (96, "I", 60, "reference counts"),
        (100, "I", 4, "header has 4 bytes"),
        (100, "I", 1 << 30, "header has"),
        (112, "I", 0x44415441, "a file of its own"),
        (112, "I", 0xE2792ACA, "a backing file"),
        (112, "I", 0x0537BE77, "encryption"),
        (112, "I", 7, "unknown extension 0x7"),
        (116, "I", 1 << 31, "no end"),
    ],
)
def test_absurd_headers_are_refused(tmp_path: Path, place: int, form: str, value: int, words: str) -> None:
    """Numbers that no QEMU writes are named before a QEMU reads them."""
    assert words in refusal(changed(make(tmp_path / "x"), place, form, value))


def test_a_disk_larger_than_planned_is_refused(tmp_path: Path) -> None:
    """An overlay is as large as what it lies over."""
    assert "its disk has 2 GiB, and at most 1 GiB are possible" in refusal(make(tmp_path / "x", size=2 * GIB))


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    """Short files, other files and missing ones."""
    (tmp_path / "short").write_bytes(b"QFI\xfb")
    (tmp_path / "text").write_bytes(b"x" * 4096)
    assert "cannot be read" in refusal(tmp_path / "short")
    assert "no header" in refusal(tmp_path / "text")
    assert "cannot be read" in refusal(tmp_path / "nowhere")
