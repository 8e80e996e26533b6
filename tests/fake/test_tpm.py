"""The TPM: swtpm, started and ended with its machine."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmharness.errors import HostError
from vmharness.host import proc, tpm

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

CMD_INIT = 2  # swtpm_ioctls(3)


def initialise(control: socket.socket) -> int:
    """Let the TPM load or make its state, as QEMU does; gives its answer, 0 if it could."""
    control.sendall(struct.pack(">II", CMD_INIT, 0))
    return int.from_bytes(control.recv(4), "big")


def test_its_state_outlives_it(tmp_path: Path) -> None:
    """A new TPM makes its state in its folder, whatever that is called; the next one loads it."""
    state = tmp_path / "state, of a TPM"
    with tpm.running(state, tmp_path / "log") as control:
        assert initialise(control) == 0
    (made,) = state.glob("*.permall")
    content = made.read_bytes()
    with tpm.running(state, tmp_path / "log") as control:
        assert initialise(control) == 0
    assert made.read_bytes()[:16] == content[:16]


def test_a_damaged_state(tmp_path: Path) -> None:
    """A state that is none is not taken for a new TPM."""
    state = tmp_path / "state"
    with tpm.running(state, tmp_path / "log") as control:
        initialise(control)
    (made,) = state.glob("*.permall")
    made.write_bytes(b"no state at all")
    with tpm.running(state, tmp_path / "log") as control:
        assert initialise(control) != 0


def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped swtpm is ended, too."""
    monkeypatch.setattr("vmharness.host.tpm._GRACE", 0.1)
    before = _children()  # other tests' helpers may live on, such as multiprocessing's
    with tpm.running(tmp_path / "state", tmp_path / "log"):
        (child,) = set(_children()) - set(before)
        os.kill(int(child), signal.SIGSTOP)


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without swtpm is told what to install."""
    monkeypatch.setattr("vmharness.host.proc.find", lambda _program: None)
    with pytest.raises(HostError, match="install swtpm"), tpm.running(tmp_path / "state", tmp_path / "log"):
        pass


def test_one_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What swtpm said before it gave up is in the error."""
    program = tmp_path / "swtpm"
    program.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(proc, "require", lambda _program: program)
    with (
        pytest.raises(HostError, match="the TPM does not start: swtpm: no such option"),
        tpm.running(tmp_path / "state", tmp_path / "log"),
    ):
        pass


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """When our process is killed with no chance to clean up, swtpm is gone too."""
    program = (
        "import time\nfrom pathlib import Path\nfrom vmharness.host import tpm\n"
        f"with tpm.running(Path({str(tmp_path / 'state')!r}), Path({str(tmp_path / 'log')!r})):\n"
        "    print(Path('/proc/thread-self/children').read_text(), flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        swtpm = Path("/proc") / parent.stdout.readline().strip()
        assert swtpm.is_dir()
        parent.kill()
    deadline = time.monotonic() + 5
    while swtpm.is_dir() and "State:\tZ" not in (swtpm / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _children() -> list[str]:
    return Path("/proc/thread-self/children").read_text().split()
