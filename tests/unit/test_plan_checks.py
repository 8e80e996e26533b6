"""What a definition must hold to beyond the form of its values."""

from pathlib import Path

import pytest
from attrs import evolve

from vmharness.errors import SpecError
from vmharness.model.image import BootloaderSpec, Format, ImageSpec, RootSpec
from vmharness.model.sizes import GIB
from vmharness.model.sources import MinimalSource
from vmharness.plan.checks import check, check_disk

SPEC = ImageSpec(origin=Path("/d/image.toml"), name="x", root=RootSpec(source=MinimalSource()))


@pytest.mark.parametrize("form", list(Format))
def test_disk_must_fit_its_file(form: Format) -> None:
    """A VHD ends at 2040 GiB; every other format takes more."""
    spec = evolve(SPEC, format=form)
    check_disk(spec, 2040 * GIB)
    if form is not Format.VPC:
        check_disk(spec, 2041 * GIB)
        return
    with pytest.raises(SpecError, match=r"image.format: a VHD holds at most .* TiB, and the disk has .* TiB"):
        check_disk(spec, 2041 * GIB)


@pytest.mark.parametrize("device", ["/dev/sda", "/dev/nvme0n1", "/dev/disk/by-id/ata-QEMU_x.1:0", "/dev/mapper/a+b"])
def test_a_disk_may_have_another_name(device: str) -> None:
    """The names that kernel and udev give to disks are accepted."""
    check(evolve(SPEC, bootloader=BootloaderSpec(device=device)))


@pytest.mark.parametrize(
    "device", ["sda", "/dev", "/dev/", "/dev/../etc/x", "/dev/sd a", "/dev/sda/", "/etc/sda", "/dev/./x"]
)
def test_what_cannot_be_a_disk_is_refused(device: str) -> None:
    """A name outside of /dev, or one that a shell or a table of mounts would misread."""
    with pytest.raises(SpecError, match=r"bootloader.device: .* cannot be the name of a disk"):
        check(evolve(SPEC, bootloader=BootloaderSpec(device=device)))


@pytest.mark.parametrize(("label", "words"), [("x" * 17, "at most 16 bytes"), ("a\0b", "print"), ("a\nb", "print")])
def test_label_must_fit_its_filesystem(label: str, words: str) -> None:
    """A label that mkfs would cut or could not be given is refused before anything is touched."""
    check(evolve(SPEC, root=evolve(SPEC.root, label="x" * 16)))
    with pytest.raises(SpecError, match=f"root.label: .*{words}"):
        check(evolve(SPEC, root=evolve(SPEC.root, label=label)))
