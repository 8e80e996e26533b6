"""Every format: the same disk in a file of that format, which takes no more room than its data, and boots."""

from __future__ import annotations

import pytest
import trees
from running import Workplace

from vmharness.disk import image
from vmharness.model.image import Format
from vmharness.model.sizes import GIB, MIB

NAMES = {
    Format.RAW: "of any kind.img",
    Format.QCOW2: "of any kind.qcow2",
    Format.QCOW2_COMPRESSED: "of any kind.qcow2",
    Format.VDI: "of any kind.vdi",
    Format.VPC: "of any kind.vhd",
}
MOST = {Format.QCOW2_COMPRESSED: 64 * MIB}


@pytest.mark.parametrize("form", list(Format), ids=lambda form: form.value)
def test_image_of_each_format_boots(place: Workplace, form: Format) -> None:
    """A disk of 1 GiB is published under its base name, sparse, with its exact size; ``boot`` takes it to login."""
    settings = f'format = "{form.value}"\nsize = "1G"\nbase-name = "of any kind"\n\n[root]'
    definition = trees.MINIMAL.replace('additional-space = "8M"\n', "").replace("[root]", settings)
    output = place.build(definition + trees.SYSTEMD_BOOT)
    made = trees.read_manifest(output).file("image")
    assert made is not None
    assert made.name == NAMES[form]
    facts = image.info(output / made.name, form)
    assert facts.virtual_size == GIB
    assert facts.allocated < MOST.get(form, 128 * MIB)
    booted = place.run("boot", output, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout
    assert booted.json()["outcome"] == "reached"
