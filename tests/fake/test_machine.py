"""A machine from its start to its end, on the fake QEMU."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_machines import FAKE_QEMU, NewMachine, leftovers, snapshot

from vmharness.errors import ApiMisuse, HostError, LaunchFailed, QemuDied, QemuError, QmpRefused
from vmharness.host.rundir import RunDirectory
from vmharness.model.hardware import Accelerator, DirectKernel, Disk, MachineSpec
from vmharness.model.outcome import Died, Ended, Panicked, Stalled
from vmharness.vm.console import Seen
from vmharness.vm.machine import Machine, State

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

NEVER = re.compile("never printed")
SPEC = MachineSpec(accelerator=Accelerator.TCG)


def wait_on_log(machine: Machine, within: float = 5) -> Seen | Stalled | Ended:
    return machine.log.expect([NEVER], within=within, waiting_for="a text that never comes")


def test_starts_and_switches_off(new_machine: NewMachine, run: RunDirectory) -> None:
    """A machine runs after its start, has no ending after a clean end, and its evidence is in the run directory."""
    with new_machine(guest=[{"log": "hello\r\n"}]) as machine:
        assert machine.state is State.NEW
        machine.start()
        assert machine.state is State.RUNNING
        assert machine.qmp("query-status")["running"] is True
        assert isinstance(machine.log.expect([re.compile("hello")], within=5, waiting_for="hello"), Seen)
        machine.off()
        assert machine.state is State.OFF
    assert machine.ending is None
    assert machine.state is State.OFF
    assert run.transcript.read_bytes() == b"hello\r\n"
    assert run.qemu_argv.read_text().splitlines()[0] == str(FAKE_QEMU)


def test_closing_without_switching_off(new_machine: NewMachine) -> None:
    """Leaving the context ends a running machine; a second close does nothing, and the machine does not start again."""
    machine = new_machine()
    with machine:
        machine.start()
    machine.close()
    assert machine.state is State.OFF
    with pytest.raises(ApiMisuse, match=r"the machine is off; legal now: close\(\)"):
        machine.start()


def test_a_new_machine_closes(new_machine: NewMachine) -> None:
    """A machine that was never started can be closed, and is off then."""
    machine = new_machine()
    machine.close()
    assert machine.state is State.OFF


@pytest.mark.parametrize(
    "call",
    [
        lambda machine: machine.qmp("stop"),
        lambda machine: machine.off(),
        lambda machine: machine.plug(Disk(name="disk", path=Path("/dev/null"))),
        lambda machine: machine.log,
        lambda machine: machine.command,
    ],
)
def test_calls_before_the_start_are_misuse(new_machine: NewMachine, call: Callable[[Machine], object]) -> None:
    """A call that needs a running machine says what the machine is and what is legal now."""
    with (
        new_machine() as machine,
        pytest.raises(ApiMisuse, match=r"the machine is new; legal now: start\(\), close\(\)"),
    ):
        call(machine)


def test_starting_twice_is_misuse(new_machine: NewMachine) -> None:
    """A running machine does not start again and says what it can do instead."""
    with new_machine() as machine:
        machine.start()
        with pytest.raises(ApiMisuse) as misuse:
            machine.start()
    assert str(misuse.value) == (
        "the machine is running; legal now: qmp(), plug(), reset(), power_button(), send_keys(), screenshot(),"
        " ssh_port(), registers(), block_io(), pause(), save(), wait_off(), kill(), off(), close()"
    )


def test_a_command_console_must_be_specified(new_machine: NewMachine) -> None:
    """Asking for a command console that the machine was not made with is the caller's bug."""
    with new_machine(spec=SPEC) as machine:
        machine.start()
        with pytest.raises(ApiMisuse, match="no command console"):
            assert machine.command


