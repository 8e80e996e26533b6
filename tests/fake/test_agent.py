"""The agent's protocol: with the real agent under busybox' shell, and with answers that the real one never gives."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_machines import NewMachine

from vmharness.errors import CommandFailed, NotProven, Unreachable
from vmharness.events import nobody
from vmharness.flows.run import Run
from vmharness.flows.steps import run_step
from vmharness.host import proc
from vmharness.host.rundir import RunDirectory
from vmharness.model.outcome import Died, Panicked, Stalled
from vmharness.model.steps import Step, StepFile
from vmharness.vm import guest
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
        text = text.replace("/target/", f"{tmp_path}/target/")
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


CONTENTS = {
    "empty": b"",
    "text": b"one\ntwo\n",
    "no last newline": b"x",
    "every byte": bytes(range(256)) * 50,
    "what passes for requests": b"session feedfeedfeedfeed\nrun 9 step \nput 3 1 x 644 x\n" * 100,
    "large": random.Random(6).randbytes(300_000),  # noqa: S311 -- no secret
}


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
def test_files_arrive_unchanged(real: Callable[[str], Agent], tmp_path: Path, data: bytes) -> None:
    """Every byte arrives, both ways and with the wanted mode, and the agent listens afterwards."""
    agent = real("proven")
    agent.put(data, f"{tmp_path}/a 'file' $x\n.bin", mode=0o640, within=20)
    written = tmp_path / "a 'file' $x\n.bin"
    assert written.read_bytes() == data
    assert written.stat().st_mode & 0o7777 == 0o640
    assert agent.get(str(written), within=20) == data
    outputs(agent)


def test_a_file_that_is_there(real: Callable[[str], Agent], tmp_path: Path) -> None:
    """It is replaced by a new one, through a symbolic link too, and keeps its owner; nothing is left beside it."""
    (tmp_path / "etc").mkdir()
    old = tmp_path / "etc" / "old"
    old.write_text("old")
    if os.getuid() == 0:
        os.chown(old, 12, 34)
    owner = (old.stat().st_uid, old.stat().st_gid)
    (tmp_path / "link").symlink_to("etc/old")
    real("proven").put(b"new", f"{tmp_path}/link", mode=0o600, within=5)
    assert (tmp_path / "link").is_symlink()
    assert old.read_bytes() == b"new"
    assert (old.stat().st_uid, old.stat().st_gid) == owner
    assert list((tmp_path / "etc").iterdir()) == [old]


def test_files_of_the_target(real: Callable[[str], Agent], tmp_path: Path) -> None:
    """A link of the target that leads out of it is refused: in the target it leads elsewhere."""
    (tmp_path / "target").mkdir()
    (tmp_path / "outside").write_text("the appliance's")
    (tmp_path / "target" / "inside").write_text("the target's")
    (tmp_path / "target" / "in").symlink_to("inside")
    (tmp_path / "target" / "out").symlink_to(f"{tmp_path}/outside")
    agent = real("proven")
    assert agent.get(f"{tmp_path}/target/in", within=5) == b"the target's"
    for action in (partial(agent.put, b"x", mode=0o644), agent.get):
        with pytest.raises(CommandFailed, match=f"it leads out of the target, to '{tmp_path}/outside'"):
            action(path=f"{tmp_path}/target/out", within=5)
    assert (tmp_path / "outside").read_text() == "the appliance's"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/no/such/file", "there is no such folder"),
        ("@/", "it is a folder"),
        ("@/file/below", "there is no such folder"),
        ("/dev/full/x", "there is no such folder"),
        ("/proc/new", "can't create /proc/.vmharness-put"),
        ("relative", "it is no absolute path"),
        ("/\0", "it is no absolute path"),
    ],
)
def test_files_that_cannot_be_written(real: Callable[[str], Agent], tmp_path: Path, path: str, words: str) -> None:
    """Each says why, at once, and the agent listens afterwards, whatever was on its way."""
    (tmp_path / "file").touch()
    path = path.replace("@", str(tmp_path))
    agent = real("proven")
    with pytest.raises(CommandFailed, match=re.escape(f"cannot write '{path}' in the guest: {words}")):
        agent.put(b"run 7 step \n" * 20_000, path, mode=0o644, within=20)
    outputs(agent)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("@/missing", "there is no such file"),
        ("/no/such/file", "there is no such folder"),
        ("@/", "it is a folder"),
        ("/dev/zero", "it is no regular file"),
        ("/proc/1/mem", "head: .*/proc/1/mem"),  # no permission, or nothing at its beginning
        ("relative", "it is no absolute path"),
    ],
)
def test_files_that_cannot_be_read(real: Callable[[str], Agent], tmp_path: Path, path: str, words: str) -> None:
    """Each says why, at once, and the agent listens afterwards."""
    path = path.replace("@", str(tmp_path))
    agent = real("proven")
    with pytest.raises(CommandFailed, match=re.escape(f"cannot read '{path}' in the guest: ") + words):
        agent.get(path, within=5)
    outputs(agent)


def test_a_file_without_a_size(real: Callable[[str], Agent]) -> None:
    """The kernel's files say that they are empty, and are not."""
    assert b"processor" in real("proven").get("/proc/cpuinfo", within=5)


