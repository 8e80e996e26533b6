"""A booted system's serial login as a way inside: commands and files over a console that the kernel writes to as well.

:mod:`vmharness.vm.login` puts the guest script ``booted/shell`` in the place of the login shell. The script takes one
request a line, ``VERB ID ARGUMENTS``, and answers ``ID WORDS end``, three times over:

======================= =============================== ======================================================
``hello ID NONCE``      ``ready FOLDER``, ``lacks ...`` makes its folder
``take ID NAME LINES``  ``took SHA256``                 so many lines of base64 follow, and become that file
``run ID NAME``         ``ended STATUS SIZE SIZE``      runs the command in the pieces ``NAME.*``
``give ID NAME AT LEN`` ``begin``, base64, ``gave SHA`` that part of a file, in KiB
``bye ID``              ``gone``
======================= =============================== ======================================================

The terminal does not echo, all is text of letters and digits (so no control character, no width and no character set
matter), and every piece is checked and fetched or sent once more when it was damaged: in smaller pieces where the
console is noisy. Kernel messages stay on, since they are evidence.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import count
from math import inf
from pathlib import Path

from vmharness.errors import Unreachable
from vmharness.model.outcome import Stalled
from vmharness.model.results import CommandResult
from vmharness.vm.console import Console, Seen
from vmharness.vm.guest import unreachable
from vmharness.vm.inside import Deadline, Inside

_LINE = 3072  # characters; a terminal takes lines of up to 4095
_PIECE_BYTES = 16 * _LINE * 3 // 4  # 48 KiB on their way at most: kernels buffer 64 KiB of input or more
_BLOCK_KIB = 48
_PATIENCE = 30.0  # for one piece, which takes a second even where the guest is emulated
_BASE64_LINE = re.compile(r"[A-Za-z0-9+/=]+")
_KERNEL_MESSAGE = re.compile(r"\[ *\d+\.\d{6}\][^\n]*\n")  # no base64 has a bracket, so these can be taken out exactly
_SHA256 = r"([0-9a-f]{64})[ -]*"
_SETTLE_SECONDS = 0.3
_RESTARTED = re.compile(r"\[ +0\.000000\] |BdsDxe: (?:loading|starting)|SeaBIOS \(version")

PROMPT = re.compile(r"(?<![Ll]ast )login: ?\Z")
"""A terminal that asks who logs in, and not since when somebody was away."""


class Shell(Inside):
    """A user's session on a console; until :meth:`logout` it is the console's only user.

    :param console: on which the guest script ``booted/shell`` listens.
    :param nonce: a word that no one else prints.
    """

    def __init__(self, console: Console, nonce: str) -> None:
        self._console = console
        self._nonce = nonce
        self._folder = ""
        self._ids = count(1)
        self._block = _BLOCK_KIB
        self._show_all = console.put_aside(_Talk(nonce))

    def greet(self, deadline: Deadline) -> None:
        """Make sure that the script listens and has what it needs; before that nothing else works.

        :raises Unreachable: it does not answer, or lacks something.
        """
        said = self._answer("hello", (self._nonce,), r"(ready|lacks) ([^\n]+)", deadline)
        if said[1] == "lacks":
            raise Unreachable(
                f"commands cannot be run over the console: the guest lacks {said[2]}",
                None,
                "install it in the image, or use SSH",
                self._console.last_words,
            )
        self._folder = said[2]

    def logout(self, *, within: float = 30.0) -> None:
        """End the session; the guest asks for a login again.

        :param within: seconds.
        :raises Unreachable: the machine ended, or the session did not in time.
        """
        self._answer("bye", (), "gone", Deadline(waiting_for="end of the session", within=within))
        self._show_all()

    def _run(self, command: str, deadline: Deadline) -> CommandResult:
        name = self._upload([command.encode("utf-8", "surrogateescape")], deadline)
        running = Deadline(waiting_for=deadline.waiting_for, within=deadline.left)
        status, out, err = self._answer("run", (name,), r"ended (\d+) +(\d+) +(\d+)", deadline).groups()
        seconds = running.seconds
        stdout = self._download("out", int(out), deadline)
        stderr = self._download("err", int(err), deadline)
        return CommandResult(status=int(status), stdout=stdout, stderr=stderr, seconds=seconds)

    def _write(self, source: bytes | Path, command: str, deadline: Deadline) -> CommandResult:
        name = self._upload(_pieces(source), deadline)
        pieces = f"{self._folder}/{name}"
        return self._run(f"cat {pieces}.* | {{ {command}; }}; status=$?; rm -f {pieces}.*; exit $status", deadline)

    def _upload(self, pieces: Iterable[bytes], deadline: Deadline) -> str:
        """Send ``pieces`` to the guest, which keeps them as files whose common name is returned."""
        name = f"in{next(self._ids)}"
        for number, piece in enumerate(pieces):
            text = base64.b64encode(piece).decode()
            lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
            while not self._send(f"{name}.{number:08}", lines, hashlib.sha256(piece).hexdigest(), deadline):
                pass
        return name

    def _send(self, name: str, lines: list[str], digest: str, deadline: Deadline) -> bool:
        """Send one piece; gives whether it is there as it should be."""
        said = self._ask("take", (name, f"{len(lines)}"), f"took {_SHA256}", deadline, lines=lines, patience=_PATIENCE)
        if said is None:
            self._interrupt()  # it may still wait for a line that was lost
        return said is not None and said[0][1] == digest

    def _download(self, name: str, size: int, deadline: Deadline) -> bytes:
        """The first ``size`` bytes of a file in the script's folder."""
        data = bytearray()
        # How noisy the console was is remembered, and forgotten by and by.
        block = self._block = min(2 * self._block, _BLOCK_KIB)
        while len(data) < size:
            piece = self._fetch(name, len(data) // 1024, block, deadline)
            if len(piece) >= min(block * 1024, size - len(data)):
                data += piece
            else:
                block = self._block = max(block // 2, 1)
        return bytes(data[:size])

    def _fetch(self, name: str, skip: int, length: int, deadline: Deadline) -> bytes:
        """A part of a file, in KiB; nothing if it came damaged."""
        arguments = (name, f"{skip}", f"{length}")
        said = self._ask("give", arguments, f"gave {_SHA256}", deadline, patience=_PATIENCE)
        if said is None:
            return b""
        answer, before = said
        text = _KERNEL_MESSAGE.sub("", before).rpartition(" begin\n")[2]
        lines = filter(_BASE64_LINE.fullmatch, text.split("\n"))
        try:
            data = base64.b64decode("".join(lines), validate=True)
        except binascii.Error:
            return b""
        return data if hashlib.sha256(data).hexdigest() == answer[1] else b""

    def _answer(self, verb: str, arguments: Sequence[str], answer: str, deadline: Deadline) -> re.Match[str]:
        """The answer to a request that must not be repeated."""
        said = self._ask(verb, arguments, answer, deadline)
        if said is None:
            self._interrupt()
            raise deadline.missed(self._console.last_words)
        return said[0]

    def _ask(  # noqa: PLR0913 -- what a request has
        self,
        verb: str,
        arguments: Sequence[str],
        answer: str,
        deadline: Deadline,
        *,
        lines: Sequence[str] = (),
        patience: float = inf,
    ) -> tuple[re.Match[str], str] | None:
        """Make a request; gives its answer with what came before that, or None when ``patience`` (seconds) is over.

        :raises Unreachable: the machine ended, the session ended, or the deadline has passed.
        """
        identity = f"{self._nonce}i{next(self._ids)}"
        request = " ".join([verb, identity, *arguments])
        self._console.send("".join(f"{line}\n" for line in (request, *lines)).encode())
        pattern = re.compile(f"{identity} {answer} end\n")
        attempt = Deadline(waiting_for=deadline.waiting_for, within=min(patience, deadline.left))
        while True:
            seen = self._console.expect(
                [pattern, PROMPT, _RESTARTED], within=attempt.left, waiting_for=deadline.waiting_for
            )
            if isinstance(seen, Stalled):
                if deadline.left > 0 or patience is inf:
                    return None
                raise deadline.missed(self._console.last_words)
            if not isinstance(seen, Seen):
                raise unreachable(seen)
            match = pattern.fullmatch(seen.text)
            if match is not None:
                return match, seen.before
            if seen.index == 2:
                raise self._ended("the system has started anew")
            time.sleep(_SETTLE_SECONDS)  # a prompt has nothing after it
            if PROMPT.search(self._console.unfinished):
                raise self._ended("it asks for a login again")

    def _ended(self, sign: str) -> Unreachable:
        what = f"the session on the guest's console has ended: {sign}"
        return Unreachable(what, None, "log in again", self._console.last_words)

    def _interrupt(self) -> None:
        self._console.send(b"\x03\n")


class _Talk:
    """Tells the script's lines from those of the guest."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._giving = False

    def __call__(self, line: str) -> bool:
        if self._nonce in line:
            self._giving = line.endswith(" begin")
            return True
        return self._giving and _BASE64_LINE.fullmatch(line) is not None


def _pieces(source: bytes | Path) -> Iterator[bytes]:
    """The source in pieces; one that is empty is one empty piece."""
    with BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        yield file.read(_PIECE_BYTES)
        while piece := file.read(_PIECE_BYTES):
            yield piece
