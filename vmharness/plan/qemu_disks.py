"""Disks in QEMU's words: their block nodes, devices and controllers.

No device has a boot index: with one OVMF would rewrite the guest's own ``BootOrder``, for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmharness.model.hardware import Bus, Disk

_EIO = 5


def blockdev(disk: Disk) -> dict[str, Any]:
    """The block node of a disk, as ``-blockdev`` and ``blockdev-add`` take it.

    Flushes are not passed to the host while a disk is being built: it is published only after it was synced as a whole.
    """
    node = _image(disk.name, disk.format, disk.path, writable=disk.writable)
    if disk.backing:
        node["backing"] = _chain(disk.name, disk.backing)
    return node if disk.faults is None else _faulty(disk, node)


def overlay(node: str, path: Path) -> dict[str, Any]:
    """The block node ``node`` of a fresh qcow2 overlay, which a running machine lays over one of its disks next."""
    return {**_image(node, "qcow2", path, writable=True), "backing": None}


def _image(node: str, kind: str, path: Path, *, writable: bool) -> dict[str, Any]:
    return {
        "driver": kind,
        "node-name": node,
        "read-only": not writable,
        "discard": "unmap",
        "detect-zeroes": "unmap" if writable else "off",
        "cache": {"direct": False, "no-flush": True},
        "file": {
            "driver": "file",
            "filename": str(path),
            "cache": {"direct": False, "no-flush": True},
            "discard": "unmap",
        },
    }


def _chain(disk: str, paths: Sequence[Path]) -> dict[str, Any]:
    """The nodes under a disk's own, the lowest of them raw. What the images' headers name as backing is ignored."""
    node = _image(f"{disk}-under0", "raw", paths[0], writable=False)
    for number, path in enumerate(paths[1:], 1):
        node = {**_image(f"{disk}-under{number}", "qcow2", path, writable=False), "backing": node}
    return node


def devices(disks: Sequence[Disk]) -> Iterator[dict[str, Any]]:
    """The devices through which the guest sees disks that are there from the start, with their controllers."""
    if any(disk.bus is Bus.USB for disk in disks):
        yield {"driver": "qemu-xhci", "id": "usb"}
    sata = 0
    for disk in disks:
        if disk.bus is Bus.SCSI:
            # One controller each: without a boot index, OVMF (2022.11 and newer) finds only one disk on a controller.
            yield {"driver": "virtio-scsi-pci", "id": f"{disk.name}-scsi"}
        elif disk.bus is Bus.USB:
            yield {"driver": "usb-bot", "id": f"{disk.name}-usb", "bus": "usb.0", "serial": disk.name}
        yield {**disk_device(disk), **_place(disk, sata)}
        sata += disk.bus.is_sata


def disk_device(disk: Disk) -> dict[str, Any]:
    """The device through which the guest sees a disk."""
    device: dict[str, Any] = {
        "driver": _DRIVERS[disk.bus],
        "id": f"{disk.name}-device",
        "drive": disk.name,
        "serial": disk.name,
    }
    if disk.block_size != 512:
        device |= {"logical_block_size": disk.block_size, "physical_block_size": disk.block_size}
    return device if disk.port is None else {**device, "bus": f"port{disk.port}"}


_DRIVERS = {
    Bus.VIRTIO: "virtio-blk-pci",
    Bus.NVME: "nvme",
    Bus.AHCI: "ide-hd",
    Bus.USB: "scsi-hd",  # in a usb-bot; QEMU's usb-storage does not pass the size of sectors on
    Bus.SCSI: "scsi-hd",
    Bus.CDROM: "ide-cd",
}


def _place(disk: Disk, sata: int) -> dict[str, str]:
    """Where a disk is connected, where QEMU does not find the place by itself."""
    match disk.bus:
        case Bus.SCSI:
            return {"bus": f"{disk.name}-scsi.0"}
        case Bus.USB:
            return {"bus": f"{disk.name}-usb.0"}
        case Bus.AHCI | Bus.CDROM:
            return {"bus": f"ide.{sata}"}
        case Bus.VIRTIO | Bus.NVME:
            return {}


def _faulty(disk: Disk, image: dict[str, Any]) -> dict[str, Any]:
    """A node over ``image`` that lets reads of some sectors fail (QEMU, ``docs/devel/blkdebug.rst``)."""
    assert disk.faults is not None
    fault = {"event": "none", "iotype": "read", "errno": _EIO, "immediately": True}
    return {
        "driver": "blkdebug",
        "node-name": disk.name,
        "read-only": not disk.writable,
        "image": {**image, "node-name": f"{disk.name}-image"},
        "inject-error": [{**fault, "sector": sector} for sector in disk.faults.unreadable],
    }
