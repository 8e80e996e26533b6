"""``vmharness boot`` without ``--until``: a person's terminal becomes the machine's console."""

from __future__ import annotations

import shlex
from pathlib import Path

import pexpect
from running import PROGRAM, Workplace

SECONDS = 120


def test_person_logs_in_and_leaves(minimal: Path, place: Workplace) -> None:
    """The login prompt appears, root gets a shell, Ctrl-C goes to the guest, and Ctrl-] leaves.

    The terminal's modes are as before then, no machine is left, and the output is untouched.
    """
    boot = shlex.join([*PROGRAM, "boot", str(minimal)])
    environment = {**place.environment_of_runs(), "TERM": "vt100"}
    script = f"stty -g; {boot}; echo status=$?; stty -g"
    with pexpect.spawn(
        "sh", ["-c", script], env=environment, cwd=place.folder, timeout=SECONDS, encoding="utf-8"
    ) as terminal:
        terminal.expect(r"([0-9a-f]+(?::[0-9a-f]+)+)\r\n")
        before = terminal.match[1]
        terminal.expect_exact("Ctrl-] leaves")
        terminal.expect("login: ")
        terminal.send("root\r")
        terminal.expect_exact("minimal# ")
        terminal.send("echo $((6 * 7)); sleep 300\r")
        terminal.expect(r"\r\n42\r\n")
        terminal.send("\x03")
        terminal.expect_exact("minimal# ")
        assert len(place.guests()) == 1
        terminal.send("\x1d")
        terminal.expect(r"status=(\d+)\r\n")
        assert terminal.match[1] == "0"
        terminal.expect(r"([0-9a-f]+(?::[0-9a-f]+)+)\r\n")
        assert terminal.match[1] == before
        terminal.expect(pexpect.EOF)
    assert place.guests() == []


def test_guest_that_switches_off_gives_the_terminal_back(minimal: Path, place: Workplace) -> None:
    """``poweroff`` in the guest ends the program as well, with a word about how the machine ended."""
    with pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], "boot", str(minimal)],
        env=place.environment_of_runs(),
        timeout=SECONDS,
        encoding="utf-8",
    ) as terminal:
        terminal.expect("login: ")
        terminal.send("root\r")
        terminal.expect_exact("minimal# ")
        terminal.send("poweroff -f\r")
        terminal.expect(r"the guest switched the machine off")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    assert terminal.exitstatus == 0
    assert place.guests() == []
