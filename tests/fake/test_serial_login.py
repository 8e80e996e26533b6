"""A serial login: real shells on a real terminal, with what consoles do to it."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from serial_guest import KERNEL_MESSAGE, SerialGuest

from vmharness.errors import Unreachable
from vmharness.host import proc
from vmharness.model.outcome import Died, Panicked, Stalled
from vmharness.vm.login import login

NewGuest = Callable[..., SerialGuest]
EVERY_BYTE = bytes(range(256))


@pytest.fixture
def new_guest(tmp_path: Path, nothing_left_behind: None) -> Iterator[NewGuest]:
    """Makes a guest; keywords are its own."""
    with ExitStack() as undo:

        def make(**keywords: Any) -> SerialGuest:
            guest = SerialGuest(tmp_path, **keywords)
            undo.callback(guest.close)
            return guest

        yield make


def test_typed_lines_are_no_words_of_the_guest(new_guest: NewGuest) -> None:
    """The last words are the guest's own, not our talk with it, of which the transcript has everything."""
    guest = new_guest()
    shell = login(guest.console, "root", within=20)
    guest.say(b"something of the guest\r\n")
    shell.run("seq 50000", within=20)
    assert guest.console.last_words.endswith("something of the guest")
    assert len(guest.transcript) > 300_000


@pytest.mark.parametrize(
    "noise",
    [KERNEL_MESSAGE, b"\r\nBroadcast message from root: login: maybe\r\n", b"A", b"\x1b[1;31mtak\r\xff\x00"],
    ids=["kernel", "broadcast", "letter", "rubbish"],
)
def test_console_with_other_voices(new_guest: NewGuest, tmp_path: Path, noise: bytes) -> None:
    """Whatever else is printed in the middle of answers, results are exact."""
    guest = new_guest(noise_every=9001, noise=noise)
    shell = login(guest.console, "root", within=20)
    data = os.urandom(60_000)
    shell.put(data, f"{tmp_path}/file")
    assert shell.get(f"{tmp_path}/file") == data
    for number in range(3):
        assert shell.run(f"echo {number}; seq 2000 >&2; exit {number}", within=20, check=False).status == number
    assert guest.transcript.count(noise) > 10


@pytest.mark.parametrize("program", ["bash -i", "busybox sh -i", "dash -i -E"])
def test_login_shells(new_guest: NewGuest, tmp_path: Path, program: str) -> None:
    """A login shell that draws its line itself, wraps it and colours its prompt is as good as any; so is busybox."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if program.startswith("busybox"):
        for name in proc.run(["busybox", "--list"], doing="listing applets").text.split():
            (folder / name).symlink_to(proc.require("busybox"))
    path = str(folder) if program.startswith("busybox") else f"{folder}:{os.environ['PATH']}"
    guest = new_guest(shell=program, environment={"PATH": path, "PS1": "\\033[32m\\w \\$ " * 20, "COLUMNS": "40"})
    shell = login(guest.console, "root", within=20)
    shell.put(EVERY_BYTE * 1000, f"{tmp_path}/file")
    assert shell.get(f"{tmp_path}/file") == EVERY_BYTE * 1000
    assert shell.run("echo out; echo err >&2", within=10).stderr == b"err\n"


class TestLogin:
    """Getting in, or not."""

    def test_password(self, new_guest: NewGuest) -> None:
        """A password is given when it is asked for, and never shows."""
        guest = new_guest()
        assert login(guest.console, "secret", "secret", within=20).run("echo in", within=10).text == "in"
        assert guest.transcript.count(b"secret") == 1

    def test_password_that_nobody_asks_for(self, new_guest: NewGuest) -> None:
        """A user without a password gets in although one was given."""
        assert login(new_guest().console, "root", "secret", within=20).run("echo in", within=10).text == "in"

    @pytest.mark.parametrize(
        ("user", "password", "words"),
        [
            (
                "secret",
                "wrong",
                "refused the login of 'secret': Login incorrect(.|\n)*password is wrong, or the account",
            ),
            ("locked", "any", "refused the login of 'locked': Login incorrect"),
            ("secret", None, "asks for a password of 'secret', and none was given"),
            ("expired", "secret", "wants 'expired' to change the password"),
        ],
    )
    def test_refusals(self, new_guest: NewGuest, user: str, password: str | None, words: str) -> None:
        """Who is refused learns why, at once."""
        guest = new_guest()
        started = time.monotonic()
        with pytest.raises(Unreachable, match=words):
            login(guest.console, user, password, within=20)
        assert time.monotonic() - started < 5

    def test_console_that_logs_in_by_itself(self, new_guest: NewGuest) -> None:
        """Where the console logs the user in by itself, no name is typed; another user's name is an error."""
        guest = new_guest(environment={"AUTOMATIC": "root"})
        with pytest.raises(Unreachable, match="logs in 'root' by itself, not 'other'"):
            login(guest.console, "other", within=20)
        assert login(guest.console, "root", within=20).run("echo in", within=10).text == "in"
        assert b"root\r" not in guest.typed

    def test_prompt_that_was_seen_before(self, new_guest: NewGuest) -> None:
        """A prompt counts that somebody has waited for already, also when the kernel has spoken since."""
        guest = new_guest()
        guest.console.expect([re.compile("login: ")], within=10, waiting_for="login")
        guest.say(KERNEL_MESSAGE)
        assert login(guest.console, "root", within=20).run("echo in", within=10).text == "in"

    def test_nothing_is_typed_too_early(self, new_guest: NewGuest) -> None:
        """While the system boots nothing is typed, whatever it prints; the deadline passes."""
        guest = new_guest(environment={"BOOT_SECONDS": "60"})
        guest.say(b"Booting in 5 s\r\nLast login: yesterday")
        with pytest.raises(Unreachable, match=r"no login of 'root' on the console within 1 s") as caught:
            login(guest.console, "root", within=1)
        assert isinstance(caught.value.outcome, Stalled)
        assert guest.typed == b""

    def test_again(self, new_guest: NewGuest) -> None:
        """After a logout, and after a reset, one logs in again; a folder of an ended session is not left behind."""
        guest = new_guest()
        shell = login(guest.console, "root", within=20)
        assert Path(shell._folder).is_dir()
        shell.logout()
        assert not Path(shell._folder).exists()
        shell = login(guest.console, "root", within=20)
        guest.reset()
        login(guest.console, "root", within=20).logout()

    def test_system_without_tools(self, new_guest: NewGuest, tmp_path: Path) -> None:
        """What the guest lacks is named."""
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("sh", "stty", "sleep", "head", "cat", "mkdir", "rm", "wc", "dd"):
            (folder / name).symlink_to(proc.require(name))
        guest = new_guest(environment={"PATH": str(folder)})
        with pytest.raises(Unreachable, match="lacks the program base64 sha256sum"):
            login(guest.console, "root", within=20)


