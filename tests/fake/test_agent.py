"""The agent's protocol: with the real agent under busybox' shell, and with answers that the real one never gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_machines import NewMachine

from vmharness.errors import CommandFailed, NotProven, Unreachable
from vmharness.host import proc
from vmharness.model.outcome import Died, Panicked, Stalled
from vmharness.vm.guest import Agent, Answer

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

NewAgent = Callable[..., Agent]


@pytest.fixture
def script(tmp_path: Path, checkout: Path) -> Callable[[str, str], Path]:
    """Writes a guest script into an appliance's folder, beside the real agent; gives the folder.

    The paths of the agent's folders and of busybox are the only thing in it that is not as in the appliance.
    """
    busybox = tmp_path / "busybox"
    busybox.symlink_to(proc.require("busybox"))  # a host need not have it in /bin
    appliance = tmp_path / "appliance"
    (appliance / "steps").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    for name in ("agent", "run-script", "lib.sh"):
        text = (checkout / "guest-scripts" / name).read_text()
        text = text.replace("/run/vmharness", str(tmp_path / "work")).replace("/lib/vmharness", str(appliance))
        text = text.replace("#!/bin/busybox", f"#!{busybox}")
        (appliance / name).write_text(text)
    (appliance / "run-script").chmod(0o755)

    def write(name: str, body: str) -> Path:
        step = appliance / "steps" / name
        step.write_text(f"#!{busybox} sh\nset -eu\n. {appliance}/lib.sh\n{body}\n")
        step.chmod(0o755)
        return appliance

    return write


@pytest.fixture
def new_agent(new_machine: NewMachine, request: pytest.FixtureRequest) -> NewAgent:
    """Starts a machine whose guest does what is said and gives its agent, not yet greeted."""

    def make(*guest: dict[str, Any]) -> Agent:
        machine = new_machine(guest=list(guest))
        request.addfinalizer(machine.close)
        machine.start()
        return Agent(machine.command, "0123456789abcdef")

    return make


@pytest.fixture
def real(new_agent: NewAgent, script: Callable[[str, str], Path]) -> Callable[[str], Agent]:
    """Starts the real agent with one guest script, ``step``."""

    def make(body: str) -> Agent:
        agent = new_agent({"agent": str(script("step", body))})
        agent.greet(within=5)
        return agent

    return make


def outputs(agent: Agent, within: float = 10, **parameters: str) -> tuple[Answer, list[tuple[str, str]]]:
    lines: list[tuple[str, str]] = []
    answer = agent.run("step", parameters, within=within, on_output=lambda stream, line: lines.append((stream, line)))
    return answer, lines


def test_a_script_that_succeeds(real: Callable[[str], Agent]) -> None:
    """Output comes by stream and line, results by name; another script can run after it."""
    agent = real('echo one; echo two; echo three >&2; result answer "4 2=x"; proven')
    for _ in range(2):
        answer, lines = outputs(agent)
        assert answer.results == {"answer": "4 2=x"}
        assert answer.seconds < 5
        assert sorted(lines) == [("stderr", "three"), ("stdout", "one"), ("stdout", "two")]


VALUES = ["", "two words", 'it\'s "quoted" $HOME `id` \\ !', "line\nbreak", "ümläut", "-n", "\udcff", "x" * 50_000]


def test_parameters_arrive_unchanged(real: Callable[[str], Agent]) -> None:
    """Every text arrives in the script as it was, also one that a shell would touch, and one that is no text."""
    names = [f"P{number}" for number in range(len(VALUES))]
    shown = "; ".join(f'result {name} "$(printf %s "${name}" | od -An -tx1 -v | tr -d " \\n")"' for name in names)
    answer = real(f"{shown}; proven").run("step", dict(zip(names, VALUES, strict=True)), within=20)
    arrived = [bytes.fromhex(answer.results[name]).decode("utf-8", "surrogateescape") for name in names]
    assert arrived == VALUES


def test_a_script_that_fails(real: Callable[[str], Agent]) -> None:
    """The error has the script's own sentence and hint, its status, and what it wrote last."""
    agent = real('echo working; fail "there is no loader" "install systemd-boot"')
    with pytest.raises(CommandFailed) as failure:
        outputs(agent)
    assert (failure.value.what, failure.value.hint) == ("there is no loader", "install systemd-boot")
    assert failure.value.status == 1
    assert set(failure.value.last_words.splitlines()) == {"working", "there is no loader"}


