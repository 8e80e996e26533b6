"""What a test may demand of a boot, against guests that are played by the fake QEMU."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fake_machines import FAKE_QEMU

from vmharness.errors import ApiMisuse, BootFailed, SpecError
from vmharness.model.outcome import Died, Panicked, PoweredOff, Reached, Stalled
from vmharness.testing import BootState, Hardware, Machine, firmware

Play = Callable[..., Machine]

FIRMWARE = 'BdsDxe: starting Boot0001 "Linux" from HD(1,GPT,0,0x0,0x0)/\\\\EFI\\\\LINUX.EFI\n'
REFUSED = 'BdsDxe: failed to load Boot0001 "Linux" from HD(1,GPT,0,0x0,0x0)/\\\\EFI\\\\LINUX.EFI: Access Denied\n'
NOTHING = "BdsDxe: No bootable option or device was found.\n"
BOOTED = [{"log": FIRMWARE}, {"log": "Linux version 6.1\n"}, {"log": "minimal login: "}]
RESET = {"event": "RESET", "data": {"guest": True, "reason": "guest-reset"}}


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_left_behind: None) -> Iterator[Play]:
    """Makes a running machine whose guest does what it is told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-system-x86_64").symlink_to(FAKE_QEMU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("VMHARNESS_RUNS", str(tmp_path / "runs"))
    with ExitStack() as machines:

        def start(*guest: dict[str, Any], **options: Any) -> Machine:
            scenario = tmp_path / "scenario.json"
            scenario.write_text(json.dumps({"guest": list(guest)}))
            monkeypatch.setenv("FAKE_QEMU_SCENARIO", str(scenario))
            state = BootState(disks=())
            machine = machines.enter_context(Machine(state, Hardware(accelerator="tcg", cpus=1), **options))
            machine.start()
            return machine

        yield start


def test_milestones_on_the_way_are_noted(play: Play) -> None:
    """A boot to a login passes what comes before it, and the firmware's attempt is told as data."""
    vm = play(*BOOTED)
    assert isinstance(vm.reach("login"), Reached)
    assert list(vm.milestones) == ["firmware", "bootloader", "kernel", "initramfs", "init", "login"]
    assert vm.entry_started == "Linux"
    assert isinstance(vm.reach("loader"), Reached), "what was passed is reached"


def test_text_of_a_stage(play: Play) -> None:
    """Text is told apart by the stage in which it was printed."""
    vm = play(
        {"log": FIRMWARE}, {"wait": 0.3}, {"log": "Linux version 6.1\n"}, {"wait": 0.3}, {"log": "minimal login: "}
    )
    for milestone in ("loader", "kernel", "login"):
        vm.expect_boot(milestone)
    assert "Linux version" in vm.printed()
    assert "Linux version" in vm.printed("kernel")
    assert "Linux version" not in vm.printed("bootloader")


def test_a_machine_that_does_nothing_hangs(play: Play) -> None:
    """Silence ends the wait long before the deadline, and the outcome says that the machine hangs, and after what."""
    vm = play({"log": "Linux version 6.1\n"})
    outcome = vm.reach("login", idle=0.5)
    assert isinstance(outcome, Stalled)
    assert outcome.hung
    assert outcome.after == "kernel"


def test_a_machine_that_prints_is_slow(play: Play) -> None:
    """One that still prints at the deadline is slow and does not hang."""
    vm = play({"log": "Linux version 6.1\n"}, *[{"wait": 0.2}, {"log": "still here\n"}] * 30)
    outcome = vm.reach("login", within=0.5, idle=0.45)
    assert isinstance(outcome, Stalled)
    assert not outcome.hung


def test_a_reset_that_nobody_announced_is_a_failure(play: Play) -> None:
    """A guest that resets itself is told of as such, although it boots well after that."""
    vm = play({"log": FIRMWARE}, RESET, {"wait": 0.2}, *BOOTED)
    outcome = vm.reach("login")
    assert isinstance(outcome, Died)
    assert "nobody announced" in outcome.reason


def test_an_announced_reset_is_awaited(play: Play) -> None:
    """What is printed before an announced reset does not count; the boot after it does, and is counted."""
    vm = play(*BOOTED, {"wait": 0.5}, RESET, {"wait": 0.2}, *BOOTED)
    vm.expect_boot("login")
    vm.expect_resets(1)
    vm.expect_boot("login")
    assert vm.boots == 2


