"""A build that failed is entered in the state before its failed step, repaired by hand, and ended."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from functools import partial
from pathlib import Path

import pexpect
import pytest
import trees
from running import PROGRAM, Workplace

SECONDS = 120

# Installs a loader, but only where somebody has left a word for it.
SCRIPT = """#!/bin/sh
set -eu
echo "looking for the word"
word=$(cat /opt/word)
mkdir -p "$ESP/EFI/BOOT"
cp /vmlinuz "$ESP/EFI/BOOT/BOOTX64.EFI"
echo "installed, $word"
"""

DEFINITION = (
    trees.MINIMAL
    + """
[bootloader]
install = { command = ["/opt/install"] }

[[contents]]
source = "install"
target = "/opt/install"
mode = "0755"
"""
)
STEP = "run the bootloader command"


@pytest.fixture(scope="module")
def failed(shop: Workplace) -> Path:
    """The run directory of a build that failed; no test changes it."""
    (shop.folder / "install").write_text(SCRIPT)
    before = set(shop.run_directories())
    done = shop.run("build", shop.define(DEFINITION), "-o", shop.folder / "failed")
    (left,) = set(shop.run_directories()) - before
    assert done.status == 1
    for words in (STEP, "exit status: 1", "cat: can't open '/opt/word'", f"to enter it: vmharness reproduce {left}"):
        assert words in done.stderr
    assert not (shop.folder / "failed").exists()
    return left


def test_person_repairs_a_build(failed: Path, place: Workplace) -> None:
    """A shell opens before the failed step, with job control; the verbs run the step again and publish the image.

    What is published says that it was repaired by hand, and how; the failed build stays as it was.
    """
    before = digests(failed)
    with pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], "reproduce", str(failed)],
        env={**place.environment_of_runs(), "TERM": "vt100"},
        cwd=place.folder,
        timeout=SECONDS,
        dimensions=(33, 111),
        encoding="utf-8",
    ) as terminal:
        terminal.expect_exact(f"step 5 of 7, '{STEP}'")
        terminal.expect_exact("in_target env")
        terminal.expect(r"appliance.*:/ # ")
        terminal.send("stty size; ls /target/opt\r")
        terminal.expect_exact("33 111")
        terminal.expect_exact("install")
        terminal.send("echo $((6 * 7)) apples; sleep 300\r")
        terminal.expect_exact("\n42 apples")
        terminal.send("\x03")
        terminal.expect(r":/ # ")
        terminal.send("echo by hand >/target/opt/word\r")
        terminal.expect(r":/ # ")
        terminal.send("\x1d")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("retry")
        terminal.expect_exact("installed, by hand")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("continue out")
        terminal.expect_exact("repaired by hand")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("quit")
        terminal.expect(pexpect.EOF)
        terminal.wait()
    manifest = json.loads((place.folder / "out/manifest.json").read_text())
    assert manifest["repaired"]
    assert any("echo by hand >/target/opt/word" in line for line in manifest["repairs"])
    assert place.run("inspect", place.folder / "out").status == 0
    assert digests(failed) == before
    assert place.guests() == []
    assert place.run_directories() == []


def test_options_do_the_same(failed: Path, place: Workplace) -> None:
    """Without a person, options put a file in, look at the result and run an edited copy of the step's script."""
    (place.folder / "word").write_text("from a file\n")
    (place.folder / "edited").write_text(". /lib/vmharness/lib.sh\nin_target env ESP=$ESP_PATH /opt/install\nproven\n")
    done = place.run(
        "reproduce", failed,
        "--put", "word", "/target/opt/word",
        "--run", "target cat /opt/word",
        "--script", "edited",
        "--get", "/target/opt/install", "fetched",
        "--continue", "out",
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert "| from a file" in done.stderr
    assert "| installed, from a file" in done.stderr
    assert (place.folder / "fetched").read_text() == SCRIPT
    repairs = json.loads((place.folder / "out/manifest.json").read_text())["repairs"]
    assert "    +in_target env ESP=$ESP_PATH /opt/install" in repairs


def test_a_step_that_fails_again(failed: Path, place: Workplace) -> None:
    """What fails again is told as in a build, and nothing is published."""
    done = place.run("reproduce", failed, "--retry", "--continue", "out")
    assert done.status == 5
    assert "cat: can't open '/opt/word'" in done.stderr
    assert not (place.folder / "out").exists()


def test_every_state_of_a_build(place: Workplace) -> None:
    """With all checkpoints kept, a build that succeeded can be entered at each step."""
    built = place.build(trees.MINIMAL + trees.SYSTEMD_BOOT, "--checkpoints", "all")
    assert place.run("inspect", built).status == 0
    (left,) = place.run_directories()
    done = place.run("reproduce", left, "--at", "2", "--steps", "--run", "! mountpoint /target")
    assert done.status == 0, done.stderr
    assert "->  2 format the EFI system partition" in done.stdout
    done = place.run("reproduce", left, "--at", "unmount", "--run", "ls /target/efi/EFI/systemd")
    assert "systemd-bootx64.efi" in done.stderr
    compare = "compare 'install systemd-boot' 'remove what machines must not share'"
    done = place.run("reproduce", left, verbs=f"{compare}\n")
    assert done.status == 0, done.stderr
    assert "+ /target/efi/EFI/systemd/systemd-bootx64.efi" in done.stdout
    assert "Boot0001" in done.stdout


def test_stopping_on_purpose(place: Workplace) -> None:
    """A build stops before the step that is named, and can be entered there; an unknown step is refused at once."""
    definition = place.define(trees.MINIMAL + trees.SYSTEMD_BOOT)
    done = place.run("build", definition, "-o", place.folder / "out", "--break-before", "install systemd-boot")
    assert done.status == 1
    assert "stopped before the step 'install systemd-boot'" in done.stderr
    (left,) = place.run_directories()
    done = place.run("reproduce", left, "--run", "! ls /target/efi/EFI", "--continue", "out")
    assert done.status == 0, done.stderr
    done = place.run("build", definition, "-o", place.folder / "other", "--break-after", "instal systemd-boot")
    assert done.status == 2
    assert "did you mean 'install systemd-boot'" in done.stderr


def test_interrupted_build(place: Workplace) -> None:
    """What was saved before Ctrl-C is not lost: the build can be entered where it was last saved."""
    definition = place.define(trees.MINIMAL + trees.shell("echo dozing off; sleep 300"))
    with place.start("build", definition, "-o", place.folder / "out") as live:
        live.wait_for_output("dozing off")
        os.killpg(live.pid, signal.SIGINT)
        done = live.end()
    assert done.status == 130
    (left,) = place.run_directories()
    done = place.run("reproduce", left, "--steps", "--run", "ls /target/etc")
    assert done.status == 0, done.stderr
    assert f"->  4 {STEP}" in done.stdout


@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN], ids=["", "nohup"])
def test_closed_terminal(failed: Path, place: Workplace, hangup: signal.Handlers) -> None:
    """A terminal that is closed ends the session and its machine; the build can be entered as before."""
    before = digests(failed)
    said = place.folder / "said"
    terminal = pexpect.spawn(
        "/bin/sh",
        ["-c", 'exec 2>"$1"; shift; exec "$@"', "sh", str(said), *PROGRAM, "reproduce", str(failed)],
        env={**place.environment_of_runs(), "TERM": "vt100"},
        timeout=SECONDS,
        encoding="utf-8",
        preexec_fn=partial(signal.signal, signal.SIGHUP, hangup),
    )
    terminal.expect(r"appliance.*:/ # ")
    terminal.ptyproc.fileobj.close()
    assert terminal.wait() == 130, said.read_text()
    assert "Traceback" not in said.read_text()
    assert place.guests() == []
    assert digests(failed) == before