def test_qemu_not_installed(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing QEMU is the host's lack and names the package."""
    monkeypatch.setattr("vmharness.host.proc.find", lambda _program: None)
    with Machine(SPEC, run) as machine, pytest.raises(HostError, match="install qemu-system-x86"):
        machine.start()


def test_qemu_that_cannot_be_run(run: RunDirectory, tmp_path: Path) -> None:
    """A program that is none is a failed launch, which names it."""
    program = tmp_path / "no such qemu"
    with Machine(SPEC, run, program=str(program)) as machine:
        with pytest.raises(LaunchFailed, match="no such qemu: No such file"):
            machine.start()
        assert machine.state is State.OFF


def test_no_descriptors_left_for_the_channels(new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second channel cannot be made the first one is closed, and the error says why."""
    made: list[tuple[socket.socket, socket.socket]] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        if made:
            raise OSError(24, "Too many open files")
        made.append(real())
        return made[0]

    real = socket.socketpair
    with new_machine() as machine:
        monkeypatch.setattr("vmharness.vm.process.socket.socketpair", pair)
        with pytest.raises(LaunchFailed, match="Too many open files"):
            machine.start()
        monkeypatch.undo()


def test_qemu_refuses_its_arguments(new_machine: NewMachine, tmp_path: Path) -> None:
    """What QEMU says before it gives up is in the error."""
    kernel = DirectKernel(image=tmp_path / "no kernel", initrd=tmp_path / "no initrd", command_line=())
    spec = MachineSpec(accelerator=Accelerator.TCG, kernel=kernel)
    with new_machine(spec=spec) as machine, pytest.raises(LaunchFailed) as failure:
        machine.start()
    assert failure.value.what == "QEMU did not start: QEMU exited with status 1"
    assert f"could not open '{tmp_path}/no kernel': No such file or directory" in str(failure.value)
    assert failure.value.evidence == machine.run.qemu_stderr


def test_a_monitor_that_never_answers(new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that is up but says nothing is a failed launch, and is ended."""
    monkeypatch.setattr("vmharness.vm.live.MONITOR_SECONDS", 0.2)
    monkeypatch.setattr("vmharness.vm.live.SETTLE_SECONDS", 0.1)
    with new_machine(mute=True) as machine, pytest.raises(LaunchFailed, match="monitor did not answer within"):
        machine.start()


def test_killed_from_outside(new_machine: NewMachine) -> None:
    """A wait ends within half a second of QEMU's death and names the signal; afterwards the machine is gone."""
    with new_machine(guest=[{"log": "last words\n"}]) as machine:
        machine.start()
        machine.log.expect([re.compile("last words")], within=5, waiting_for="words")
        assert machine._live is not None
        pid = machine._live.process.pid
        killed_at: list[float] = []

        def kill() -> None:
            killed_at.append(time.monotonic())
            os.kill(pid, signal.SIGKILL)

        timer = threading.Timer(0.05, kill)
        timer.start()
        outcome = wait_on_log(machine)
        noticed = time.monotonic()
        timer.join()
        assert outcome == Died(reason="QEMU was killed by SIGKILL", stderr="", last_words="last words")
        assert noticed - killed_at[0] < 0.5
        assert machine.state is State.GONE
        with pytest.raises(QemuDied, match="killed by SIGKILL"):
            machine.qmp("query-status")
    assert machine.state is State.GONE
    assert machine.ending == outcome


def test_the_end_is_told_to_listeners(new_machine: NewMachine) -> None:
    """Listeners are called once the machine has died, also after one of them failed, and at once when it is late."""
    told = threading.Event()

    def fails() -> None:
        raise ValueError("a listener's own trouble")

    with new_machine(guest=[{"signal": "KILL"}]) as machine:
        machine.when_ended(fails)
        machine.when_ended(told.set)
        machine.start()
        assert told.wait(5)
        late = threading.Event()
        machine.when_ended(late.set)
        assert late.is_set()


def test_no_ending_after_switching_off(new_machine: NewMachine) -> None:
    """Switching off is no death: no listener is told, although consoles and monitor close."""
    told = threading.Event()
    with new_machine() as machine:
        machine.when_ended(told.set)
        machine.start()
        machine.off()
        assert isinstance(machine.log.expect([NEVER], within=5, waiting_for="nothing"), Died)
    assert machine.ending is None
    assert not told.is_set()


def test_dead_before_it_is_switched_off(new_machine: NewMachine) -> None:
    """Switching off a machine that has just been killed says so instead of calling it a clean end."""
    with new_machine() as machine:
        machine.start()
        assert machine._live is not None
        os.kill(machine._live.process.pid, signal.SIGKILL)
        with pytest.raises(QemuDied, match="killed by SIGKILL"):
            machine.off()


def test_a_command_that_qemu_does_not_survive(new_machine: NewMachine) -> None:
    """The error of a command names QEMU's end and carries what QEMU said."""
    with new_machine() as machine:
        machine.start()
        assert machine._live is not None
        os.kill(machine._live.process.pid, signal.SIGSTOP)
        os.kill(machine._live.process.pid, signal.SIGKILL)
        with pytest.raises(QemuDied, match="killed by SIGKILL"):
            machine.qmp("query-status")


def test_a_monitor_that_closes_alone(new_machine: NewMachine) -> None:
    """A monitor that closes while QEMU goes on is an end too, and is called what it is."""
    with new_machine(guest=[{"close": "monitor"}]) as machine:
        machine.start()
        outcome = wait_on_log(machine)
    assert isinstance(outcome, Died)
    assert outcome.reason == "QEMU closed its monitor but still runs"


@pytest.mark.parametrize("channel", ["log", "command"])
def test_a_console_that_closes_alone(new_machine: NewMachine, channel: str) -> None:
    """A console's end of file is the machine's end when nothing says more about it, whichever console one waits on."""
    with new_machine(guest=[{"log": "words\n"}, {"wait": 0.05}, {"close": channel}]) as machine:
        machine.start()
        outcome = wait_on_log(machine)
    assert outcome == Died(reason=f"the {channel} console was closed", stderr="", last_words="words")


@pytest.mark.parametrize("then", [{"exit": 0}, {"wait": 60}])
def test_the_guest_resets(new_machine: NewMachine, then: dict[str, float]) -> None:
    """A reset by the guest is named, whether QEMU has ended after it or not."""
    reset = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}
    with new_machine(guest=[{"log": "going down\n"}, reset, then]) as machine:
        machine.start()
        outcome = wait_on_log(machine)
    reason = "the guest ended the machine (guest-reset)"
    assert outcome == Died(reason=reason, stderr="", last_words="going down", by_reset=True)


def test_ended_from_outside(new_machine: NewMachine) -> None:
    """A SIGTERM from somebody else is not the guest's doing."""
    ended = {"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-signal"}}
    with new_machine(guest=[ended, {"exit": 0}]) as machine:
        machine.start()
        outcome = wait_on_log(machine)
    assert isinstance(outcome, Died)
    assert outcome.reason == "QEMU was ended from outside (host-signal)"


