"""A console over a real socket pair: transcript, expectations, deaths, ends."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fake_machines import NewMachine

from vmharness.model.outcome import Died, Ended, Panicked, Stalled
from vmharness.vm.console import Console, Seen
from vmharness.vm.ending import Ending
from vmharness.vm.lines import DEATHS

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

MIB = 1 << 20
NEVER = re.compile("never printed")


class Bench:
    """A console, the guest's end of it, and the machine's ending."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        ours, self.guest = socket.socketpair()
        self.ending = Ending()
        self.console = Console(
            name="log", stream=ours, transcript=tmp_path / "transcript", ending=self.ending, deaths=DEATHS, **settings
        )

    def expect(self, pattern: str, within: float = 5) -> Seen | Stalled | Ended:
        """Wait for one pattern."""
        return self.console.expect([re.compile(pattern)], within=within, waiting_for=pattern)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a bench; keywords are the console's."""
    with ExitStack() as undo:

        def make(**settings: Any) -> Bench:
            made = Bench(tmp_path, **settings)
            undo.callback(made.guest.close)
            undo.callback(made.console.close)
            return made

        yield make


def test_what_is_expected_is_seen(bench: Callable[..., Bench]) -> None:
    """The pattern that begins first is seen, with what came before; the rest stays for the next wait."""
    one = bench()
    one.guest.sendall(b"one two three")
    seen = one.console.expect([re.compile("three"), re.compile("two")], within=5, waiting_for="a number")
    assert seen == Seen(index=1, text="two", before="one ")
    assert one.expect("three") == Seen(index=0, text="three", before=" ")


def test_lines_of_a_large_read(bench: Callable[..., Bench]) -> None:
    """No line is lost or joined with another when the guest is much faster than the reader."""
    one = bench(framed=True)
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    writer = threading.Thread(target=one.guest.sendall, args=(text,))
    writer.start()
    lines = [one.console.read_line(within=5, waiting_for="a line") for _ in range(20_000)]
    writer.join()
    assert lines == [f"line {number}" for number in range(20_000)]


@pytest.mark.parametrize("line", [b"", b"x" * MIB, bytes(range(256)).replace(b"\n", b""), b"\x1b]0;title", b"\xe2\x82"])
def test_lines_of_any_kind(bench: Callable[..., Bench], line: bytes) -> None:
    """Empty, very long and binary lines end where they end: the next line is whole."""
    one = bench(framed=True)
    writer = threading.Thread(target=one.guest.sendall, args=(line + b"\nnext\n",))
    writer.start()
    first = one.console.read_line(within=5, waiting_for="a line")
    assert one.console.read_line(within=5, waiting_for="a line") == "next"
    writer.join()
    assert isinstance(first, str)
    if line == b"x" * MIB:
        assert first == line.decode()


def test_a_carriage_return_begins_no_line_in_frames(bench: Callable[..., Bench]) -> None:
    """On the command console only a newline ends a line: no output can begin one. On the log console both do."""
    framed = bench(framed=True)
    framed.guest.sendall(b"progress\rNONCE 1 exit 0\r\n")
    assert framed.console.read_line(within=5, waiting_for="a line") == "progress NONCE 1 exit 0"
    plain = bench()
    plain.guest.sendall(b"50%\r100%\r\n")
    assert plain.console.read_line(within=5, waiting_for="a line") == "50%"
    assert plain.console.read_line(within=5, waiting_for="a line") == "100%"


def test_an_unfinished_line_can_be_expected(bench: Callable[..., Bench]) -> None:
    """A prompt has no end of line."""
    one = bench()
    one.guest.sendall(b"debian login: ")
    assert one.expect("login: ") == Seen(index=0, text="login: ", before="debian ")