def test_guest_that_hangs(place: Workplace) -> None:
    """A state in which a step hangs has a shell all the same, though no more steps; a rewind gives a sound one."""
    hang = 'name = "wait"\ncommand = ["sleep", "1000"]\ndeadline = "3s"\ninside = "appliance"\n'
    done = place.fail(f"{trees.MINIMAL}\n[[run]]\n{hang}")
    assert "did not" in done.error() or "no end" in done.error()
    (left,) = place.run_directories()
    (hung,) = left.glob("checkpoints/*-failed-*")
    done = place.run("reproduce", left, "--at", hung.name, "--run", "true")
    assert done.status == 5
    assert "was saved while a step hung" in done.stderr
    with pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], "reproduce", str(left), "--at", hung.name],
        env={**place.environment_of_runs(), "TERM": "vt100"},
        timeout=SECONDS,
        encoding="utf-8",
    ) as terminal:
        terminal.expect(r":/ # ")
        terminal.send("ps | grep -c '[s]leep 1000'\r")
        terminal.expect(r"\r\n1\r\n")
        terminal.send("\x1d")
        terminal.expect_exact("vmharness> ")
        terminal.sendline("rewind wait")
        terminal.expect_exact("->  4 wait")
        terminal.sendline("run 'ls /target/etc'")
        terminal.expect_exact("hostname")
        terminal.sendline("quit")
        terminal.expect(pexpect.EOF)


def digests(folder: Path) -> dict[Path, str]:
    """The digest of each file."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
