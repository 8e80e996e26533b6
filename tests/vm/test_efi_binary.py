"""EFI binaries that the firmware starts by itself: a unified kernel image boots, and what cannot boot is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trees
from running import Workplace
from unified import of_minimal

from vmharness.disk import esp

INSTALL = """
[bootloader]
install = {{ efi-binary = "{path}" }}
kernel-parameters = [{parameters}]

[efi]
touch-variables = {touch}
"""
CONTENTS = """
[[contents]]
source = "unified.efi"
target = "/opt/minimal-1.efi"
"""


@pytest.fixture(scope="module")
def unified() -> bytes:
    """The minimal tree's kernel and initrd as a unified kernel image, with systemd's stub."""
    return of_minimal("root=LABEL=root rw console=ttyS0 own.word=yes")


def test_a_unified_kernel_image_boots_with_a_blank_store(unified: bytes, place: Workplace) -> None:
    """Without variables it lies where loaders look for such images and on the fallback path, and boots from there."""
    (place.folder / "unified.efi").write_bytes(unified)
    install = INSTALL.format(path="/opt/minimal-1.efi", parameters="", touch="false")
    table = trees.MINIMAL.replace('"48M"', '"64M"\npartition-table = "hybrid"')
    output = place.build(table + install + CONTENTS)
    disk = trees.raw_disk(output, place.folder)
    files = esp.list_files(disk, trees.esp_of(output))
    assert files == ("/EFI/Linux/minimal-1.efi", "/EFI/BOOT/BOOTX64.EFI")
    assert not (output / "efi-vars.fd").exists()
    booted = place.run("boot", output, "--until", "login", "--json")
    assert booted.status == 0, booted.stdout
    assert b"own.word=yes" in Path(booted.json()["transcript"]).read_bytes()


@pytest.mark.parametrize(
    ("path", "parameters", "touch", "what"),
    [
        ("/opt/gone.efi", "", "false", "the target has no file '/opt/gone.efi'"),
        ("/opt/minimal-1.efi", '"quiet"', "false", "takes no kernel parameters from us"),
        ("/opt/linux", "", "false", "command line can only come from an EFI variable"),
    ],
)
def test_what_cannot_boot_is_refused(path: str, parameters: str, touch: str, what: str, place: Workplace) -> None:
    """What is missing, no EFI binary, or would boot without its command line ends the build with a sentence."""
    (place.folder / "unified.efi").write_bytes(b"MZ" + bytes(998) + b".linux")
    (place.folder / "linux").write_bytes(b"MZ" + bytes(512) + b"HdrS")
    contents = CONTENTS + CONTENTS.replace("unified.efi", "linux").replace("minimal-1.efi", "linux")
    install = INSTALL.format(path=path, parameters=parameters, touch=touch)
    assert what in place.fail(trees.MINIMAL + install + contents).error()