def test_nothing_comes(bench: Callable[..., Bench]) -> None:
    """The deadline passes: what was waited for, how long, and the last words, an unfinished line among them."""
    one = bench()
    one.guest.sendall(b"one\r\ntwo\r\nthr")
    outcome = one.expect("never", within=0.2)
    assert isinstance(outcome, Stalled)
    assert (outcome.waiting_for, outcome.last_words) == ("never", "one\ntwo\nthr")
    assert 0.2 <= outcome.seconds < 2


def test_a_flood_does_not_put_off_the_deadline(bench: Callable[..., Bench]) -> None:
    """Output without end in which the text never comes is a stall at the deadline too."""
    one = bench()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            one.guest.sendall(b"y\n" * 1000)

    writer = threading.Thread(target=flood)
    writer.start()
    outcome = one.expect("never", within=0.3)
    stop.set()
    writer.join()
    assert isinstance(outcome, Stalled)
    assert outcome.seconds < 3


def test_the_last_words_while_they_are_spoken(bench: Callable[..., Bench]) -> None:
    """Asking for the last words again and again does not disturb the reader, nor the reader the asking."""
    one = bench()
    writer = threading.Thread(target=one.guest.sendall, args=(b"word\n" * 200_000,))
    writer.start()
    while writer.is_alive():
        assert set(one.console.last_words.split("\n")) <= {"word", "wor", "wo", "w", ""}
    writer.join()


PANIC = b"\r\n[    1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n"


def test_a_panic_cut_anywhere(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """However the reads cut it, a panic is reported once, with its whole line, when its line is complete."""
    for cut in range(len(PANIC) + 1):
        one = bench()
        one.guest.sendall(PANIC[:cut])
        while (tmp_path / "transcript").stat().st_size < (len(PANIC) * cut) + cut:
            time.sleep(0.0005)  # until the reader has taken the first piece
        one.guest.sendall(PANIC[cut:])
        outcome = one.expect("never")
        assert isinstance(outcome, Panicked), cut
        assert outcome.line == "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", cut
        one.console.close()


def test_an_unfinished_panic(bench: Callable[..., Bench]) -> None:
    """A panic whose line never ends is noticed soon after the guest fell silent."""
    one = bench()
    one.guest.sendall(b"[    1.0] Kernel panic - not sync")
    time.sleep(0.02)
    one.guest.sendall(b"ing: halted")
    started = time.monotonic()
    outcome = one.expect("never")
    assert isinstance(outcome, Panicked)
    assert outcome.line == "Kernel panic - not syncing: halted"
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Kernel panic - not syncing: x\n", "kernel panic"),
        ("VFS: Unable to mount root fs on unknown-block\n", "kernel cannot mount the root filesystem"),
        ("BUG: unable to handle page fault for address\n", "kernel fault"),
        ("ASSERT [DxeCore] Page.c(10)\n", "firmware assertion"),
        ("ALERT!  UUID=1 does not exist.  Dropping to a shell!\n", "initramfs gave up"),
        ("\n(initramfs) ", "initramfs gave up"),
        ("\ngrub rescue> ", "GRUB rescue"),
        ("\ngrub> ", "GRUB rescue"),
        ("BdsDxe: No bootable option or device was found.\n", "no bootable device"),
        ("\nShell> ", "UEFI shell"),
        ("You are in emergency mode. After logging in\n", "emergency shell"),
    ],
)
def test_each_death(bench: Callable[..., Bench], text: str, name: str) -> None:
    """Each text that means a guest's end is one, with its name; what was printed before it can still be expected."""
    one = bench()
    one.guest.sendall(b"before\n" + text.encode())
    outcome = one.expect("never")
    assert isinstance(outcome, Panicked)
    assert outcome.pattern == name
    assert "before" in outcome.last_words


@pytest.mark.parametrize(
    "text",
    [
        "Kernel command line: panic=-1\n",
        "echo 'grub> is the prompt'\n",
        "please read about Shell> first\n",
        "Loading grub> modules",
        "a note on (initramfs) here\n",
    ],
)
def test_what_is_no_death(bench: Callable[..., Bench], text: str) -> None:
    """Text that only resembles a death is none."""
    one = bench()
    one.guest.sendall(text.encode())
    assert isinstance(one.expect("never", within=0.3), Stalled)
    assert one.ending.cause is None


