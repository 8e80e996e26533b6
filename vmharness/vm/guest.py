"""The appliance's agent: runs one guest script at a time, takes and gives files, and answers over the command console.

The protocol is one line a message. The host sends ``session NONCE`` once and then one request at a time::

    run ID SCRIPT PARAMETERS         run a guest script; its environment file in base64
    put ID SIZE SHA256 MODE PATH     SIZE raw bytes follow, and become the file PATH (in base64)
    get ID LIMIT PATH                send a file, at most LIMIT bytes of it

The agent answers with lines that begin with the nonce and the request's id::

    NONCE ID out TEXT        a line of the script's standard output
    NONCE ID err TEXT        a line of its standard error
    NONCE ID data TEXT       a piece of the file, in base64
    NONCE ID result TEXT     a line NAME=VALUE: a result of the script, the file's sha256, a failure in words
    NONCE ID exit STATUS     the request is done; always last

The agent puts the prefix on each line that the script writes, so that no output can pass for an answer; what lacks the
prefix is damaged text and never an answer. See ``guest-scripts/agent``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import shlex
import time
from collections import deque
from collections.abc import Callable, Mapping

from attrs import field, frozen

from vmharness.errors import CommandFailed, NotProven, Unreachable
from vmharness.model.outcome import Ended, Stalled, describe
from vmharness.model.sizes import KIB, format_size
from vmharness.model.steps import LARGEST_FILE
from vmharness.vm.console import Console

_TAIL = 30
_LONGEST = 2000
_PIECE = 64 * KIB
_TOO_LARGE = f"it is larger than {format_size(LARGEST_FILE)}"


@frozen(kw_only=True)
class Answer:
    """What a guest script came to: its results by name, and how long it took in seconds."""

    results: Mapping[str, str] = field(factory=dict)
    seconds: float = 0.0


class Agent:
    """Our side of the agent's protocol.

    :param console: the machine's command console; the agent is its only user.
    :param nonce: the run's random word.
    """

    def __init__(self, console: Console, nonce: str) -> None:
        self._console = console
        self._nonce = nonce
        self._next_id = 1

    def greet(self, *, within: float) -> None:
        """Wait until the agent is there and hand it the nonce.

        :param within: seconds.
        :raises Unreachable: the guest died or did not come up in time.
        """
        self.await_agent(within=within)
        self.open_session(within=within)

    def await_agent(self, *, within: float) -> None:
        """Wait until the agent of a guest that is starting says that it is there; it waits for its session then."""
        wait = _Wait(waiting_for="sign of the appliance's agent", within=within)
        while self._line(wait).strip() != "vmharness agent 1":
            pass

    def open_session(self, *, within: float) -> None:
        """Hand the nonce to an agent that waits for its session, in a guest that has just started or was resumed."""
        wait = _Wait(waiting_for="answer of the appliance's agent", within=within)
        self._console.send(f"session {self._nonce}\n".encode())
        while self._line(wait) != f"{self._nonce} 0 hello":
            pass

    def put(self, data: bytes, path: str, *, mode: int, within: float) -> None:
        """Write a file of the appliance; the target's are below ``/target``. It appears whole or not at all.

        One that is there is replaced and keeps its owner; of a symbolic link, the file that it leads to.

        :param path: absolute.
        :param mode: its permissions.
        :param within: seconds.
        :raises CommandFailed: it cannot be written, or is larger than :data:`~vmharness.model.steps.LARGEST_FILE`;
            nothing has changed.
        :raises Unreachable: the guest died, or did not take it in time.
        """
        doing = f"cannot write '{path}' in the guest"
        if len(data) > LARGEST_FILE:
            raise _refused(doing, _TOO_LARGE)
        wait = _Wait(waiting_for=f"end of writing '{path}' in the guest", within=within)
        digest = hashlib.sha256(data).hexdigest()
        request = self._request("put", f"{len(data)} {digest} {mode:o} {_path(path, doing)}")
        for at in range(0, len(data), _PIECE):
            if wait.left > 0:  # a guest that takes nothing holds each piece back
                self._console.send(data[at : at + _PIECE])
        self._file_answer(request, wait, doing)

    def get(self, path: str, *, within: float) -> bytes:
        """Read a file of the appliance; the target's are below ``/target``.

        :param path: absolute; symbolic links are followed.
        :param within: seconds.
        :raises CommandFailed: it cannot be read, or is larger than :data:`~vmharness.model.steps.LARGEST_FILE`.
        :raises Unreachable: the guest died, or did not give it in time.
        """
        doing = f"cannot read '{path}' in the guest"
        wait = _Wait(waiting_for=f"end of reading '{path}' in the guest", within=within)
        request = self._request("get", f"{LARGEST_FILE + 1} {_path(path, doing)}")
        data, results = self._file_answer(request, wait, doing)
        if len(data) > LARGEST_FILE:
            raise _refused(doing, _TOO_LARGE)
        if hashlib.sha256(data).hexdigest() != results.get("sha256"):
            raise _refused(doing, "it arrived damaged")
        return data

    def run(
        self,
        script: str,
        parameters: Mapping[str, str],
        *,
        within: float,
        on_output: Callable[[str, str], None] = lambda _stream, _line: None,
    ) -> Answer:
        """Run one guest script to its end.

        :param script: its name in ``guest-scripts/``.
        :param parameters: what its environment file holds.
        :param within: seconds.
        :param on_output: called with ``stdout`` or ``stderr`` and each line.
        :raises CommandFailed: it ended with another status than 0.
        :raises NotProven: it ended with status 0 without showing its token.
        :raises Unreachable: the guest died, or the script did not end in time.
        """
        token = secrets.token_hex(8)
        wait = _Wait(waiting_for=f"end of the guest script '{script}'", within=within)
        request = self._request("run", f"{script} {_environment_file({**parameters, 'TOKEN': token})}")

        def take(kind: str, text: str) -> None:
            if kind in {"out", "err"}:
                on_output("stdout" if kind == "out" else "stderr", text)
                wait.output.append(text[:_LONGEST])

        status, results = self._answer(request, wait, take)
        return _judge(script, status, results, token, wait)

    def _request(self, verb: str, words: str) -> str:
        """Send a request; gives its id."""
        request = f"{self._next_id}"
        self._next_id += 1
        self._console.send(f"{verb} {request} {words}\n".encode())
        return request

    def _answer(self, request: str, wait: _Wait, on_frame: Callable[[str, str], None]) -> tuple[int, dict[str, str]]:
        """Read a request's answer to its end: its status and its results. ``on_frame`` gets everything else."""
        results: dict[str, str] = {}
        while True:
            sender, _, frame = self._line(wait).partition(f"{self._nonce} {request} ")
            kind, _, text = frame.partition(" ")
            if sender:
                continue  # damaged, or somebody else's text: not an answer
            if kind == "result":
                name, _, value = text.partition("=")
                results[name] = value
            elif kind == "exit" and text.isdecimal():
                return int(text), results
            else:
                on_frame(kind, text)

    def _file_answer(self, request: str, wait: _Wait, doing: str) -> tuple[bytes, dict[str, str]]:
        """The end of a request for a file: the file's bytes, if it sends them, and the results."""
        pieces: list[str] = []
        status, results = self._answer(
            request, wait, lambda kind, text: pieces.append(text) if kind == "data" else None
        )
        if status != 0:
            raise _refused(doing, results.get("failure", "").strip() or f"its status is {status}")
        try:
            return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in pieces), results
        except binascii.Error as error:
            raise _refused(doing, "it arrived damaged") from error

    def _line(self, wait: _Wait) -> str:
        came = self._console.read_line(within=wait.left, waiting_for=wait.waiting_for)
        late = wait.left <= 0  # output without end must not keep a deadline from passing
        if isinstance(came, str) and not late:
            return came
        if isinstance(came, str | Stalled):
            # The console's own figure is of the last line's wait only.
            last_words = self._console.last_words
            came = Stalled(waiting_for=wait.waiting_for, seconds=wait.seconds, last_words=last_words)
        raise unreachable(came, list(wait.output))