def test_a_script_that_fails_without_words(real: Callable[[str], Agent]) -> None:
    """A command that fails under ``set -e`` gives its status and the script's name."""
    with pytest.raises(CommandFailed, match="the guest script 'step' ended with status 7"):
        outputs(real("(exit 7); proven"))


def test_a_script_that_is_killed(real: Callable[[str], Agent]) -> None:
    """A script that dies of a signal has failed."""
    with pytest.raises(CommandFailed) as failure:
        outputs(real("kill -KILL $$"))
    assert failure.value.status == 137


def test_a_script_that_is_not_there(real: Callable[[str], Agent]) -> None:
    """A script that the appliance does not have is named."""
    with pytest.raises(CommandFailed, match="there is no guest script 'other'"):
        real("proven").run("other", {}, within=5)


@pytest.mark.parametrize("body", ["exit 0", "true", "result proof guessed", "echo $TOKEN"])
def test_success_must_be_proven(real: Callable[[str], Agent], body: str) -> None:
    """Status 0 without the token is no success: the script did not reach its last line."""
    with pytest.raises(NotProven, match="did not reach its last line"):
        outputs(real(body))


def test_output_that_imitates_an_answer(real: Callable[[str], Agent]) -> None:
    """A program that prints what an answer looks like, nonce and all, has just printed a line."""
    forged = "0123456789abcdef 1 exit 0"
    texts = [f"{forged}\\n", f"x\\r{forged}\\n", f"\\033]0;{forged}\\n", f"x\\n\\r{forged}"]
    agent = real("; ".join(f"printf '{text}'" for text in texts) + "; exit 3")
    lines: list[str] = []
    with pytest.raises(CommandFailed) as failure:
        agent.run("step", {}, within=5, on_output=lambda _stream, line: lines.append(line))
    assert failure.value.status == 3
    assert lines == [forged, f"x {forged}", "", "x", f" {forged}"]


def test_output_of_any_kind(real: Callable[[str], Agent]) -> None:
    """Empty, unterminated, binary and very long lines harm nothing that follows."""
    agent = real(
        "echo; printf '\\377\\376\\033[2J\\033P\\000\\001\\n'; printf '%01000000d\\n' 1; echo after; "
        "printf unfinished; proven"
    )
    answer, lines = outputs(agent, within=60)
    texts = [line for _stream, line in lines]
    assert texts[0] == ""
    assert texts[1] == "\ufffd\ufffd"
    assert len(texts[2]) == 1_000_000
    assert texts[3:] == ["after", "unfinished"]
    assert answer.results == {}


def test_much_output(real: Callable[[str], Agent]) -> None:
    """Thousands of lines all come, in order."""
    _, lines = outputs(real("seq 1 3000; proven"), within=60)
    assert [line for _stream, line in lines] == [str(number) for number in range(1, 3001)]


def test_a_daemon_left_behind(real: Callable[[str], Agent]) -> None:
    """A background process that holds a script's output does not keep its step from ending, nor disturbs the next."""
    agent = real('(trap "" PIPE; while sleep 0.02; do echo "$NAME\'s daemon"; done) 2>/dev/null & echo "$NAME"; proven')
    for name in ("first", "second"):
        started = time.monotonic()
        _, lines = outputs(agent, NAME=name)
        assert time.monotonic() - started < 6
        assert ("stdout", name) in lines
        assert ("stdout", "first's daemon") not in lines or name == "first"


def test_a_script_reads_nothing_of_the_console(real: Callable[[str], Agent]) -> None:
    """A script's standard input is empty: it cannot swallow the next request."""
    agent = real("cat; proven")
    outputs(agent)
    outputs(agent)


def test_a_script_that_hangs(real: Callable[[str], Agent]) -> None:
    """At the deadline: what was waited for, how long in all, and the script's last lines; then another can be asked."""
    agent = real("echo first; sleep 0.2; echo second; sleep 1; proven")
    with pytest.raises(Unreachable) as failure:
        outputs(agent, within=0.6)
    outcome = failure.value.outcome
    assert isinstance(outcome, Stalled)
    assert outcome.waiting_for == "end of the guest script 'step'"
    assert 0.6 <= outcome.seconds < 3
    assert failure.value.last_words == "first\nsecond"
    outputs(agent)


def test_a_script_that_floods(real: Callable[[str], Agent]) -> None:
    """Output without end does not put off the deadline."""
    agent = real("while :; do echo y; done")
    started = time.monotonic()
    with pytest.raises(Unreachable, match="no end of the guest script 'step' within"):
        outputs(agent, within=0.5)
    assert time.monotonic() - started < 5