def test_a_beginning_that_looks_like_a_prompt(bench: Callable[..., Bench]) -> None:
    """A read that ends where a prompt would end makes no death when the line goes on."""
    one = bench()
    for number in range(20):
        one.guest.sendall(b"grub> ")
        time.sleep(0.005)
        one.guest.sendall(b"is what the manual calls it (%d)\n" % number)
    assert isinstance(one.expect(r"\(19\)\n"), Seen)
    assert one.ending.cause is None


def test_what_was_printed_before_the_end_comes_first(bench: Callable[..., Bench]) -> None:
    """An expected text that the guest printed before its death is seen; the death is what the next wait comes to."""
    one = bench()
    one.guest.sendall(b"login: \nKernel panic - not syncing: late\n")
    died = threading.Event()
    one.ending.subscribe(died.set)
    assert died.wait(5)
    assert isinstance(one.expect("login: "), Seen)
    assert isinstance(one.expect("never"), Panicked)
    assert isinstance(one.expect("never"), Panicked)


def test_a_wait_ends_with_the_machine(bench: Callable[..., Bench]) -> None:
    """A report from elsewhere wakes a wait at once."""
    one = bench()
    cause = Died(reason="QEMU was killed by SIGKILL", stderr="", last_words="")
    timer = threading.Timer(0.1, one.ending.report, [cause])
    timer.start()
    started = time.monotonic()
    assert one.expect("never") == cause
    assert time.monotonic() - started < 0.5
    timer.join()


def test_the_first_cause_wins(bench: Callable[..., Bench]) -> None:
    """What is reported after the first cause changes nothing."""
    one = bench()
    first = Died(reason="first", stderr="", last_words="")
    one.ending.report(first)
    one.ending.report(Died(reason="second", stderr="", last_words=""))
    assert one.ending.cause == first


def test_end_of_file(bench: Callable[..., Bench]) -> None:
    """A console that closes is an end, after the better informed had a moment; waiting again gives the same."""
    one = bench()
    one.guest.sendall(b"bye")
    one.guest.close()
    outcome = one.expect("never")
    assert outcome == Died(reason="the log console was closed", stderr="", last_words="bye")
    assert one.expect("never") == outcome
    assert one.ending.cause == outcome


def test_a_better_reason_than_end_of_file(bench: Callable[..., Bench]) -> None:
    """What the process' watcher says shortly after the end of file is the cause."""
    one = bench()
    cause = Died(reason="QEMU was killed by SIGKILL", stderr="", last_words="")
    one.guest.close()
    timer = threading.Timer(0.1, one.ending.report, [cause])
    timer.start()
    assert one.expect("never") == cause
    timer.join()


def test_sending_to_nobody(bench: Callable[..., Bench]) -> None:
    """Typing at a machine that is gone is no error; the next wait tells of its end."""
    one = bench()
    one.guest.close()
    one.console.send(b"hello\n")
    assert isinstance(one.expect("never"), Died)


