"""Image files: made, converted, laid over. The door to ``qemu-img``.

Paths are made absolute, since ``qemu-img`` takes ``name:rest`` for a protocol unless a slash comes first. Formats are
always named, never guessed: a guest could write another format's header into its raw disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import frozen

from vmharness.disk.headers import set_identifier
from vmharness.errors import HostError, VerificationFailed
from vmharness.host import proc
from vmharness.model.image import Format
from vmharness.model.sizes import format_size

# Without force_size, the size in a VHD is rounded up to what cylinders, heads and sectors can say.
_OPTIONS = {Format.QCOW2_COMPRESSED: ("-c",), Format.VPC: ("-o", "subformat=dynamic,force_size=on")}
# The formats that ``qemu-img check`` knows.
_CHECKED = {Format.QCOW2, Format.QCOW2_COMPRESSED, Format.VDI}


@frozen(kw_only=True)
class ImageInfo:
    """What an image file is.

    :param format: its format.
    :param virtual_size: bytes of the disk that a guest sees.
    :param allocated: bytes that the file takes on the host.
    :param backing: the image under this overlay, or None.
    """

    format: Format
    virtual_size: int
    allocated: int
    backing: Path | None


def create(path: Path, size: int) -> None:
    """Make a raw image of ``size`` bytes that takes no room yet.

    :raises HostError: the file is there already, or cannot be made.
    """
    try:
        with path.open("xb") as file:
            file.truncate(size)
    except OSError as error:
        raise HostError(f"cannot make the disk {path}: {error.strerror}") from error


def convert(raw: Path, target: Path, form: Format, identifier: UUID) -> None:
    """Write a raw image to ``target`` in another format, and onto the disk; what is zero in it takes no room there.

    The virtual size is that of the raw image, to the byte: what lies at the disk's end, such as the second GPT, stays
    at its end.

    :param identifier: the file's own, where the format has one.

    :raises HostError: the conversion failed, such as for want of space; a half-written target is removed.
    :raises VerificationFailed: the target does not hold what the raw image holds.
    """
    copy = ("cp", "--reflink=auto", "--sparse=always", "--")
    rewrite = ("qemu-img", "convert", "-f", "raw", "-O", form.driver, *_OPTIONS.get(form, ()))
    argv: list[str | Path] = [*(copy if form is Format.RAW else rewrite), raw.absolute(), target.absolute()]
    try:
        proc.run(argv, doing=f"converting the image to {form.value}")
        set_identifier(target, form, identifier)
        sync(target)
        _require_sound(target, form)
        _require_equal(raw, target, form)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def deliver(raw: Path, target: Path, form: Format, identifier: UUID) -> None:
    """Turn a finished raw disk into the image ``target``, without a copy where possible; ``raw`` may be gone after.

    :param identifier: as for :func:`convert`.
    :raises: as :func:`convert`.
    """
    if form is Format.RAW and raw.stat().st_dev == target.parent.stat().st_dev:
        raw.rename(target)
        target.chmod(0o644)
        sync(target)
    else:
        convert(raw, target, form, identifier)


def clone(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the filesystem can; holes stay holes, the times are kept.

    :raises HostError: it cannot be copied.
    """
    how = ["--reflink=auto", "--sparse=auto", "--preserve=timestamps"]
    proc.run(["cp", *how, "--", source, target], doing=f"copying {source.name}")
    sync(target)


