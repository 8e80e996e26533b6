"""A serial console: bytes, a transcript, expectations. The only door to pexpect.

A thread drains the console from the moment it exists, whether somebody waits for it or not: an undrained socket loses
output and slows the guest. Every byte goes to the transcript as it came; the program sees text without control
sequences. Death patterns are looked for as the bytes come in, not only while somebody waits.
"""

from __future__ import annotations

import contextlib
import logging
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

from attrs import frozen
from pexpect.expect import Expecter, searcher_re
from pexpect.spawnbase import SpawnBase

from vmharness.model.outcome import Died, Ended, Panicked, Stalled
from vmharness.model.text import Cleaner
from vmharness.vm.ending import Ending
from vmharness.vm.inbox import Inbox
from vmharness.vm.lines import DeathPattern, Lines

_SEARCH_WINDOW = 16_384
_LONGEST_BEFORE = 4 << 20
_QUIET_MILLISECONDS = 100
_BETTER_INFORMED_SECONDS = 1.0
_SEND_SECONDS = 10

_log = logging.getLogger(__name__)


@frozen(kw_only=True)
class Seen:
    """An expected text appeared.

    :param index: which of the patterns.
    :param text: what matched.
    :param before: what came before it; of very much text only the end.
    """

    index: int
    text: str
    before: str


class _Buffers(SpawnBase):  # type: ignore[type-arg]  # generic in its stubs only
    """pexpect's buffers, for its matching over text that another thread has read."""

    _before: StringIO

    def __init__(self) -> None:
        super().__init__(encoding="utf-8", codec_errors="replace", searchwindowsize=_SEARCH_WINDOW)

    def forget(self) -> None:
        """Drop everything."""
        self._before = StringIO()
        self.buffer = ""

    def trim(self) -> None:
        """Forget the beginning of what is kept for ``before``: pexpect itself keeps all."""
        if self._before.tell() > 2 * _LONGEST_BEFORE:
            kept = self._before.getvalue()[-_LONGEST_BEFORE:]
            self._before = StringIO()
            self._before.write(kept)