PANIC = "[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"


@pytest.mark.parametrize("then", [{"exit": 0}, {"signal": "ABRT"}, {"wait": 60}])
@pytest.mark.parametrize("end", ["\r\n", ""])
def test_kernel_panic(new_machine: NewMachine, end: str, then: dict[str, object]) -> None:
    """A panic's own line wins over the end of QEMU that follows at once, also when the line has no end."""
    with new_machine(guest=[{"log": f"booting\r\n{PANIC}{end}"}, then]) as machine:
        machine.start()
        outcome = wait_on_log(machine)
    assert outcome == Panicked(
        pattern="kernel panic",
        line="Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        last_words=f"booting\n{PANIC}",
    )


def test_the_panic_text_wins_over_the_event(new_machine: NewMachine) -> None:
    """The monitor tells of a panic before the serial line does: the text is waited for."""
    panicked = {"event": "GUEST_PANICKED", "data": {"action": "pause"}}
    with new_machine(guest=[panicked, {"wait": 0.1}, {"log": f"{PANIC}\n"}]) as machine:
        machine.start()
        outcome = wait_on_log(machine)
    assert isinstance(outcome, Panicked)
    assert outcome.line.startswith("Kernel panic - not syncing: VFS")


def test_a_panic_without_text(new_machine: NewMachine) -> None:
    """A panic that only the monitor tells of is one too, after a moment."""
    panicked = {"event": "GUEST_PANICKED", "data": {"action": "pause"}}
    with new_machine(guest=[{"log": "quiet\n"}, panicked]) as machine:
        machine.start()
        outcome = wait_on_log(machine)
    assert outcome == Panicked(pattern="kernel panic", line="the guest's kernel reported a panic", last_words="quiet")