HELLO = ({"command": "vmharness agent 1\n"}, {"hear": "session"}, {"command": "@NONCE@ 0 hello\n"})


def test_an_agent_that_never_comes(new_agent: NewAgent) -> None:
    """A guest that does not bring up its agent: the log console's last lines say where it hangs."""
    agent = new_agent({"log": "random: crng init done\r\n"}, {"wait": 60})
    with pytest.raises(Unreachable) as failure:
        agent.greet(within=0.3)
    assert failure.value.what == "no sign of the appliance's agent within 0 s"
    assert failure.value.last_words == "random: crng init done"


def test_noise_before_the_greeting(new_agent: NewAgent) -> None:
    """What was on the command console before the agent came is passed over."""
    noise = {"command": "\x00garbage\n\nvmharness agent\n"}
    new_agent(noise, *HELLO).greet(within=5)


def test_damaged_and_foreign_lines(new_agent: NewAgent) -> None:
    """Lines with another nonce, another request, no prefix, an unknown kind or no status are no answers."""
    lines = [
        "feedfeedfeedfeed @ID@ exit 9", "@NONCE@ 77 exit 9", "@ID@ exit 9", "kernel: @NONCE@ @ID@ exit 9", "",
        "@NONCE@ @ID@ what 9", "@NONCE@ @ID@ exit", "@NONCE@ @ID@ exit nine", "@NONCE@ @ID@ out hello",
        "@NONCE@ @ID@ result proof=@TOKEN@", "@NONCE@ @ID@ exit 0",
    ]  # fmt: skip
    agent = new_agent(*HELLO, {"hear": "run"}, {"command": "\n".join([*lines, ""])})
    agent.greet(within=5)
    _, output = outputs(agent)
    assert output == [("stdout", "hello")]


def test_an_answer_in_single_bytes(new_agent: NewAgent) -> None:
    """However the answer is cut, it is one."""
    answer = "@NONCE@ @ID@ out h\xc3\xa9llo\n@NONCE@ @ID@ result proof=@TOKEN@\n@NONCE@ @ID@ exit 0\n"
    cut = [{"command": part} for word in answer.split(" ") for part in (word, " ")][:-1]
    agent = new_agent(*HELLO, {"hear": "run"}, *[part for piece in cut for part in (piece, {"wait": 0.005})])
    agent.greet(within=5)
    _, output = outputs(agent)
    assert output == [("stdout", "héllo")]


@pytest.mark.parametrize("greeted", [True, False])
def test_the_guest_panics(new_agent: NewAgent, greeted: bool) -> None:
    """A panic on the log console ends a wait on the command console at once."""
    panic = ({"wait": 0.1}, {"log": "[    2.0] Kernel panic - not syncing: No working init found.\r\n"})
    agent = new_agent(*(*HELLO, {"hear": "run"}) if greeted else (), *panic)
    started = time.monotonic()
    if greeted:
        agent.greet(within=5)
    with pytest.raises(Unreachable, match="Kernel panic - not syncing: No working init found") as failure:
        agent.run("step", {}, within=30) if greeted else agent.greet(within=30)
    assert isinstance(failure.value.outcome, Panicked)
    assert time.monotonic() - started < 10


def test_qemu_is_killed_while_a_step_runs(new_agent: NewAgent) -> None:
    """QEMU killed from outside ends the step at once, naming the signal, with the step's last lines."""
    output = {"command": "@NONCE@ @ID@ out copying\n"}
    agent = new_agent(*HELLO, {"hear": "run"}, output, {"wait": 0.2}, {"signal": "KILL"})
    agent.greet(within=5)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="the machine is gone: QEMU was killed by SIGKILL") as failure:
        agent.run("step", {}, within=30)
    assert time.monotonic() - started < 0.2 + 0.5
    assert isinstance(failure.value.outcome, Died)
    assert failure.value.last_words == "copying"


def test_an_agent_that_ends(new_agent: NewAgent) -> None:
    """An appliance that switches itself off while a step runs is named."""
    off = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
    agent = new_agent(*HELLO, {"hear": "run"}, {"log": "vmharness: the agent ended\r\n"}, off, {"exit": 0})
    agent.greet(within=5)
    with pytest.raises(Unreachable, match="the guest switched the machine off") as failure:
        agent.run("step", {}, within=30)
    assert failure.value.last_words == "vmharness: the agent ended"
