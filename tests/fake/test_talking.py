"""Entries of a dialogue with an installer, on the fake QEMU: what is waited for, and how a failure reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_machines import NewMachine

from vmharness.errors import Unreachable
from vmharness.events import Event, StepFinished
from vmharness.flows.run import Run
from vmharness.flows.talking import Installer, talk
from vmharness.host.rundir import RunDirectory
from vmharness.model.dialogue import End, Entry, Sight
from vmharness.model.hardware import Accelerator, MachineSpec
from vmharness.vm.following import Follower

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

OFF = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
RESET = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}
SPEC = MachineSpec(accelerator=Accelerator.TCG)


class Talker:
    """Does entries on a machine that plays a guest."""

    def __init__(self, new_machine: NewMachine, directory: RunDirectory) -> None:
        self.events: list[Event] = []
        self.run = Run(directory=directory, emit=self.events.append)
        self._new_machine = new_machine

    def talk(self, guest: list[dict[str, Any]], *entries: Entry) -> list[str]:
        """Do the entries one after the other."""
        follower = Follower()
        with self._new_machine(spec=SPEC, guest=guest, on_output=follower.feed) as machine:
            machine.start()
            follower.follow(machine)
            return [talk(Installer(machine=machine, follower=follower), entry, self.run) for entry in entries]


@pytest.fixture
def talker(new_machine: NewMachine, run: RunDirectory) -> Iterator[Talker]:
    """Does entries on a fake machine."""
    return Talker(new_machine, run)


def entry(sight: Sight, expected: str, **more: Any) -> Entry:
    return Entry(
        name=f"{sight.value} {expected}", sight=sight, expected=expected, deadline=more.pop("within", 10.0), **more
    )


def test_questions_are_answered_in_their_order(talker: Talker) -> None:
    """Text and screen are waited for one after the other; each entry is a part of the run, with its time."""
    guest = [{"log": "Disk? "}, {"wait": 0.1}, {"log": "\x1b[2J\x1b[5;5HName? "}, {"log": "done\n"}, OFF, {"exit": 0}]
    seen = talker.talk(
        guest,
        entry(Sight.CONSOLE, r"^Disk\?", send="vda\r"),
        entry(Sight.SCREEN, "Name.", keys=("down", "enter")),
        entry(Sight.END, End.POWER_OFF.value),
    )
    assert seen == ["Disk?", "Name?", "the guest switched the machine off"]
    assert [event.step for event in talker.events if isinstance(event, StepFinished)] == [
        r"expect ^Disk\?", "screen Name.", "end power-off",
    ]  # fmt: skip


def test_stuck_installer(talker: Talker) -> None:
    """A text that does not come is told with what was expected and the last lines."""
    with pytest.raises(Unreachable) as caught:
        talker.talk([{"log": "one\nDisk? "}], entry(Sight.CONSOLE, "Name", within=0.2))
    assert "expected 'Name', which was not printed within 0 s" in str(caught.value)
    assert "one\n    Disk?" in str(caught.value)


def test_stuck_on_a_screen(talker: Talker) -> None:
    """A screen that does not come is told with the one that is there, as text."""
    with pytest.raises(Unreachable) as caught:
        talker.talk([{"log": "\x1b[2J\x1b[2;3HPick one"}], entry(Sight.SCREEN, "Name", within=0.2))
    assert "its screen shows:" in str(caught.value)
    assert "|   Pick one" in str(caught.value)


@pytest.mark.parametrize(("sight", "verb"), [(Sight.CONSOLE, "printed"), (Sight.SCREEN, "shown")])
def test_dead_installer(talker: Talker, sight: Sight, verb: str) -> None:
    """A machine that ends is noticed at once, and named."""
    with pytest.raises(Unreachable) as caught:
        talker.talk([{"log": "bye\n"}, OFF, {"exit": 0}], entry(sight, "more", within=60.0))
    assert f"expected 'more', which was not {verb}: the guest switched the machine off" in str(caught.value)


@pytest.mark.parametrize(
    ("how", "wanted", "ends"),
    [
        (OFF, End.POWER_OFF, True),
        (OFF, End.RESET, False),
        (OFF, End.EITHER, True),
        (RESET, End.RESET, True),
        (RESET, End.POWER_OFF, False),
        (RESET, End.EITHER, True),
    ],
)
def test_ends(talker: Talker, how: dict[str, Any], wanted: End, ends: bool) -> None:
    """Only the end that is wanted is one."""
    asked = entry(Sight.END, wanted.value)
    if ends:
        assert talker.talk([how, {"exit": 0}], asked)
        return
    with pytest.raises(Unreachable, match="which was not done"):
        talker.talk([how, {"exit": 0}], asked)


def test_a_crash_is_no_end(talker: Talker) -> None:
    """A panic is no way to end an install, whichever end is waited for."""
    with pytest.raises(Unreachable, match="Kernel panic"):
        talker.talk([{"log": "Kernel panic - not syncing: no root\n"}], entry(Sight.END, End.EITHER.value))


def test_entry_that_stops_only_waits(talker: Talker) -> None:
    """What an entry that stops the run has seen is not read yet: whoever enters there finds it again."""
    asked = entry(Sight.CONSOLE, r"Disk\?", stop=True)
    assert talker.talk([{"log": "Disk? "}], asked, asked) == ["Disk?", "Disk?"]
