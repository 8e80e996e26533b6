"""What a definition must hold to beyond the form of its values."""

from pathlib import Path

import pytest
from attrs import evolve

from vmharness.errors import SpecError
from vmharness.model.image import Format, ImageSpec, MinimalSource, RootSpec
from vmharness.model.sizes import GIB
from vmharness.plan.checks import check_disk

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