def test_sending_to_a_guest_that_reads_nothing(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """Typing more than fits at a guest that hangs comes back: the deadline of the next wait tells of the hang."""
    monkeypatch.setattr("vmharness.vm.console._SEND_SECONDS", 1)
    one = bench()
    started = time.monotonic()
    one.console.send(b"x" * 4 * MIB)
    assert time.monotonic() - started < 3
    assert isinstance(one.expect("never", within=0.1), Stalled)


def test_the_transcript_is_exact(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """The transcript holds the raw bytes, whatever they are, also those that nobody waited for."""
    one = bench()
    data = bytes(range(256)) * 64 + b"\x1b[2J\x1b]0;x"
    one.guest.sendall(data)
    one.guest.close()
    assert one.console.drained.wait(5)
    assert (tmp_path / "transcript").read_bytes() == data


def peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_flood_that_nobody_reads(new_machine: NewMachine) -> None:
    """50 MB on the log console while the caller is busy elsewhere block nothing and are all in the transcript.

    Neither the backlog nor an expectation holds them in memory; the newest text can be expected.
    """
    size = 50_000_000
    with new_machine(guest=[{"flood": size}, {"log": "END\n"}, {"command": "done\n"}]) as machine:
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the present
        memory = peak_memory()
        machine.start()
        done = machine.command.read_line(within=60, waiting_for="end of the flood")
        seen = machine.log.expect([re.compile("END")], within=60, waiting_for="the end")
        grown = peak_memory() - memory
    assert done == "done"
    assert isinstance(seen, Seen)
    assert grown < 40 * MIB
    transcript = machine.run.transcript.read_bytes()
    assert len(transcript) == size + len(b"END\n")
    assert [int(line[:9]) for line in transcript.splitlines()[:-1]] == list(range(size // 100))


def test_output_without_line_ends(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """20 MB without a newline cost time by their length only, and a panic behind them is still found."""
    lines: list[int] = []
    one = bench(on_line=lambda line: lines.append(len(line)))
    started = time.process_time()  # what others make of the machine is not meant
    for _ in range(20):
        one.guest.sendall(b"." * MIB)
    one.guest.sendall(b"Kernel panic - not syncing: buried\n")
    outcome = one.expect("never", within=30)
    assert isinstance(outcome, Panicked)
    assert outcome.line == "Kernel panic - not syncing: buried"
    assert time.process_time() - started < 10
    assert max(lines) <= 4096
    assert len(outcome.last_words) < 200_000


def test_a_panic_across_a_long_lines_cut(bench: Callable[..., Bench]) -> None:
    """Where a line that is too long is cut, no death is overlooked."""
    text = b"Kernel panic - not syncing: here"
    for before in range(4096 - len(text), 4097):
        one = bench()
        one.guest.sendall(b"." * before + text + b"\n")
        outcome = one.expect("never")
        assert isinstance(outcome, Panicked), before
        one.console.close()


def test_lines_are_handed_over(bench: Callable[..., Bench]) -> None:
    """Each line is handed over once, without its end and without control sequences, at last an unfinished one."""
    lines: list[str] = []
    one = bench(on_line=lines.append)
    one.guest.sendall(b"\x1b[2Jone\r\n\r\n\x1b[31mtwo\x1b[0m\nthree")
    one.expect("three")
    one.console.close()
    assert lines == ["one", "", "two", "three"]


def test_a_line_is_handed_over_before_it_is_seen(bench: Callable[..., Bench]) -> None:
    """Who waits for the end of a line finds that a listener, however slow, has had it."""
    lines: list[str] = []

    def slow(line: str) -> None:
        time.sleep(0.2)
        lines.append(line)

    one = bench(on_line=slow)
    one.guest.sendall(b"starting\n")
    assert isinstance(one.expect(r"starting\n"), Seen)
    assert lines == ["starting"]


def test_a_listener_that_fails(bench: Callable[..., Bench]) -> None:
    """When the transcript or a listener fails, the machine counts as ended and the reason is told: nobody waits on."""

    def full(_line: str) -> None:
        raise OSError(28, "No space left on device")

    one = bench(on_line=full)
    one.guest.sendall(b"line\n")
    outcome = one.expect("never")
    assert isinstance(outcome, Died)
    assert outcome.reason == "its log console cannot be followed any more: OSError: [Errno 28] No space left on device"


def test_a_transcript_that_cannot_be_made(tmp_path: Path) -> None:
    """The error is the caller's at once, and no thread was started."""
    ours, guest = socket.socketpair()
    with ours, guest, pytest.raises(FileNotFoundError):
        Console(name="log", stream=ours, transcript=tmp_path / "no" / "folder", ending=Ending())


def test_a_tap_gets_raw_bytes(bench: Callable[..., Bench]) -> None:
    """A tap gets the bytes as they came, until it is taken away."""
    one = bench()
    tapped: list[bytes] = []
    untap = one.console.tap(tapped.append)
    one.guest.sendall(b"\x1b[31mred\r\n")
    one.expect("red")
    untap()
    one.guest.sendall(b"more\n")
    one.expect("more")
    assert b"".join(tapped) == b"\x1b[31mred\r\n"


def test_closing_from_the_readers_thread(bench: Callable[..., Bench]) -> None:
    """A listener may close the console from the reader's thread; closing twice is nothing."""
    closed = threading.Event()

    def close(_line: str) -> None:
        one.console.close()
        closed.set()

    one = bench(on_line=close)
    one.guest.sendall(b"line\n")
    assert closed.wait(5)
    one.console.close()


def test_a_full_inbox_holds_the_guest(bench: Callable[..., Bench]) -> None:
    """On the command console a guest that is not read waits, so that nothing is lost and memory stays bounded."""
    one = bench(framed=True)
    sent: list[int] = []

    def write() -> None:
        for number in range(80):
            one.guest.sendall(b"%d %s\n" % (number, b"x" * 100_000))
            sent.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.3)
    assert len(sent) < 40
    lines = [one.console.read_line(within=5, waiting_for="a line") for _ in range(80)]
    writer.join()
    assert [int(str(line).partition(" ")[0]) for line in lines] == list(range(80))


def test_closing_with_a_full_inbox(bench: Callable[..., Bench]) -> None:
    """Closing a command console that nobody reads does not hang."""
    one = bench(framed=True)
    one.guest.settimeout(0.3)
    with pytest.raises(TimeoutError):
        one.guest.sendall(b"x" * 8 * MIB)
    started = time.monotonic()
    one.console.close()
    assert time.monotonic() - started < 1


def test_what_was_printed_before_a_reset(bench: Callable[..., Bench]) -> None:
    """Nothing of a machine's earlier life is waited for, is its last words or its prompt; the transcript keeps it."""
    one = bench()
    one.guest.sendall(b"first login: ")
    assert isinstance(one.expect("first"), Seen)
    assert isinstance(one.expect(NEVER.pattern, within=0.1), Stalled)
    one.guest.sendall(b"\r\nsecond login: ")
    while one.console.unfinished != "second login: ":
        time.sleep(0.01)
    one.console.forget()
    assert (one.console.unfinished, one.console.last_words) == ("", "")
    assert isinstance(one.expect("login: ", within=0.1), Stalled)
    one.guest.sendall(b"BdsDxe: loading Boot0001\r\n")
    assert isinstance(one.expect("BdsDxe"), Seen)
    assert one.console.last_words == "BdsDxe: loading Boot0001"
    assert one.console.transcript.read_bytes().startswith(b"first login: \r\nsecond login: BdsDxe")


def test_talk_is_put_aside(bench: Callable[..., Bench]) -> None:
    """Lines that are our talk with a program are no last words and not handed over, until that ends; death is seen."""
    lines: list[str] = []
    one = bench(on_line=lines.append)
    end = one.console.put_aside(lambda line: line.startswith("talk"))
    one.guest.sendall(b"talk 1\nguest 1\n")
    assert isinstance(one.expect("guest 1"), Seen)
    end()
    one.guest.sendall(b"talk 2\nguest 2\n")
    assert isinstance(one.expect("guest 2"), Seen)
    assert (lines, one.console.last_words) == (["guest 1", "talk 2", "guest 2"], "guest 1\ntalk 2\nguest 2")
    one.console.put_aside(lambda _line: True)
    one.guest.sendall(b"Kernel panic - not syncing: x\n")
    assert isinstance(one.expect(NEVER.pattern), Panicked)