@frozen(kw_only=True)
class _Wait:
    """A wait for the agent of at most ``within`` seconds in all, and the last lines that a script wrote meanwhile."""

    waiting_for: str
    within: float
    started: float = field(factory=time.monotonic)
    output: deque[str] = field(factory=lambda: deque(maxlen=_TAIL))

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds to the deadline."""
        return self.within - self.seconds


def unreachable(outcome: Stalled | Ended, output: list[str] | None = None) -> Unreachable:
    """The error for an outcome that ended a wait; ``output`` is what the running script had written."""
    words = "\n".join(output or []) or outcome.last_words
    return Unreachable(describe(outcome), last_words=words, outcome=outcome)


def _judge(script: str, status: int, results: dict[str, str], token: str, wait: _Wait) -> Answer:
    tail = "\n".join(wait.output)
    if status != 0:
        hint = results.get("hint")
        what = results.get("failure") or f"the guest script '{script}' ended with status {status}"
        raise CommandFailed(what, None, hint, tail, status)
    if results.pop("proof", None) != token:
        raise NotProven(
            f"the guest script '{script}' ended with status 0 but did not reach its last line", None, None, tail
        )
    return Answer(results=results, seconds=wait.seconds)


def _refused(doing: str, why: str) -> CommandFailed:
    return CommandFailed(f"{doing}: {why}")


def _path(path: str, doing: str) -> str:
    if "\0" in path or not path.startswith("/"):
        raise _refused(doing, "it is no absolute path")
    return base64.b64encode(path.encode("utf-8", "surrogateescape")).decode()


def _environment_file(parameters: Mapping[str, str]) -> str:
    lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(parameters.items())]
    return base64.b64encode("\n".join([*lines, ""]).encode("utf-8", "surrogateescape")).decode()