def link(source: Path, target: Path) -> None:
    """Give a file that nobody changes any more a second name, or copy it where that cannot be.

    :raises HostError: it cannot be copied.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another filesystem, or another user's file
        clone(source, target)


def create_overlay(base: Path, form: Format, target: Path) -> None:
    """Make a qcow2 image that reads from ``base`` (of format ``form``) and keeps every write to itself.

    :raises HostError: it cannot be made.
    """
    argv: list[str | Path] = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        base.absolute(),
        "-F",
        form.driver,
        target.absolute(),
    ]
    proc.run(argv, doing=f"laying an overlay on {base}")


def create_layer(path: Path, size: int) -> None:
    """Make an empty qcow2 image that names no backing file: what it is laid over is said where it is used.

    :param size: bytes of the disk that it is for.
    :raises HostError: it cannot be made.
    """
    argv: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2", path.absolute(), str(size)]
    proc.run(argv, doing="making an overlay")


def join_layers(images: Sequence[Path], target: Path) -> None:
    """Write the disk that images laid over each other show to a raw file; what is zero takes no room.

    :param images: the lowest first: a raw image, then qcow2 overlays; they stay as they are. What their headers name as
        backing is not looked at.
    :raises HostError: it cannot be read, or there is no room.
    """
    source: dict[str, Any] = {"driver": "raw", "file": {"driver": "file", "filename": str(images[0].absolute())}}
    for path in images[1:]:
        source = {
            "driver": "qcow2",
            "file": {"driver": "file", "filename": str(path.absolute())},
            "backing": source,
        }
    argv: list[str | Path] = ["qemu-img", "convert", "-O", "raw", f"json:{json.dumps(source)}", target.absolute()]
    proc.run(argv, doing="joining the disk's overlays")


def copy_head(path: Path, form: Format, target: Path) -> None:
    """Make a raw disk of an image's size that has the image's first MiB, its partition table with it, and holes.

    :raises HostError: there is no image of that format.
    """
    size = info(path, form).virtual_size
    place = [f"if={path.absolute()}", f"of={target.absolute()}"]
    argv = ["qemu-img", "dd", "-U", "-f", form.driver, "-O", "raw", "bs=1M", "count=1", *place]
    proc.run(argv, doing=f"reading the beginning of {path}")
    os.truncate(target, size)


def flatten(source: Path, form: Format, target: Path) -> None:
    """Write the disk that a guest sees in ``source``, an overlay too, to a raw file; what is zero takes no room.

    :raises HostError: it cannot be read, or there is no room.
    """
    argv: list[str | Path] = ["qemu-img", "convert", "-f", form.driver, "-O", "raw"]
    proc.run([*argv, source.absolute(), target.absolute()], doing=f"reading the disk {source.name}")


def info(path: Path, form: Format) -> ImageInfo:
    """What the image file ``path`` of format ``form`` is. It may be in use by a machine.

    :raises HostError: it is not there, or is no image of that format.
    """
    argv: list[str | Path] = ["qemu-img", "info", "--force-share", "-f", form.driver, "--output=json", path.absolute()]
    facts = json.loads(proc.run(argv, doing=f"reading the image {path}").stdout)
    backing = facts.get("full-backing-filename") or facts.get("backing-filename")
    return ImageInfo(
        format=form,
        virtual_size=facts["virtual-size"],
        allocated=facts["actual-size"],
        backing=Path(backing) if backing else None,
    )


def require_space(folder: Path, needed: int) -> None:
    """Refuse to begin what cannot be ended.

    :param needed: bytes.
    :raises HostError: the filesystem of ``folder`` has fewer to give.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HostError(
            f"{folder} has {format_size(free)} free, and {format_size(needed)} are needed",
            hint="free some space, or choose a larger disk with TMPDIR (run directories) or --output (the outputs)",
        )


def sync(path: Path) -> None:
    """See to it that a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _require_sound(target: Path, form: Format) -> None:
    """Check the format's own structures, where ``qemu-img`` can."""
    if form not in _CHECKED:
        return
    argv: list[str | Path] = ["qemu-img", "check", "-f", form.driver, target.absolute()]
    done = proc.run(argv, doing="checking the converted image", ok=range(256))
    if done.status != 0:
        said = (done.text + done.stderr.decode("utf-8", "replace")).strip()
        raise VerificationFailed(f"the {form.value} image is damaged", findings=tuple(said.splitlines()))


def _require_equal(raw: Path, target: Path, form: Format) -> None:
    """Compare contents and size: a converter that loses a cluster is not noticed by any check of the raw disk."""
    size = info(target, form).virtual_size
    if size != raw.stat().st_size:
        found = f"it shows a disk of {size} bytes instead of {raw.stat().st_size}"
        raise VerificationFailed(f"the {form.value} image differs from the raw disk", findings=(found,))
    argv: list[str | Path] = ["qemu-img", "compare", "-f", "raw", "-F", form.driver, raw.absolute(), target.absolute()]
    done = proc.run(argv, doing="comparing the converted image", ok=(0, 1))
    if done.status == 1:
        raise VerificationFailed(f"the {form.value} image differs from the raw disk", findings=(done.text.strip(),))
