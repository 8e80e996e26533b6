"""A machine's buttons, keyboard, screen and gauges, and how a guest switches it off, on the fake QEMU."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_machines import NewMachine

from vmharness.errors import ApiMisuse, QemuDied, QmpRefused
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Accelerator, Bus, Disk, Faults, MachineSpec, UserNetwork
from vmharness.model.outcome import Died, Panicked, PoweredOff, Stalled, describe
from vmharness.vm.console import Seen
from vmharness.vm.machine import Machine, State
from vmharness.vm.panel import BlockIO

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

OFF = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
SPEC = MachineSpec(accelerator=Accelerator.TCG, resets=True, display=True, network=UserNetwork(guest_port=2222))


def wait_for(machine: Machine, text: str) -> None:
    seen = machine.log.expect([re.compile(re.escape(text))], within=5, waiting_for=text)
    assert isinstance(seen, Seen), seen


def test_resets_are_counted_apart(new_machine: NewMachine) -> None:
    """A reset from outside has happened when the call returns; the guest's own are counted apart, and told."""
    told: list[bool] = []
    guest = [{"log": "up\n"}, {"event": "RESET", "data": {"guest": True, "reason": "guest-reset"}}, {"log": "again\n"}]
    with new_machine(spec=SPEC, guest=guest) as machine:
        machine.resets.subscribe(told.append)
        machine.start()
        wait_for(machine, "again")
        machine.reset()
        assert (machine.resets.by_guest, machine.resets.by_us) == (1, 1)
        machine.reset()
        assert (machine.resets.by_guest, machine.resets.by_us) == (1, 2)
        assert machine.state is State.RUNNING
    assert told == [True, False, False]


def test_a_failing_listener_to_resets(new_machine: NewMachine) -> None:
    """One listener's fault keeps neither the others nor the count from learning of a reset."""
    told = threading.Event()

    def fails(_by_guest: bool) -> None:
        raise ValueError("a listener's own trouble")

    with new_machine(spec=SPEC) as machine:
        machine.resets.subscribe(fails)
        machine.resets.subscribe(lambda _by_guest: told.set())
        machine.start()
        machine.reset()
        assert told.wait(5)


def test_a_reset_that_would_end_the_machine(new_machine: NewMachine) -> None:
    """A machine that ends at a reset has no reset button."""
    with new_machine(spec=MachineSpec(accelerator=Accelerator.TCG)) as machine:
        machine.start()
        with pytest.raises(ApiMisuse, match="specify resets"):
            machine.reset()


