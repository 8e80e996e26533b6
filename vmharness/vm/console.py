"""A serial console: bytes, a transcript, expectations. The only door to pexpect.

A thread drains the console from the moment it exists, whether somebody waits for it or not: an undrained socket loses
output and slows the guest. Every byte goes to the transcript as it came; the program sees text without control
sequences. Death patterns are looked for as the bytes come in, not only while somebody waits.
"""

from __future__ import annotations

import queue
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from pathlib import Path

import pexpect
from attrs import frozen
from pexpect.spawnbase import SpawnBase

from vmharness.model.outcome import Died, Panicked, Stalled
from vmharness.vm.ending import Ending
from vmharness.model.text import Cleaner

_LAST_LINES = 40
_SEARCH_WINDOW = 16_384


@frozen(kw_only=True)
class DeathPattern:
    """A text that only a guest prints whose work is over."""

    name: str
    pattern: re.Pattern[str]


def _death(name: str, pattern: str) -> DeathPattern:
    return DeathPattern(name=name, pattern=re.compile(pattern))


DEATHS = (
    _death("kernel panic", r"Kernel panic - not syncing.*"),
    _death("kernel cannot mount the root filesystem", r"VFS: Unable to mount root fs.*|Unable to mount root.*"),
    _death("kernel fault", r"BUG: unable to handle.*|general protection fault.*"),
    _death("firmware assertion", r"^ASSERT .*|^ASSERT_EFI_ERROR.*"),
    _death("initramfs gave up", r"ALERT!.*does not exist\.\s+Dropping to a shell.*|\(initramfs\) $"),
    _death("GRUB rescue", r"^grub rescue> ?|^grub> ?$"),
    _death("no bootable device", r"^(?:BdsDxe: No bootable option or device was found.*|No bootable device.*)"),
    _death("UEFI shell", r"^Shell> ?$"),
    _death("emergency shell", r"^You are in emergency mode.*"),
)


@frozen(kw_only=True)
class Seen:
    """An expected text appeared.

    :param index: which of the patterns.
    :param text: what matched.
    :param before: what came before it.
    """

    index: int
    text: str
    before: str


class _Wake(Enum):
    """Marks in the feed besides text."""

    MACHINE_ENDED = auto()
    STREAM_ENDED = auto()


class _Feed(SpawnBase):  # type: ignore[misc] -- pexpect ships no types for its base class
    """pexpect's matching over text that another thread reads."""

    def __init__(self) -> None:
        super().__init__(encoding="utf-8", codec_errors="replace", searchwindowsize=_SEARCH_WINDOW, timeout=None)
        self.delayafterread = None
        self.chunks: queue.SimpleQueue[str | _Wake] = queue.SimpleQueue()

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:  # noqa: ARG002 -- pexpect's signature
        """The next piece of text. Raises EOF when the stream or the machine ended, TIMEOUT after ``timeout`` seconds."""
        try:
            chunk = self.chunks.get(timeout=None if timeout is None else max(timeout, 0))
        except queue.Empty:
            raise pexpect.TIMEOUT("no output") from None
        if isinstance(chunk, _Wake):
            self.chunks.put(chunk)  # whoever waits next must see it too
            raise pexpect.EOF(chunk.name)
        return chunk


class Console:
    """One console of a machine; it has one owner at a time.

    :param name: for messages: ``log`` or ``command``.
    :param stream: our end of the socket pair; owned by the console from here on.
    :param transcript: file that gets every byte; created.
    :param ending: where death patterns are reported and where the machine's end is learned.
    :param deaths: death patterns in force.
    :param on_line: called from the reader's thread with each complete line of harmless text.
    """

    def __init__(  # noqa: PLR0913 -- each is a different thing
        self,
        *,
        name: str,
        stream: socket.socket,
        transcript: Path,
        ending: Ending,
        deaths: Sequence[DeathPattern] = (),
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.transcript = transcript
        self._stream = stream
        self._ending = ending
        self._deaths = tuple(deaths)
        self._on_line = on_line
        self._feed = _Feed()
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._partial = ""
        self._taps: list[Callable[[bytes], None]] = []
        self._reader = threading.Thread(target=self._drain, name=f"console-{name}", daemon=True)
        ending.subscribe(self._wake)
        self._reader.start()

    @property
    def last_words(self) -> str:
        """The last lines that the guest printed."""
        return "\n".join([*self._lines, self._partial]).strip()

    def send(self, data: bytes) -> None:
        """Type ``data``. A machine that is gone takes it silently: its end is seen by the next wait."""
        try:
            self._stream.sendall(data)
        except OSError as error:
            self._ending.report(Died(reason=f"the {self.name} console is closed: {error}", stderr="", last_words=""))

    def expect(self, patterns: Sequence[re.Pattern[str]], *, within: float, waiting_for: str) -> Seen | Stalled | Panicked | Died:
        """Wait until one of ``patterns`` appears.

        :param within: seconds.
        :param waiting_for: what this is, in words, for the outcome.
        """
        started = time.monotonic()
        try:
            index = self._feed.expect(list(patterns), timeout=within)
        except pexpect.TIMEOUT:
            return Stalled(
                waiting_for=waiting_for, seconds=time.monotonic() - started, last_words=self.last_words
            )
        except pexpect.EOF:
            return self._end()
        return Seen(index=index, text=self._feed.after, before=self._feed.before)

    def read_line(self, *, within: float, waiting_for: str) -> str | Stalled | Panicked | Died:
        """The next line without its end, or what came instead."""
        seen = self.expect([_LINE], within=within, waiting_for=waiting_for)
        return seen.before if isinstance(seen, Seen) else seen

    def tap(self, listener: Callable[[bytes], None]) -> Callable[[], None]:
        """Lend the console's raw output to ``listener`` (called from the reader's thread); returns what ends it."""
        self._taps.append(listener)
        return lambda: self._taps.remove(listener)

    def close(self) -> None:
        """Stop reading and close our end; the transcript is complete up to here."""
        try:
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end is gone already
        self._reader.join(timeout=5)
        self._stream.close()

    def _drain(self) -> None:
        cleaner = Cleaner()
        with self.transcript.open("ab", buffering=0) as transcript:
            while data := self._receive():
                transcript.write(data)
                for tap in tuple(self._taps):
                    tap(data)
                self._take(cleaner.feed(data))
        self._take(cleaner.feed(b"", final=True))
        self._feed.chunks.put(_Wake.STREAM_ENDED)

    def _receive(self) -> bytes:
        try:
            return self._stream.recv(65_536)
        except OSError:
            return b""

    def _take(self, text: str) -> None:
        if not text:
            return
        self._feed.chunks.put(text)
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._lines.append(line)
            if self._on_line is not None:
                self._on_line(line)
        for candidate in (*lines, self._partial):
            self._look_for_death(candidate)

    def _look_for_death(self, line: str) -> None:
        for death in self._deaths:
            match = death.pattern.search(line)
            if match is not None:
                self._ending.report(Panicked(pattern=death.name, line=match[0], last_words=self.last_words))
                return

    def _wake(self) -> None:
        self._feed.chunks.put(_Wake.MACHINE_ENDED)

    def _end(self) -> Panicked | Died:
        cause = self._ending.cause
        if cause is None:
            # The console closes before the process is reaped: give the better informed watcher a moment.
            woken = threading.Event()
            self._ending.subscribe(woken.set)
            woken.wait(timeout=2)
            cause = self._ending.cause
        return cause or Died(
            reason=f"the {self.name} console was closed", stderr="", last_words=self.last_words
        )


_LINE = re.compile(r"\r?\n")