class TestTrouble:
    """A session that goes wrong."""

    def test_deadline(self, new_guest: NewGuest) -> None:
        """A command that does not end in time is interrupted, and the session can be used on."""
        shell = login(new_guest().console, "root", within=20)
        with pytest.raises(Unreachable, match="no end of the command 'sleep 300' within") as caught:
            shell.run("sleep 300", within=0.7)
        assert isinstance(caught.value.outcome, Stalled)
        assert shell.run("echo on", within=5).text == "on"

    def test_panic(self, new_guest: NewGuest) -> None:
        """A panic during a command is named at once."""
        guest = new_guest()
        shell = login(guest.console, "root", within=20)
        shell.run("(sleep 0.3; echo) >/dev/null &", within=5)
        guest.say(b"[   20.1] Kernel panic - not syncing: Fatal exception\r\n")
        started = time.monotonic()
        with pytest.raises(Unreachable, match="Kernel panic - not syncing: Fatal exception") as caught:
            shell.run("sleep 5", within=30)
        assert isinstance(caught.value.outcome, Panicked)
        assert time.monotonic() - started < 2

    def test_machine_that_ends(self, new_guest: NewGuest) -> None:
        """So is the machine's end, for a login as well."""
        guest = new_guest()
        shell = login(guest.console, "root", within=20)
        guest.ending.report(Died(reason="QEMU was killed by SIGKILL", stderr="", last_words=""))
        with pytest.raises(Unreachable, match="QEMU was killed by SIGKILL"):
            shell.run("sleep 5", within=30)
        with pytest.raises(Unreachable, match="QEMU was killed by SIGKILL"):
            login(guest.console, "root", within=30)

    def test_session_that_ends(self, new_guest: NewGuest) -> None:
        """A command that ends the session is no mystery: the console asks for a login again."""
        shell = login(new_guest().console, "root", within=20)
        with pytest.raises(Unreachable, match="asks for a login again"):
            shell.run("kill -KILL $PPID", within=30)

    @pytest.mark.parametrize("sign", [b"BdsDxe: loading Boot0001", b"[    0.000000] Linux version 6.1"])
    def test_system_that_starts_anew(self, new_guest: NewGuest, sign: bytes) -> None:
        """So is one that starts the system anew: its firmware or its kernel speaks."""
        guest = new_guest()
        shell = login(guest.console, "root", within=20)
        threading.Timer(0.3, guest.say, [sign]).start()
        with pytest.raises(Unreachable, match="the system has started anew"):
            shell.run("sleep 1", within=30)