def test_refusal_is_recognised(play: Play) -> None:
    """A firmware that refuses what it should boot, and says so, has not booted for that reason."""
    vm = play({"log": REFUSED}, {"log": NOTHING})
    vm.expect_no_boot("access-denied")
    assert [attempt.failure for attempt in vm.attempts] == ["Access Denied"]


def test_another_reason_is_no_proof(play: Play) -> None:
    """A machine that does not boot for want of a device has not been refused."""
    vm = play({"log": NOTHING})
    with pytest.raises(BootFailed, match=r"but not for .access-denied.: .*No bootable option"):
        vm.expect_no_boot("access-denied")


def test_a_machine_that_boots_was_not_refused(play: Play) -> None:
    """A refused first entry proves nothing when another one boots."""
    vm = play({"log": REFUSED}, *BOOTED)
    with pytest.raises(BootFailed, match="the machine booted, and it must not"):
        vm.expect_no_boot("access-denied")


def test_silence_is_no_proof(play: Play) -> None:
    """A machine that shows nothing has neither booted nor refused to."""
    vm = play()
    with pytest.raises(BootFailed, match="nothing shows that the machine refused to boot"):
        vm.expect_no_boot(within=0.3)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Kernel panic - not syncing: no init\n", "kernel panic"),
        ("grub rescue> ", "GRUB rescue"),
        ("Shell> ", "UEFI shell"),
    ],
)
def test_what_ends_a_boot_is_named(play: Play, text: str, pattern: str) -> None:
    """A boot that has ended with a panic or at a prompt is told as that, at once."""
    vm = play({"log": text})
    outcome = vm.reach("login")
    assert isinstance(outcome, Panicked)
    assert outcome.pattern == pattern


def test_a_demand_that_is_not_met_says_what_was_seen(play: Play) -> None:
    """The error has the outcome, the console's last lines and the transcript's path; to runners it is an assertion."""
    vm = play({"log": "all is lost\nKernel panic - not syncing: no init\n"})
    with pytest.raises(AssertionError) as caught:
        vm.expect_boot("login")
    text = str(caught.value)
    assert "did not boot to login: the guest stopped: kernel panic" in text
    assert "all is lost" in text
    assert str(vm.transcript) in text


def test_power_off_by_the_guest(play: Play) -> None:
    """A guest that switches itself off has reached nothing, and can be expected to do so."""
    off = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
    vm = play({"log": "Linux version 6.1\n"}, off, {"exit": 0})
    assert isinstance(vm.reach("login"), PoweredOff)
    vm.expect_off()
    with pytest.raises(ApiMisuse, match="the machine is off; legal now: start"):
        vm.reset()


def test_switched_on_again(play: Play) -> None:
    """A machine that was switched off can be started again, and counts its boots."""
    vm = play(*BOOTED)
    vm.expect_boot("login")
    with pytest.raises(ApiMisuse, match="the machine is on"):
        vm.start()
    vm.off()
    vm.start()
    vm.expect_boot("login")
    assert vm.boots == 2


def test_run_directory_is_removed_unless_kept(play: Play, tmp_path: Path) -> None:
    """Leaving a machine removes its files; one that is kept leaves a state from which others boot."""
    vm = play(*BOOTED)
    vm.keep = True
    folder = vm.folder
    vm.__exit__(None, None, None)
    assert BootState.of(folder) == vm.state
    other = play(*BOOTED)
    other.__exit__(None, None, None)
    assert not other.folder.exists()


def test_a_store_that_is_to_be_kept_must_be_there() -> None:
    """A machine that writes to its state's own files is refused where the state has no variable store."""
    state = BootState(disks=(), firmware=firmware("ovmf"))
    with pytest.raises(SpecError, match="no variable store that could be written to"), Machine(state, persist=True):
        pass


def test_a_machine_that_keeps_its_files_has_a_tpm_too(play: Play) -> None:
    """Where the state has none, a new TPM's state lies in the run directory, as long as the machine does."""
    vm = play(*BOOTED, persist=True)
    assert vm.state.tpm == vm.folder / "tpm"


def test_a_run_directory_with_a_long_path(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets have short paths only: the monitor's lies elsewhere then, and nothing of it is left."""
    vm = play()  # the place of run directories is set by the fixture; this one is left at once
    vm.off()
    monkeypatch.setenv("VMHARNESS_RUNS", str(tmp_path / ("long" * 30)))
    other = play(*BOOTED)
    other.expect_boot("login")
    place = other.core.spec.monitor_socket
    assert place is not None
    assert place.parent.is_dir()
    assert str(place) in other.hold()
    other.off()
    assert not place.parent.exists()
