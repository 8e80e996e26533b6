"""Image files: sparse, converted, laid over."""

import hashlib
from pathlib import Path

import pytest

from vmharness.disk import image
from vmharness.errors import HostError, VerificationFailed
from vmharness.model.image import Format
from vmharness.model.sizes import MIB

ODD = "an image, with: odd = 'name' é"
"""A name that means something to qemu-img, or would, if it were not handed over as it is."""


def allocated(path: Path) -> int:
    """Bytes that a file takes on the disk."""
    return path.stat().st_blocks * 512


def filled(folder: Path) -> Path:
    """A raw image of 64 MiB with a little data at both ends."""
    raw = folder / "disk.raw"
    image.create(raw, 64 * MIB)
    with raw.open("r+b") as file:
        file.write(b"first")
        file.seek(64 * MIB - 5)
        file.write(b"final")
    return raw


def test_new_disk_takes_no_room(tmp_path: Path) -> None:
    """A new disk has its size and no data."""
    image.create(tmp_path / "disk.raw", 1024 * MIB)
    assert (tmp_path / "disk.raw").stat().st_size == 1024 * MIB
    assert allocated(tmp_path / "disk.raw") < MIB


def test_disk_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """A second disk of the same name is refused."""
    (tmp_path / "disk.raw").write_bytes(b"precious")
    with pytest.raises(HostError, match="cannot make the disk"):
        image.create(tmp_path / "disk.raw", MIB)
    assert (tmp_path / "disk.raw").read_bytes() == b"precious"


@pytest.mark.parametrize("form", list(Format))
def test_conversion_keeps_contents_and_holes(tmp_path: Path, form: Format) -> None:
    """The converted image holds the same disk, and its empty parts take no room; the raw disk stays as it was."""
    raw = filled(tmp_path)
    before = hashlib.sha256(raw.read_bytes()).digest()
    target = tmp_path / ODD
    image.convert(raw, target, form)
    facts = image.info(target, form)
    assert (facts.format, facts.virtual_size, facts.backing) == (form, 64 * MIB, None)
    assert facts.allocated == allocated(target) < 4 * MIB
    image.convert(raw, tmp_path / "again", form)
    assert (tmp_path / "again").read_bytes() == target.read_bytes()
    assert hashlib.sha256(raw.read_bytes()).digest() == before


def test_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    """A conversion that fails says what was done and leaves no half image."""
    with pytest.raises(HostError, match="converting the image to qcow2"):
        image.convert(tmp_path / "nothing.raw", tmp_path / "image.qcow2", Format.QCOW2)
    assert list(tmp_path.iterdir()) == []


def test_image_that_differs_is_noticed(tmp_path: Path) -> None:
    """An image that does not hold the raw disk's contents is refused."""
    raw = filled(tmp_path)
    image.convert(raw, tmp_path / "image.qcow2", Format.QCOW2)
    with raw.open("r+b") as file:
        file.write(b"other")
    with pytest.raises(VerificationFailed, match=r"differs from the raw disk\n +Content mismatch"):
        image._require_equal(raw, tmp_path / "image.qcow2", Format.QCOW2)


def test_overlay_reads_from_its_base(tmp_path: Path) -> None:
    """An overlay names its base by its absolute path and its format, and shows the base's disk."""
    raw = filled(tmp_path).rename(tmp_path / ODD)
    overlay = tmp_path / "overlay.qcow2"
    image.create_overlay(raw, Format.RAW, overlay)
    facts = image.info(overlay, Format.QCOW2)
    assert (facts.virtual_size, facts.backing) == (64 * MIB, raw)
    image._require_equal(raw, overlay, Format.QCOW2)


def test_format_is_not_guessed(tmp_path: Path) -> None:
    """A file of another format than the one named is refused, so that nothing in a raw disk is taken for a header."""
    with pytest.raises(HostError, match="reading the image"):
        image.info(filled(tmp_path), Format.QCOW2)
    image.create_overlay(tmp_path / "disk.raw", Format.RAW, tmp_path / "overlay.qcow2")
    assert image.info(tmp_path / "overlay.qcow2", Format.RAW).backing is None


def test_space_is_asked_for_before_it_is_used(tmp_path: Path) -> None:
    """What fits is allowed; what does not is refused with both figures."""
    image.require_space(tmp_path, 1)
    with pytest.raises(HostError, match=r"free, and 1048576 TiB are needed"):
        image.require_space(tmp_path, 2**60)


@pytest.mark.parametrize("form", list(Format))
def test_delivered_image_holds_the_disk(tmp_path: Path, form: Format) -> None:
    """A finished disk becomes the published image: moved where that is all it takes, converted otherwise."""
    raw = filled(tmp_path)
    kept = tmp_path / "kept.raw"
    image.convert(raw, kept, Format.RAW)
    inode = raw.stat().st_ino
    image.deliver(raw, tmp_path / "image", form)
    image._require_equal(kept, tmp_path / "image", form)
    assert ((tmp_path / "image").stat().st_ino == inode) == (form is Format.RAW)
