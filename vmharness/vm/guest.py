"""The appliance's agent: runs one guest script at a time and answers over the command console.

The protocol is one line a message. The host sends ``session NONCE`` once and then
``run ID SCRIPT PARAMETERS`` (an environment file in base64); the agent answers with lines that begin with the nonce and
the request's id::

    NONCE ID out TEXT        a line of the script's standard output
    NONCE ID err TEXT        a line of its standard error
    NONCE ID result TEXT     a line NAME=VALUE that the script left as its result
    NONCE ID exit STATUS     the script has ended; always last

The agent puts the prefix on each line that the script writes, so that no output can pass for an answer; what lacks the
prefix is damaged text and never an answer. See ``guest-scripts/agent``.
"""

from __future__ import annotations

import base64
import secrets
import shlex
import time
from collections import deque
from collections.abc import Callable, Mapping

from attrs import field, frozen

from vmharness.errors import CommandFailed, NotProven, Unreachable
from vmharness.model.outcome import Ended, Stalled, describe
from vmharness.vm.console import Console

_TAIL = 30
_LONGEST = 2000


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
        request = f"{self._next_id}"
        self._next_id += 1
        self._console.send(f"run {request} {script} {_environment_file({**parameters, 'TOKEN': token})}\n".encode())
        wait = _Wait(waiting_for=f"end of the guest script '{script}'", within=within)
        results: dict[str, str] = {}
        while True:
            sender, _, frame = self._line(wait).partition(f"{self._nonce} {request} ")
            kind, _, text = frame.partition(" ")
            if sender:
                continue  # damaged, or somebody else's text: not an answer
            if kind in {"out", "err"}:
                on_output("stdout" if kind == "out" else "stderr", text)
                wait.output.append(text[:_LONGEST])
            elif kind == "result":
                name, _, value = text.partition("=")
                results[name] = value
            elif kind == "exit" and text.isdecimal():
                return _judge(script, int(text), results, token, wait)

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


def _environment_file(parameters: Mapping[str, str]) -> str:
    lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(parameters.items())]
    return base64.b64encode("\n".join([*lines, ""]).encode("utf-8", "surrogateescape")).decode()
