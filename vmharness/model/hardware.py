"""What a machine is made of, as values."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from attrs import frozen


class Accelerator(Enum):
    """How QEMU runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"

    @property
    def time_scale(self) -> float:
        """Factor on every deadline: TCG is several times slower."""
        return 1.0 if self is Accelerator.KVM else 4.0


@frozen(kw_only=True)
class AcceleratorVerdict:
    """The accelerator taken, and why, in one line."""

    accelerator: Accelerator
    reason: str


@frozen(kw_only=True)
class Kernel:
    """A Linux kernel for the appliance.

    :param image: the bootable image (``vmlinuz``).
    :param modules: the folder ``lib/modules/VERSION`` that belongs to it.
    :param version: ``uname -r``.
    """

    image: Path
    modules: Path
    version: str
