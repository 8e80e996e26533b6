"""The way up: a running appliance with its agent, resumed from a saved state or booted cold.

Both are one path. A state is made once for everything that it depends on, by booting and saving; every build then
resumes it. On any doubt the appliance boots cold and the run's log says why.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile

from attrs import evolve, frozen

from vmharness.errors import GuestError, HostError, QemuError
from vmharness.flows.run import Run
from vmharness.host import cache, proc, versions
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import MachineSpec
from vmharness.plan import qemu_args
from vmharness.plan.qemu_args import Channels
from vmharness.vm import checkpoints
from vmharness.vm.guest import Agent
from vmharness.vm.machine import Machine

QEMU = "qemu-system-x86_64"
_MEMORY, _DEVICES = "memory", "devices"
_FORMAT = 1
_RESUME_SECONDS = 10.0


@frozen(kw_only=True)
class Up:
    """A running appliance: its machine, its agent, and how it came up (``resumed`` or ``cold``)."""

    machine: Machine
    agent: Agent
    way: str


@contextmanager
def appliance_up(  # noqa: PLR0913 -- each is a different thing
    spec: MachineSpec,
    identity: str,
    deadline: float,
    run: Run,
    *,
    resume: bool = True,
    memory: Path | None = None,
) -> Iterator[Up]:
    """A running appliance whose agent has answered; it is ended when the block is left.

    :param spec: its machine, with this run's own variable store (a copy of the template).
    :param identity: content id of kernel and initramfs.
    :param deadline: seconds that a cold boot may take.
    :param resume: whether a saved state may be made and used.
    :param memory: file that is made and holds the guest's memory, so that checkpoints can be taken cheaply; None keeps
        it to the process.
    :raises Unreachable: it does not come up.
    :raises QemuError: QEMU does not start.
    """
    state = _state(spec, identity, deadline, run) if resume else None
    if state is not None:
        if memory is not None:
            checkpoints.copied(state / _MEMORY, memory)
        machine = _machine(evolve(spec, memory_file=memory or state / _MEMORY, memory_shared=memory is not None), run)
        with machine:
            agent = _resumed(machine, state, spec, run)
            if agent is not None:
                yield Up(machine=machine, agent=agent, way="resumed")
                return
        assert spec.firmware is None or spec.variables is not None
        if spec.firmware is not None and spec.variables is not None:
            copyfile(spec.firmware.template, spec.variables)
    if memory is not None:
        memory.unlink(missing_ok=True)
        memory.touch(mode=0o600)
        spec = evolve(spec, memory_file=memory, memory_shared=True)
    with _machine(spec, run) as machine:
        machine.start()
        agent = Agent(machine.command, run.directory.nonce)
        agent.greet(within=deadline)
        yield Up(machine=machine, agent=agent, way="cold")


def state_key(spec: MachineSpec, identity: str) -> str:
    """What a saved state depends on, as the cache's key: QEMU, firmware, appliance, accelerator, every argument.

    QEMU itself refuses a state of another machine type or memory size, but takes one of another CPU model or kernel
    silently: so all arguments count, with the paths replaced by what lies there.
    """
    plain = evolve(spec, variables=Path("variables"), memory_file=Path("memory"), disks=())
    arguments = qemu_args.argv(QEMU, plain, Channels(monitor=0, log=1, command=2, terminal=3))
    firmware = spec.firmware
    return cache.key_of(
        {
            "format": _FORMAT,
            "qemu": [versions.version_of(QEMU), cache.remembered_digest(proc.require(QEMU))],
            "arguments": arguments,
            "appliance": identity,
            "firmware": [cache.remembered_digest(path) for path in (firmware.code, firmware.template)]
            if firmware
            else [],
        }
    )


def _state(spec: MachineSpec, identity: str, deadline: float, run: Run) -> Path | None:
    """The folder of the saved state, made now if there is none; None if it cannot be made."""
    try:
        return cache.entry("state", state_key(spec, identity), lambda folder: _make(folder, spec, deadline, run))
    except (HostError, QemuError, GuestError, OSError) as error:
        run.note(f"the appliance's state cannot be saved, so it boots cold: {str(error).splitlines()[0]}")
        return None


def _make(folder: Path, spec: MachineSpec, deadline: float, run: Run) -> None:
    run.note("the appliance boots once and is saved for later builds")
    making = RunDirectory(path=folder / "making")
    making.path.mkdir(mode=0o700)
    (folder / _MEMORY).touch(mode=0o600)
    if spec.firmware is not None:
        copyfile(spec.firmware.template, making.variables)
    saving = evolve(spec, variables=making.variables, memory_file=folder / _MEMORY, memory_shared=True)
    with Machine(saving, making, on_line=lambda line: run.say(line, "console")) as machine:
        machine.start()
        Agent(machine.command, making.nonce).await_agent(within=deadline)
        machine.save(folder / _DEVICES)
    making.remove()


def _resumed(machine: Machine, state: Path, spec: MachineSpec, run: Run) -> Agent | None:
    """The agent of a resumed appliance; None, with the state discarded, if it cannot be resumed."""
    try:
        machine.start(resume=state / _DEVICES)
        agent = Agent(machine.command, run.directory.nonce)
        agent.open_session(within=_RESUME_SECONDS * spec.accelerator.time_scale)
    except (QemuError, GuestError, OSError) as error:
        run.note(f"the saved appliance cannot be resumed, so it boots cold: {str(error).splitlines()[0]}")
        cache.discard(state)
        return None
    return agent


def _machine(spec: MachineSpec, run: Run) -> Machine:
    return Machine(spec, run.directory, on_line=lambda line: run.say(line, "console"))


def wake_parameters(seed: str) -> dict[str, str]:
    """What the guest script ``wake`` needs: the time now, and a seed for the kernel's random numbers."""
    return {"NOW": str(int(time.time())), "SEED": seed}
