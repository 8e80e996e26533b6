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
from collections.abc import Callable, Mapping

from attrs import field, frozen

from vmharness.errors import CommandFailed, NotProven, Unreachable
from vmharness.model.outcome import Died, Panicked, Stalled, describe
from vmharness.vm.console import Console

_TAIL = 30


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
        deadline = time.monotonic() + within
        while self._line(deadline, "the appliance's agent").strip() != "vmharness agent 1":
            pass
        self._console.send(f"session {self._nonce}\n".encode())
        while self._line(deadline, "the agent's greeting") != f"{self._nonce} 0 hello":
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
        started = time.monotonic()
        output: list[str] = []
        results: dict[str, str] = {}
        while True:
            line = self._line(started + within, f"end of the guest script '{script}'", output)
            kind, _, text = line.removeprefix(f"{self._nonce} {request} ").partition(" ")
            if not line.startswith(f"{self._nonce} {request} "):
                continue
            if kind in ("out", "err"):
                on_output("stdout" if kind == "out" else "stderr", text)
                output = [*output[-_TAIL:], text]
            elif kind == "result":
                name, _, value = text.partition("=")
                results[name] = value
            elif kind == "exit":
                break
        return _judge(script, int(text), results, token, output, time.monotonic() - started)

    def _line(self, deadline: float, waiting_for: str, output: list[str] | None = None) -> str:
        line = self._console.read_line(within=max(deadline - time.monotonic(), 0.0), waiting_for=waiting_for)
        if isinstance(line, str):
            return line
        raise unreachable(line, output)


def unreachable(outcome: Stalled | Panicked | Died, output: list[str] | None = None) -> Unreachable:
    """The error for an outcome that ended a wait; ``output`` is what the running script had written."""
    words = "\n".join(output) if output else outcome.last_words
    return Unreachable(describe(outcome), last_words=words, outcome=outcome)


def _judge(  # noqa: PLR0913 -- the parts of one verdict
    script: str, status: int, results: dict[str, str], token: str, output: list[str], seconds: float
) -> Answer:
    tail = "\n".join(output)
    if status != 0:
        hint = results.get("hint")
        what = results.get("failure") or f"the guest script '{script}' ended with status {status}"
        raise CommandFailed(what, None, hint, tail, status)
    if results.pop("proof", None) != token:
        raise NotProven(f"the guest script '{script}' ended with status 0 but did not reach its last line", None, None, tail)
    return Answer(results=results, seconds=seconds)


def _environment_file(parameters: Mapping[str, str]) -> str:
    lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(parameters.items())]
    return base64.b64encode("\n".join([*lines, ""]).encode("utf-8", "surrogateescape")).decode()
