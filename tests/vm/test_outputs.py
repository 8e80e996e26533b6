"""What is published besides the image: what a hook makes of it, and the list for Hydra."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trees
from running import Workplace

DEFINITION = (
    trees.MINIMAL.replace("[root]", 'format = "raw"\nbase-name = "my disk"\nhydra-build-products = true\n\n[root]')
    + """
[hooks]
after-build = ["./finish", "hello"]
"""
)
# writes into the disk's first sector, where the boot code of an MBR would be
FINISH = """#!/bin/sh
set -eu
printf '%s' "$1" | dd of="$2" conv=notrunc status=none
sha256sum <"$2" >"$2.sha256"
test "$(stat -c %s "$EFI_VARS")" -gt 100000
"""


def write_hook(place: Workplace, text: str) -> None:
    """The hook beside the definition."""
    (place.folder / "finish").write_text(text)
    (place.folder / "finish").chmod(0o755)


def products(output: Path) -> str:
    """The list for Hydra."""
    return (output / "nix-support/hydra-build-products").read_text()


def test_hook_and_products(place: Workplace) -> None:
    """A hook's changes and files are published, with their digests; Hydra's list has the place of the very folder."""
    write_hook(place, FINISH)
    output = place.build(DEFINITION)
    recorded = {item.name: (item.role, item.sha256) for item in trees.read_manifest(output).files}
    data = (output / "my disk.img").read_bytes()
    assert data.startswith(b"hello")
    digest = hashlib.sha256(data).hexdigest()
    assert recorded["my disk.img"] == ("image", digest)
    assert recorded["my disk.img.sha256"][0] == "extra"
    assert (output / "my disk.img.sha256").read_text().startswith(digest)
    assert products(output) == f'file raw-image "{output}/my disk.img"\n'
    assert place.run("inspect", output).status == 0

    again = place.run("build", place.define(DEFINITION), "-o", place.folder / "copy", "--json")
    assert "copy the image that is there already" in again.stdout
    assert products(place.folder / "copy") == f'file raw-image "{place.folder}/copy/my disk.img"\n'

    write_hook(place, FINISH + "echo another\n")
    changed = place.run("build", place.define(DEFINITION), "-o", output, "--json")
    assert (changed.status, "run the hook after the build" in changed.stdout) == (0, True)


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_hook_that_fails(place: Workplace, form: str) -> None:
    """Nothing is published; the error has the hook's last words, and the image is kept where it says."""
    write_hook(place, "#!/bin/sh\necho 'the signing key is not there' >&2\nexit 5\n")
    failed = place.fail(DEFINITION.replace('"raw"', f'"{form}"'))
    assert failed.status == 1
    assert "step 'run the hook after the build'" in failed.error()
    assert "ended with status 5" in failed.error()
    assert "the signing key is not there" in failed.error()
    (kept,) = place.run_directories()
    assert f"run directory: {kept}" in failed.error()
    assert {path.name for path in (kept / "outputs").iterdir()} >= {"efi-vars.fd", "transcript.log"}
