"""What a definition must hold to about its root filesystem."""

from __future__ import annotations

from vmharness.errors import SpecError
from vmharness.model.image import ImageSpec
from vmharness.model.rootfs import ROOT_FILESYSTEMS, RootFilesystem


def check_root(spec: ImageSpec) -> None:
    """Check what a definition says about the root filesystem.

    :raises SpecError: naming the key, and what is allowed.
    """
    kind = ROOT_FILESYSTEMS.get(spec.root.filesystem)
    if kind is None:
        raise SpecError(
            f"{spec.root.filesystem!r} is not supported",
            origin=str(spec.origin),
            key="root.filesystem",
            allowed=" | ".join(ROOT_FILESYSTEMS),
        )
    _check_label(spec, kind)
    _check_options(spec, kind)


def _check_label(spec: ImageSpec, kind: RootFilesystem) -> None:
    if len(spec.root.label.encode()) > kind.longest_label:
        raise SpecError(
            f"an {kind.name} label has at most {kind.longest_label} bytes", origin=str(spec.origin), key="root.label"
        )
    if not spec.root.label.isprintable():
        raise SpecError(
            f"the label {spec.root.label!r} has characters that none can print",
            origin=str(spec.origin),
            key="root.label",
        )


def _check_options(spec: ImageSpec, kind: RootFilesystem) -> None:
    if spec.root.filesystem_options and not kind.made_in_guest:
        raise SpecError(
            f"{kind.name} takes no options: its inodes are set by vmharness, which knows one set of features",
            origin=str(spec.origin),
            key="root.filesystem-options",
        )
    for number, option in enumerate(spec.root.filesystem_options):
        if not option.isprintable():
            raise SpecError(
                "an option has no control characters",
                origin=str(spec.origin),
                key=f"root.filesystem-options[{number}]",
            )
