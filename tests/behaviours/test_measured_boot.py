"""Measured boot: what the firmware starts is in the TPM's registers and in the event log."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from generations import SystemMaker

from vmharness.disk.authenticode import digest
from vmharness.pytest_plugin import MachineFactory
from vmharness.testing import Hardware, Machine, checks

LOADER = "/EFI/systemd/systemd-bootx64.efi"
SHA256 = 0x000B
DIGEST_BYTES = {0x0004: 20, SHA256: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32}
NO_ACTION = 3


def measurements(log: bytes) -> Iterator[tuple[int, bytes]]:
    """The register and the SHA-256 digest of each event (TCG PC Client Platform Firmware Profile, section 10)."""
    (size,) = struct.unpack_from("<28xI", log)
    at = 32 + size  # the first event has the old form and says what the others are like
    while at < len(log):
        register, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        for _ in range(count):
            (algorithm,) = struct.unpack_from("<H", log, at)
            length = DIGEST_BYTES[algorithm]
            if algorithm == SHA256 and kind != NO_ACTION:
                yield register, log[at + 2 : at + 2 + length]
            at += 2 + length
        (size,) = struct.unpack_from("<I", log, at)
        at += 4 + size


def replayed(log: bytes, register: int) -> str:
    """What the events make of a register."""
    value = bytes(32)
    for number, measured in measurements(log):
        if number == register:
            value = hashlib.sha256(value + measured).digest()
    return value.hex()


def boot(vm: Machine) -> bytes:
    """Boot to a login; gives the event log."""
    vm.start()
    vm.expect_boot("login")
    vm.run("mount -t securityfs securityfs /sys/kernel/security")
    return checks.event_log(vm)


def test_another_loader_another_register(system: SystemMaker, vm_factory: MachineFactory) -> None:
    """The loader's digest is in the event log, and the log explains register 4; with another loader that changes, and
    register 0, which is the firmware's, does not.
    """
    state, own = system()
    vm = vm_factory(state, Hardware(tpm=True), persist=True)
    loader = own.read(LOADER)
    log = boot(vm)
    assert (4, digest(loader)) in list(measurements(log))
    first = {register: checks.pcr(vm, register) for register in (0, 4)}
    checks.pcr_is(vm, 4, replayed(log, 4))
    vm.off()

    at = loader.index(b"#### LoaderInfo")
    other = loader[:at] + b"!" + loader[at + 1 :]
    own.write(LOADER, other)
    log = boot(vm)
    assert (4, digest(other)) in list(measurements(log))
    assert (4, digest(loader)) not in list(measurements(log))
    assert checks.pcr(vm, 0) == first[0]
    assert checks.pcr(vm, 4) != first[4]
    checks.pcr_is(vm, 4, replayed(log, 4))