def test_files_that_are_too_large(
    real: Callable[[str], Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is said, and nothing is written."""
    monkeypatch.setattr(guest, "LARGEST_FILE", 100_000)
    agent = real("proven")
    (tmp_path / "much").write_bytes(bytes(100_001))
    with pytest.raises(CommandFailed, match=r"cannot write '.*/new' in the guest: it is larger than 64 MiB"):
        agent.put(bytes(100_001), f"{tmp_path}/new", mode=0o644, within=5)
    with pytest.raises(CommandFailed, match=r"cannot read '.*/much' in the guest: it is larger than 64 MiB"):
        agent.get(f"{tmp_path}/much", within=5)
    assert not (tmp_path / "new").exists()
    agent.put(bytes(100_000), f"{tmp_path}/new", mode=0o644, within=5)
    assert agent.get(f"{tmp_path}/new", within=5) == bytes(100_000)


def test_a_file_that_arrives_damaged(new_agent: NewAgent) -> None:
    """A piece that is missing, or no base64, is noticed."""
    digest = hashlib.sha256(b"whole").hexdigest()
    for piece in (base64.b64encode(b"whale").decode(), "d2hvb", "@@"):
        lines = [f"@NONCE@ @ID@ data {piece}", f"@NONCE@ @ID@ result sha256={digest}", "@NONCE@ @ID@ exit 0", ""]
        agent = new_agent(*HELLO, {"hear": "get"}, {"command": "\n".join(lines)})
        agent.greet(within=5)
        with pytest.raises(CommandFailed, match="it arrived damaged"):
            agent.get("/x", within=5)


def test_a_guest_that_takes_no_file(new_agent: NewAgent) -> None:
    """At the deadline: what was waited for."""
    agent = new_agent(*HELLO, {"wait": 60})
    agent.greet(within=5)
    with pytest.raises(Unreachable, match="no end of writing '/x' in the guest within"):
        agent.put(b"x", "/x", mode=0o644, within=0.3)


@pytest.fixture
def record(tmp_path: Path) -> Run:
    """A run that nobody listens to."""
    directory = RunDirectory(path=tmp_path / "run")
    directory.scripts.mkdir(parents=True)
    return Run(directory=directory, emit=nobody)


def test_a_step_with_a_file(real: Callable[[str], Agent], record: Run, tmp_path: Path) -> None:
    """A step's file is put into the guest each time that it runs, so that it can be run again and changed."""
    place = tmp_path / "in the guest"
    step = Step(
        name="a step",
        script="step",
        parameters={"FILE": str(place)},
        deadline=10.0,
        file=StepFile(name="a step", path=str(place), sha256="", size=0),
        expect="edited",
    )
    agent = real('"$FILE"; rm "$FILE"; proven')
    record.directory.script("a step").write_text("#!/bin/sh\necho as it was\n")
    with pytest.raises(NotProven, match="status 0, but no line of its output contains 'edited'") as failure:
        run_step(agent, step, record)
    assert failure.value.last_words == "as it was"
    record.directory.script("a step").write_text("#!/bin/sh\necho it is edited\n")
    run_step(agent, step, record)
    assert list(record.seconds) == ["a step"]
    record.directory.script("a step").write_text("#!/bin/sh\necho edited >&2; exit 3\n")
    with pytest.raises(CommandFailed) as failed:
        run_step(agent, step, record)
    assert (failed.value.status, failed.value.last_words) == (3, "edited")