def test_a_reset_that_qemu_does_not_survive(new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that dies of its reset says so, and so does one that never resets."""
    with new_machine(spec=SPEC, guest=[{"log": "up\n"}]) as machine:
        machine.start()
        wait_for(machine, "up")
        assert machine._live is not None
        os.kill(machine._live.process.pid, signal.SIGSTOP)
        killer = threading.Timer(0.1, os.kill, [machine._live.process.pid, signal.SIGKILL])
        killer.start()
        with pytest.raises(QemuDied, match="killed by SIGKILL"):
            machine.reset()
        killer.join()
    monkeypatch.setattr("vmharness.vm.panel._RESET_SECONDS", 0.1)
    monkeypatch.setattr("vmharness.vm.resets.Resets.record", lambda _self, *, by_guest: None)
    with new_machine(spec=SPEC) as machine:
        machine.start()
        with pytest.raises(QemuDied, match="did not reset the machine within"):
            machine.reset()


def test_the_guest_answers_the_power_button(new_machine: NewMachine) -> None:
    """A guest that switches itself off is an outcome of its own, told once QEMU has ended, with its last words."""
    guest = [{"log": "up\n"}]
    going = [{"log": "reboot: Power down\n"}, OFF, {"wait": 0.1}, {"exit": 0}]
    with new_machine(spec=SPEC, guest=guest, on_power_button=going) as machine:
        machine.start()
        wait_for(machine, "up")
        machine.power_button()
        outcome = machine.wait_off(within=5)
        assert isinstance(outcome, PoweredOff)
        assert outcome.last_words.endswith("reboot: Power down")
        assert describe(outcome) == "the guest switched the machine off"
        assert machine.state is State.GONE
        assert machine.wait_off(within=5) == outcome
        with pytest.raises(QemuDied, match="the guest switched the machine off"):
            machine.power_button()


def test_a_wait_on_the_console_ends_with_the_power(new_machine: NewMachine) -> None:
    """Whoever waits for a text learns that the guest switched the machine off."""
    with new_machine(spec=SPEC, guest=[{"log": "bye\n"}, OFF, {"exit": 0}]) as machine:
        machine.start()
        outcome = machine.log.expect([re.compile("never")], within=5, waiting_for="never")
    assert outcome == PoweredOff(last_words="bye")


@pytest.mark.parametrize(
    ("going", "expected"),
    [([{"signal": "SEGV"}], Died), ([{"log": "Kernel panic - not syncing: at the end\n"}], Panicked), ([], Stalled)],
)
def test_a_guest_that_does_not_end_well(
    new_machine: NewMachine, going: list[dict[str, object]], expected: type[object]
) -> None:
    """A guest that dies, panics or does nothing at the power button has not switched the machine off."""
    with new_machine(spec=SPEC, on_power_button=going) as machine:
        machine.start()
        machine.power_button()
        assert isinstance(machine.wait_off(within=1.5), expected)


def test_a_qemu_that_outlives_its_guest(new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that is off while QEMU hangs is no orderly end: its disks may not be written."""
    monkeypatch.setattr("vmharness.vm.machine.MONITOR_SECONDS", 0.2)
    with new_machine(spec=SPEC, guest=[OFF]) as machine:
        machine.start()
        outcome = machine.wait_off(within=5)
    assert isinstance(outcome, Died)
    assert outcome.reason == "the guest switched the machine off, but QEMU still runs"


def test_killing(new_machine: NewMachine) -> None:
    """A machine that we kill is off at once, and that is no death."""
    told = threading.Event()
    with new_machine(spec=SPEC) as machine:
        machine.when_ended(told.set)
        machine.start()
        assert machine._live is not None
        process = machine._live.process
        machine.kill()
        assert process.exit_reason(0) == "QEMU was killed by SIGKILL"
        assert machine.state is State.OFF
        with pytest.raises(ApiMisuse, match="the machine is off"):
            machine.kill()
    assert machine.ending is None
    assert not told.is_set()


def test_pausing(new_machine: NewMachine) -> None:
    """A paused machine stands still, can be looked at, and goes on."""
    with new_machine(spec=SPEC) as machine:
        machine.start()
        machine.pause()
        assert machine.state is State.PAUSED
        assert machine.qmp("query-status")["running"] is False
        assert machine.registers()
        with pytest.raises(ApiMisuse, match=r"the machine is paused; legal now: qmp\(\), .*unpause\(\)"):
            machine.pause()
        machine.unpause()
        assert machine.state is State.RUNNING
        assert machine.qmp("query-status")["running"] is True
        with pytest.raises(ApiMisuse, match="the machine is running"):
            machine.unpause()


def test_keys(new_machine: NewMachine) -> None:
    """Keys that are given together are pressed together."""
    with new_machine(spec=SPEC) as machine:
        machine.start()
        machine.send_keys(["ctrl", "x"])
        machine.send_keys(["ret"])
        wait_for(machine, "[keys ctrl x]\n[keys ret]")


def test_screenshot(new_machine: NewMachine, run: RunDirectory) -> None:
    """A picture is written where it is wanted; QEMU's refusal is an error, and a machine without screen says so."""
    picture = run.path / "a, b.png"
    with new_machine(spec=SPEC) as machine:
        machine.start()
        machine.screenshot(picture)
        assert picture.read_bytes().startswith(b"\x89PNG")
    with new_machine(spec=SPEC, refuse={"screendump": "no room"}) as machine:
        machine.start()
        with pytest.raises(QmpRefused, match="no room"):
            machine.screenshot(picture)
    with new_machine(spec=MachineSpec(accelerator=Accelerator.TCG)) as machine:
        machine.start()
        with pytest.raises(ApiMisuse, match="specify display"):
            machine.screenshot(picture)


def test_the_port_of_ssh(new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is the one that QEMU chose; without network, or without a forward, that is said."""
    with new_machine(spec=SPEC) as machine:
        machine.start()
        assert machine.ssh_port() == 40123
        monkeypatch.setattr(machine, "_ask_human_monitor", lambda _line: "Hub -1 (net):\n")
        with pytest.raises(QemuDied, match=r"does not name the port .* Hub -1"):
            machine.ssh_port()
    with new_machine(spec=MachineSpec(accelerator=Accelerator.TCG)) as machine:
        machine.start()
        with pytest.raises(ApiMisuse, match="specify network"):
            machine.ssh_port()


def test_gauges(new_machine: NewMachine, run: RunDirectory) -> None:
    """Registers are QEMU's words, and what was read and written is summed over all drives."""
    for name in ("one", "two"):
        (run.path / name).touch()
    disks = (
        Disk(name="one", path=run.path / "one", bus=Bus.USB),
        Disk(name="two", path=run.path / "two", bus=Bus.CDROM, faults=Faults(unreadable=(7,))),
    )
    with new_machine(spec=MachineSpec(accelerator=Accelerator.TCG, disks=disks)) as machine:
        machine.start()
        assert machine.registers() == "CPU#0\nRAX=0000000000000000\n"
        assert machine.block_io() == BlockIO(read_bytes=1024, written_bytes=8192)


def test_a_dead_guest_can_be_looked_at(new_machine: NewMachine, run: RunDirectory) -> None:
    """After a panic QEMU still answers, so that picture and registers are to be had; the machine then switches off."""
    with new_machine(spec=SPEC, guest=[{"log": "Kernel panic - not syncing: no root\n"}]) as machine:
        machine.start()
        assert isinstance(machine.wait_off(within=5), Panicked)
        assert machine.state is State.DEAD
        assert machine.registers()
        machine.screenshot(run.path / "dead.png")
        with pytest.raises(QemuDied, match="no root"):
            machine.pause()
        machine.off()
        assert machine.state is State.OFF
    assert isinstance(machine.ending, Panicked)


def test_every_byte_from_the_first_on(run: RunDirectory, new_machine: NewMachine) -> None:
    """Raw output goes to who asked for it before the start, as it came."""
    taken: list[bytes] = []
    with new_machine(spec=SPEC, on_output=taken.append, guest=[{"log": "\x1b[2J\xe9first\n"}]) as machine:
        machine.start()
        wait_for(machine, "first")
    assert b"".join(taken) == b"\x1b[2J\xe9first\n" == run.transcript.read_bytes()


def test_only_some_disks_can_be_plugged(new_machine: NewMachine, tmp_path: Path) -> None:
    """A disk whose bus takes none while the machine runs is refused before QEMU sees it."""
    with new_machine() as machine:
        machine.start()
        with pytest.raises(ApiMisuse, match="a disk on ahci cannot be plugged"):
            machine.plug(Disk(name="disk", path=tmp_path / "disk", bus=Bus.AHCI))


@pytest.mark.parametrize(
    "call",
    [
        lambda machine: machine.reset(),
        lambda machine: machine.power_button(),
        lambda machine: machine.wait_off(within=1),
        lambda machine: machine.pause(),
        lambda machine: machine.unpause(),
        lambda machine: machine.kill(),
        lambda machine: machine.screenshot(Path("/nowhere")),
        lambda machine: machine.send_keys(["a"]),
        lambda machine: machine.ssh_port(),
        lambda machine: machine.registers(),
        lambda machine: machine.block_io(),
    ],
)
def test_calls_before_the_start_are_misuse(new_machine: NewMachine, call: Callable[[Machine], object]) -> None:
    """Nothing can be pressed or read on a machine that is not switched on."""
    with new_machine(spec=SPEC) as machine, pytest.raises(ApiMisuse, match="the machine is new; legal now: start"):
        call(machine)
