"""What a machine under test has besides what it boots from."""

from __future__ import annotations

from attrs import frozen

from vmharness.model.hardware import DirectKernel
from vmharness.model.sizes import GIB


@frozen(kw_only=True)
class Hardware:
    """What a machine has besides its state.

    :param memory: bytes.
    :param network: a user-mode network, through which SSH is reached; by default there is no network card.
    :param tpm: a TPM 2.0 (swtpm), whose state is the boot state's or new.
    :param clock: what the machine's clock shows at its start, such as ``2040-01-01T00:00:00``; None is now.
    :param kernel: a kernel that QEMU starts itself. It says nothing of a bootloader, nor of Secure Boot.
    :param display: a graphics card, for screenshots and the emulated keyboard.
    :param entropy: a virtio random number device.
    :param accelerator: ``auto``, ``kvm`` or ``tcg``.
    """

    memory: int = GIB
    cpus: int = 2
    network: bool = False
    tpm: bool = False
    clock: str | None = None
    kernel: DirectKernel | None = None
    display: bool = True
    entropy: bool = True
    accelerator: str = "auto"
