"""Commands and files in a booted guest, over its serial login while its kernel talks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmharness.disk import image
from vmharness.host import accelerator
from vmharness.host.published import read_manifest
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Disk, MachineSpec
from vmharness.model.sizes import MIB
from vmharness.testing.state import find_firmware
from vmharness.vm.login import login
from vmharness.vm.machine import Machine

SECONDS = 120


@pytest.fixture
def machine(minimal: Path, tmp_path: Path) -> Iterator[Machine]:
    """The minimal image in a machine that has started."""
    made = read_manifest(minimal)
    disk, variables = made.file("image"), made.file("efi-variables")
    assert disk is not None
    assert variables is not None
    assert made.firmware is not None
    run = RunDirectory(path=tmp_path)
    image.create_overlay(minimal / disk.name, made.format, tmp_path / "disk.qcow2")
    shutil.copyfile(minimal / variables.name, run.variables)
    spec = MachineSpec(
        accelerator=accelerator.choose("auto").accelerator,
        memory=512 * MIB,
        cpu="max",
        firmware=find_firmware(made.firmware),
        variables=run.variables,
        disks=(Disk(name="disk", path=tmp_path / "disk.qcow2", format="qcow2"),),
    )
    with Machine(spec, run) as one:
        one.start()
        yield one


def test_commands_and_files_over_the_serial_login(machine: Machine) -> None:
    """From power-on to a second login: results are exact, also while the kernel prints in the middle of them."""
    shell = login(machine.log, "root", within=SECONDS)
    result = shell.run("printf 'out\\000'; printf err >&2; exit 3", within=SECONDS, check=False)
    assert (result.status, result.stdout, result.stderr) == (3, b"out\0", b"err")
    shell.run(
        "(while sleep 0.1; do echo '<2>the kernel speaks' >/dev/kmsg; done) & echo $! >/run/talker", within=SECONDS
    )
    data = os.urandom(20_000)
    shell.put(data, "/root/data", mode=0o600, within=SECONDS)
    assert shell.get("/root/data", within=SECONDS) == data
    assert shell.run("stat -c %a /root/data; kill $(cat /run/talker)", within=SECONDS).text == "600"
    assert machine.run.transcript.read_bytes().count(b"the kernel speaks") > 2
    shell.logout(within=SECONDS)
    assert login(machine.log, "root", within=SECONDS).run("id -u", within=SECONDS).text == "0"
