"""Overlays on the disks of a running machine: laid while it goes on, and joined with what is under them again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmharness.errors import QemuDied, QmpRefused
from vmharness.plan import qemu_disks
from vmharness.vm.qmp import Monitor

_SECONDS = 60.0
_JOIN_SECONDS = 1800.0
_POLL_SECONDS = 0.01
_JOB = "join"


def lay(monitor: Monitor, overlays: Mapping[str, tuple[str, Path]]) -> None:
    """Put overlays on disks, all at one moment.

    :param overlays: by the name of the new node: the node under it, and the fresh image.
    :raises QemuError: QEMU cannot; then no disk has a new overlay.
    """
    added = []
    try:
        for node, (_, path) in overlays.items():
            monitor.execute("blockdev-add", qemu_disks.overlay(node, path), within=_SECONDS)
            added.append(node)
        actions = [
            {"type": "blockdev-snapshot", "data": {"node": under, "overlay": node}}
            for node, (under, _) in overlays.items()
        ]
        monitor.execute("transaction", {"actions": actions}, within=_SECONDS)
    except QmpRefused:
        for node in added:
            monitor.execute("blockdev-del", {"node-name": node}, within=_SECONDS)
        raise


def join(monitor: Monitor, top: str) -> None:
    """Write what the overlays hold into the lowest image, which takes their place.

    :param top: the uppermost node.
    :raises QemuError: QEMU cannot.
    """
    keep = {"auto-finalize": True, "auto-dismiss": False}  # so that we learn how it ended
    monitor.execute("block-commit", {"job-id": _JOB, "device": top, **keep}, within=_SECONDS)
    try:
        _until(monitor, "ready")
        monitor.execute("job-complete", {"id": _JOB}, within=_SECONDS)
        _until(monitor, "concluded")
    finally:
        monitor.execute("job-dismiss", {"id": _JOB}, within=_SECONDS)


def _until(monitor: Monitor, wanted: str) -> None:
    deadline = time.monotonic() + _JOIN_SECONDS
    while True:
        job = _job(monitor)
        if job["status"] in {wanted, "concluded"}:
            break
        if time.monotonic() > deadline:
            raise QemuDied(f"joining a disk's overlays: QEMU did not end it within {_JOIN_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    if "error" in job:
        raise QmpRefused(f"joining a disk's overlays: {job['error']}")


def _job(monitor: Monitor) -> Any:
    return next(job for job in monitor.execute("query-jobs", {}, within=_SECONDS) if job["id"] == _JOB)