def test_a_hang(new_machine: NewMachine) -> None:
    """A guest that says nothing more stalls at the deadline, and its last words are told; the machine still runs."""
    with new_machine(guest=[{"log": "Loading initial ramdisk ...\r\n"}]) as machine:
        machine.start()
        outcome = wait_on_log(machine, within=0.3)
        assert machine.state is State.RUNNING
    assert isinstance(outcome, Stalled)
    assert outcome.waiting_for == "a text that never comes"
    assert 0.3 <= outcome.seconds < 2
    assert outcome.last_words == "Loading initial ramdisk ..."


def test_a_frozen_qemu_is_ended(new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that neither answers nor listens to SIGTERM is killed, and closing takes no longer than its limits."""
    monkeypatch.setattr("vmharness.vm.machine._CLOSE_SECONDS", 0.1)
    monkeypatch.setattr("vmharness.vm.process._GRACE", 0.1)
    with new_machine(guest=[{"deaf": True}, {"log": "deaf now\n"}]) as machine:
        machine.start()
        machine.log.expect([re.compile("deaf now")], within=5, waiting_for="deafness")
        with pytest.raises(QemuDied, match="still runs 0 s after it was asked to quit"):
            machine.off(within=0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 1


def test_plugging_a_disk(new_machine: NewMachine, tmp_path: Path) -> None:
    """Disks go into one port each; a machine without a free port says so."""
    (tmp_path / "a, b.raw").touch()
    with new_machine() as machine:
        machine.start()
        machine.plug(Disk(name="one", path=tmp_path / "a, b.raw"))
        machine.plug(Disk(name="two", path=tmp_path / "a, b.raw"))
        with pytest.raises(ApiMisuse, match="no free root port"):
            machine.plug(Disk(name="three", path=tmp_path / "a, b.raw"))


def test_a_disk_that_qemu_refuses(new_machine: NewMachine, tmp_path: Path) -> None:
    """QEMU's words are in the error, and neither the port nor the disk's name is lost by a failed attempt."""
    disk = Disk(name="disk", path=tmp_path / "disk.raw")
    with new_machine(spec=MachineSpec(accelerator=Accelerator.TCG, root_ports=1)) as machine:
        machine.start()
        with pytest.raises(QmpRefused, match=r"Could not open '.*disk\.raw': No such file"):
            machine.plug(disk)
        disk.path.touch()
        machine.plug(disk)
    with new_machine(refuse={"device_add": "no room"}) as machine:
        machine.start()
        with pytest.raises(QmpRefused, match="no room"):
            machine.plug(disk)
        with pytest.raises(QmpRefused, match="no room"):
            machine.plug(disk)


def test_a_start_that_qemu_refuses_at_the_end(new_machine: NewMachine) -> None:
    """A guest that QEMU will not let run is an error of the start, after which the machine is off."""
    with new_machine(refuse={"cont": "not now"}) as machine:
        with pytest.raises(QmpRefused, match="not now"):
            machine.start()
        assert machine.state is State.OFF


def test_death_during_the_start(new_machine: NewMachine) -> None:
    """A QEMU that dies with its first instruction is an error or an ending, never a hang."""
    with new_machine(guest=[{"signal": "SEGV"}]) as machine:
        try:
            machine.start()
        except QemuDied:
            return
        outcome = wait_on_log(machine)
        assert isinstance(outcome, Died)
        assert outcome.reason == "QEMU was killed by SIGSEGV"


@pytest.mark.parametrize("moment", ["wait", "command", "start"])
def test_interrupted_by_the_keyboard(new_machine: NewMachine, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a wait, in a command or in the start unwinds, and nothing is left."""
    machine = new_machine(
        mute=moment == "start", guest=[{"deaf": True}, {"log": "deaf\n"}] if moment == "command" else []
    )
    monkeypatch.setattr("vmharness.vm.machine._CLOSE_SECONDS", 0.1)
    monkeypatch.setattr("vmharness.vm.process._GRACE", 0.2)
    interrupt = threading.Timer(0.4, os.kill, [os.getpid(), signal.SIGINT])

    def work() -> None:
        with machine:
            interrupt.start()
            machine.start()
            if moment == "command":
                machine.log.expect([re.compile("deaf")], within=5, waiting_for="deafness")
                machine.qmp("query-status")
            wait_on_log(machine)

    with pytest.raises(KeyboardInterrupt):
        work()
    interrupt.join()


@pytest.fixture
def saved(run: RunDirectory) -> MachineSpec:
    """A machine whose memory is in a file that can be saved."""
    return MachineSpec(accelerator=Accelerator.TCG, memory_file=run.path / "memory", memory_shared=True)


def test_saving_and_resuming(new_machine: NewMachine, run: RunDirectory, saved: MachineSpec) -> None:
    """A saved machine can only be ended, and its devices' state is in the file; another one starts from it."""
    state = run.path / "devices"
    with new_machine(spec=saved) as machine:
        machine.start()
        machine.save(state)
        assert machine.state is State.SAVED
        with pytest.raises(ApiMisuse, match=r"the machine is saved; legal now: kill\(\), off\(\), close\(\)"):
            machine.unpause()
    assert state.read_bytes() == b"state of the devices"
    with new_machine(spec=saved) as machine:
        machine.start(resume=state)
        assert machine.state is State.RUNNING


@pytest.mark.parametrize(
    ("migration", "error"),
    [
        (["setup", "failed"], QmpRefused("resuming the machine: QEMU says that it failed")),
        (["active", "kill"], QemuDied("resuming the machine: QEMU went away")),
    ],
)
def test_a_state_that_does_not_load(
    new_machine: NewMachine, run: RunDirectory, saved: MachineSpec, migration: list[str], error: QemuError
) -> None:
    """A resume that QEMU gives up, or does not survive, is an error within a moment."""
    state = run.path / "devices"
    state.touch()
    started = time.monotonic()
    with new_machine(spec=saved, migration=migration) as machine, pytest.raises(type(error), match=error.what):
        machine.start(resume=state)
    assert time.monotonic() - started < 3


def test_interrupted_while_it_ends(new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C, while QEMU is asked to end, does not keep it from being ended."""
    monkeypatch.setattr("vmharness.vm.process._GRACE", 0.2)
    interrupt = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    with new_machine(guest=[{"deaf": True}, {"log": "deaf\n"}]) as machine:
        machine.start()
        machine.log.expect([re.compile("deaf")], within=5, waiting_for="deafness")
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            machine.close()
    interrupt.join()


def test_a_callback_may_close_the_machine(new_machine: NewMachine) -> None:
    """A listener that closes the machine from the monitor's thread does not hang."""
    closed = threading.Event()
    with new_machine(guest=[{"wait": 0.1}, {"signal": "KILL"}]) as machine:
        machine.when_ended(machine.close)
        machine.when_ended(closed.set)
        machine.start()
        assert closed.wait(5)


def test_qemu_dies_with_its_parent(tmp_path: Path) -> None:
    """When our process is killed with no chance to clean up, QEMU is gone too."""
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom vmharness.host.rundir import RunDirectory\n"
        "from vmharness.model.hardware import Accelerator, MachineSpec\nfrom vmharness.vm.machine import Machine\n"
        "import subprocess, time\n"
        f"machine = Machine(MachineSpec(accelerator=Accelerator.TCG), RunDirectory(path=Path({str(tmp_path)!r})), "
        f"program={str(FAKE_QEMU)!r})\n"
        "machine.start()\nprint(machine._live.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        qemu = Path("/proc") / parent.stdout.readline().strip()
        assert qemu.is_dir()
        parent.kill()
    deadline = time.monotonic() + 2
    while qemu.is_dir() and "State:\tZ" not in (qemu / "status").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not qemu.is_dir() or "State:\tZ" in (qemu / "status").read_text()


def test_the_check_for_leftovers_says_no() -> None:
    """A descriptor, a thread and a process that are left are each reported."""
    before = snapshot()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="straggler")
    with socket.socket(), subprocess.Popen(["sleep", "60"]) as process:
        thread.start()
        found = " ".join(leftovers(before))
        stop.set()
        process.kill()
    thread.join()
    assert "socket:" in found
    assert "thread straggler" in found
    assert f"process {process.pid}" in found
