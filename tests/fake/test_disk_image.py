"""Image files: sparse, converted, laid over."""

import hashlib
from pathlib import Path
from uuid import UUID

import pytest

from vmharness.disk import image
from vmharness.disk.headers import set_identifier
from vmharness.errors import HostError, VerificationFailed
from vmharness.host import proc
from vmharness.model.image import Format
from vmharness.model.sizes import MIB

ODD = "an image, with: odd = 'name' é"
"""A name that means something to qemu-img, or would, if it were not handed over as it is."""


IDENTIFIER = UUID("12345678-9abc-def0-1122-334455667788")


def allocated(path: Path) -> int:
    """Bytes that a file takes on the disk."""
    return path.stat().st_blocks * 512


def filled(folder: Path, size: int = 64 * MIB) -> Path:
    """A raw image with a little data at both ends."""
    raw = folder / "disk.raw"
    image.create(raw, size)
    with raw.open("r+b") as file:
        file.write(b"first")
        file.seek(size - 5)
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
@pytest.mark.parametrize("size", [64 * MIB, 83 * MIB + 512], ids=["round", "odd"])
def test_conversion_keeps_contents_and_holes(tmp_path: Path, form: Format, size: int) -> None:
    """The converted image holds the same disk of the same size, and its empty parts take no room.

    The raw disk stays as it was.
    """
    raw = filled(tmp_path, size)
    before = hashlib.sha256(raw.read_bytes()).digest()
    target = tmp_path / ODD
    image.convert(raw, target, form, IDENTIFIER)
    facts = image.info(target, form)
    assert (facts.format, facts.virtual_size, facts.backing) == (form, size, None)
    assert facts.allocated == allocated(target) < 4 * MIB
    image.convert(raw, tmp_path / "again", form, IDENTIFIER)
    assert (tmp_path / "again").read_bytes() == target.read_bytes()
    assert hashlib.sha256(raw.read_bytes()).digest() == before


def test_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    """A conversion that fails says what was done and leaves no half image."""
    with pytest.raises(HostError, match="converting the image to qcow2"):
        image.convert(tmp_path / "nothing.raw", tmp_path / "image.qcow2", Format.QCOW2, IDENTIFIER)
    assert list(tmp_path.iterdir()) == []


def test_image_that_differs_is_noticed(tmp_path: Path) -> None:
    """An image that does not hold the raw disk's contents is refused."""
    raw = filled(tmp_path)
    image.convert(raw, tmp_path / "image.qcow2", Format.QCOW2, IDENTIFIER)
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
    image.convert(raw, kept, Format.RAW, IDENTIFIER)
    inode = raw.stat().st_ino
    image.deliver(raw, tmp_path / "image", form, IDENTIFIER)
    image._require_equal(kept, tmp_path / "image", form)
    assert ((tmp_path / "image").stat().st_ino == inode) == (form is Format.RAW)


def test_files_of_other_tools_say_their_identifier(tmp_path: Path) -> None:
    """A VDI and a VHD have the identifier that they were given, the VHD twice, with check sums that are right."""
    raw = filled(tmp_path)
    image.convert(raw, tmp_path / "image.vdi", Format.VDI, IDENTIFIER)
    assert (tmp_path / "image.vdi").read_bytes().count(IDENTIFIER.bytes_le) == 2
    image.convert(raw, tmp_path / "image.vhd", Format.VPC, IDENTIFIER)
    data = (tmp_path / "image.vhd").read_bytes()
    footer = data[-512:]
    assert data[:512] == footer
    assert footer[68:84] == IDENTIFIER.bytes
    assert int.from_bytes(footer[64:68], "big") == ~sum(footer[:64] + footer[68:]) & 0xFFFFFFFF
    # qemu-img reads a VHD with a wrong sum all the same, and warns
    said = proc.run(["qemu-img", "info", "-f", "vpc", tmp_path / "image.vhd"], doing="reading").stderr
    assert said == b""


@pytest.mark.parametrize("form", [Format.VDI, Format.VPC])
def test_unknown_header_is_left_alone(tmp_path: Path, form: Format) -> None:
    """What does not look like the format is refused and not written to."""
    raw = filled(tmp_path)
    before = hashlib.sha256(raw.read_bytes()).digest()
    with pytest.raises(HostError, match="unknown header"):
        set_identifier(raw, form, IDENTIFIER)
    assert hashlib.sha256(raw.read_bytes()).digest() == before


@pytest.mark.parametrize("form", [Format.QCOW2, Format.QCOW2_COMPRESSED, Format.VDI])
def test_damaged_image_is_noticed(tmp_path: Path, form: Format) -> None:
    """An image whose own structures are wrong is refused, with what ``qemu-img check`` says about it."""
    raw = filled(tmp_path)
    target = tmp_path / "image"
    image.convert(raw, target, form, IDENTIFIER)
    with target.open("r+b") as file:
        if form is Format.VDI:
            file.seek(0x200)  # the first block's place: beyond the file's end
            file.write(b"\x00\x00\xff\x00")
        else:
            file.seek(3 * 65536)  # the first table of clusters
            file.write(b"\x80" + bytes(6) + b"\x00")
            file.write(b"\x80\x00\x00\x00\x7f\x00\x00\x00")
    with pytest.raises(VerificationFailed, match="image is damaged\n"):
        image._require_sound(target, form)


def test_image_of_another_size_is_noticed(tmp_path: Path) -> None:
    """``qemu-img compare`` takes a longer disk for the same if the rest is zero, but its GPT is misplaced."""
    raw = filled(tmp_path)
    target = tmp_path / "image.vhd"
    proc.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", raw, target], doing="converting as without our options")
    with pytest.raises(VerificationFailed, match="a disk of 67125248 bytes instead of 67108864"):
        image._require_equal(raw, target, Format.VPC)