class Console:
    """One console of a machine; it has one owner at a time.

    :param name: for messages: ``log`` or ``command``.
    :param stream: our end of the socket pair; owned by the console from here on.
    :param transcript: file that gets every byte; created.
    :param ending: where death patterns are reported and where the machine's end is learned.
    :param deaths: death patterns in force.
    :param on_line: called from the reader's thread with each complete line of harmless text, and with the parts of one
        that is longer than 4096 characters.
    :param framed: whether it carries the agent's line protocol. Of that nothing may be dropped (a full backlog makes
        the guest wait), and only a newline ends a line.
    :param witness: the console whose last lines are this one's last words too.
    """

    drained: threading.Event
    """Set when everything that the guest printed has been read."""

    def __init__(  # noqa: PLR0913 -- each is a different thing
        self,
        *,
        name: str,
        stream: socket.socket,
        transcript: Path,
        ending: Ending,
        deaths: Sequence[DeathPattern] = (),
        on_line: Callable[[str], None] | None = None,
        framed: bool = False,
        witness: Console | None = None,
    ) -> None:
        self.name = name
        self.transcript = transcript
        self.drained = threading.Event()
        self._stream = stream
        self._ending = ending
        self._witness = witness
        self._cleaner = Cleaner(lone_return=" " if framed else "\n")
        self._inbox = Inbox(lossless=framed)
        self._buffers = _Buffers()
        self._lines = Lines(deaths=deaths, on_line=on_line, on_death=self._die)
        self._died: Panicked | None = None
        self._settled = threading.Event()
        self._taps: list[Callable[[bytes], None]] = []
        self._file = transcript.open("ab", buffering=0)
        # A guest that reads nothing must not hold a sender for ever; the deadline of the next wait tells.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND_SECONDS, 0))
        self._reader = threading.Thread(target=self._read, name=f"console-{name}", daemon=True)
        ending.subscribe(self._wake)
        self._reader.start()

    @property
    def last_words(self) -> str:
        """The last lines that the guest printed."""
        return self._lines.last_words if self._witness is None else self._witness.last_words

    @property
    def unfinished(self) -> str:
        """The line that the guest has begun and not ended, such as a prompt."""
        return self._lines.unfinished

    def forget(self) -> None:
        """Take nothing that was printed so far for the machine's present state: it starts anew.

        What nobody has waited for yet is dropped, and the last words begin anew; the transcript has everything. May be
        called from any thread.
        """
        self._lines.forget()
        self._inbox.clear()

    def send(self, data: bytes) -> None:
        """Type ``data``. A machine that is gone, or takes no input, swallows it: the next wait says so."""
        try:
            self._stream.sendall(data)
        except OSError as error:
            _log.debug("the %s console takes no input: %s", self.name, error)

    def expect(self, patterns: Sequence[re.Pattern[str]], *, within: float, waiting_for: str) -> Seen | Stalled | Ended:
        """Wait until one of ``patterns`` appears; of several the one that begins first.

        What was printed before the machine's end is looked at before the end is told.

        :param within: seconds.
        :param waiting_for: what this is, in words, for the outcome.
        """
        started = time.monotonic()
        left = within
        if self._inbox.begins_anew():
            self._buffers.forget()
        expecter = Expecter(self._buffers, searcher_re(list(patterns)))
        index = expecter.existing_data()
        while index is None:
            try:
                text = self._inbox.get(left)
            except TimeoutError:
                return self._stalled(waiting_for, started)
            if text is None:
                return self._end()
            if not text:
                self._buffers.forget()
                expecter = Expecter(self._buffers, searcher_re(list(patterns)))
                continue
            index = expecter.new_data(text)
            self._buffers.trim()
            left = started + within - time.monotonic()
            if index is None and left <= 0:
                return self._stalled(waiting_for, started)
        return Seen(index=index, text=str(self._buffers.after), before=str(self._buffers.before))

    def read_line(self, *, within: float, waiting_for: str) -> str | Stalled | Ended:
        """The next line without its end, or what came instead."""
        seen = self.expect([_LINE], within=within, waiting_for=waiting_for)
        return seen.before if isinstance(seen, Seen) else seen

    def put_aside(self, is_talk: Callable[[str], bool]) -> Callable[[], None]:
        """Keep lines that are only our talk with a program from the last words, and from ``on_line``.

        :param is_talk: is called with each line, from the reader's thread.
        :returns: what ends it.
        """
        before, self._lines.aside = self._lines.aside, is_talk

        def end() -> None:
            self._lines.aside = before

        return end

    def tap(self, listener: Callable[[bytes], None]) -> Callable[[], None]:
        """Lend the console's raw output to ``listener`` (called from the reader's thread); returns what ends it."""
        self._taps.append(listener)
        return lambda: self._taps.remove(listener)

    def close(self) -> None:
        """Stop reading and close our end; the transcript is complete up to here."""
        self._inbox.end()
        self._settled.set()
        with contextlib.suppress(OSError):  # the other end may be gone already
            self._stream.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=5)
        self._stream.close()

    def _read(self) -> None:
        """The reader's thread."""
        reason = f"the {self.name} console was closed"
        with self._file:
            try:
                self._drain()
            except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait must not wait for ever
                _log.exception("the %s console cannot be followed any more", self.name)
                reason = f"its {self.name} console cannot be followed any more: {type(error).__name__}: {error}"
        self._inbox.end()
        self.drained.set()
        # The console closes before the process is reaped: the better informed watchers get a moment.
        if not self._settled.wait(_BETTER_INFORMED_SECONDS):
            self._ending.report(Died(reason=reason, stderr="", last_words=self.last_words))
            self._settled.set()

    def _drain(self) -> None:
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        while True:
            if self._lines.unjudged and not poll.poll(_QUIET_MILLISECONDS):
                self._lines.judge_unfinished()
                self._tell_death()
            data = self._receive()
            if not data:
                break
            self._record(data)
            for tap in tuple(self._taps):
                tap(data)
            self._take(self._cleaner.feed(data))
        self._take(self._cleaner.feed(b"", final=True))
        self._lines.finish()
        self._tell_death()

    def _record(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _receive(self) -> bytes:
        try:
            return self._stream.recv(65_536)
        except OSError:
            return b""

    def _take(self, text: str) -> None:
        if text:
            # In this order: who waits for a text finds its line handed over, and a death is told after its words.
            self._lines.feed(text)
            self._inbox.put(text)
            self._tell_death()

    def _die(self, death: DeathPattern, text: str) -> None:
        if self._died is None:
            self._died = Panicked(pattern=death.name, line=text, last_words=self.last_words)

    def _tell_death(self) -> None:
        died, self._died = self._died, None
        if died is not None:
            self._ending.report(died)

    def _wake(self) -> None:
        self._inbox.end()
        self._settled.set()

    def _stalled(self, waiting_for: str, started: float) -> Stalled:
        return Stalled(waiting_for=waiting_for, seconds=time.monotonic() - started, last_words=self.last_words)

    def _end(self) -> Ended:
        self._settled.wait(2 * _BETTER_INFORMED_SECONDS)
        return self._ending.cause or Died(
            reason=f"the {self.name} console was closed", stderr="", last_words=self.last_words
        )


_LINE = re.compile(r"\n")
