"""A TPM 2.0 for a machine: swtpm, one process for each start of QEMU.

It is connected by a socket pair, so it has no path that could be too long or taken. It ends when QEMU does; its state
lies in a folder from which the next one goes on.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import proc
from vmharness.host.starting import start

_ANSWER_SECONDS = 10.0
_GRACE = 3.0
# swtpm_ioctls(3): a command is a number of four bytes, big-endian; this one's answer is eight bytes.
_GET_CAPABILITY = (1).to_bytes(4, "big")
_CAPABILITY_BYTES = 8


@contextmanager
def running(state: Path, log: Path) -> Iterator[socket.socket]:
    """A running TPM, ended when the block is left; gives the socket that QEMU is to inherit.

    The kernel kills it when the calling thread ends.

    :param state: folder that holds its state; made if it is not there, and a TPM in an empty one is new. No other TPM
        may be running on it.
    :param log: file that gets what swtpm writes.
    :raises HostError: swtpm is not installed, or does not start.
    """
    program = proc.require("swtpm")
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    ours, its = socket.socketpair()
    with ours:
        with its, log.open("wb") as output:
            child = _spawn(program, state, its, output.fileno())
        with child:
            try:
                _greet(ours, log)
                yield ours
            finally:
                _end(child)


def _spawn(program: Path, state: Path, control: socket.socket, output: int) -> subprocess.Popen[bytes]:
    # In its options a comma ends a value, so the folder is where it runs.
    argv = [program, "socket", "--tpm2", "--tpmstate", "dir=.", "--terminate"]
    try:
        return start(
            [str(part) for part in [*argv, "--ctrl", f"type=unixio,clientfd={control.fileno()}"]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[control.fileno()],
            env=proc.environment(),
            cwd=state,
            start_new_session=True,  # Ctrl-C in the terminal is for us
        )
    except OSError as error:
        raise HostError(f"the TPM cannot be started in {state}: {error.strerror}") from error


def _greet(control: socket.socket, log: Path) -> None:
    """Ask something of swtpm, so that its failure is not left to QEMU to describe."""
    control.settimeout(_ANSWER_SECONDS)
    try:
        control.sendall(_GET_CAPABILITY)
        answer = control.recv(_CAPABILITY_BYTES)
    except OSError:
        answer = b""
    control.settimeout(None)
    if len(answer) != _CAPABILITY_BYTES:
        said = log.read_text(encoding="utf-8", errors="replace").strip() or "it said nothing"
        raise HostError(
            f"the TPM does not start: swtpm: {said}",
            evidence=log,
            hint="where AppArmor confines swtpm to some folders, point TMPDIR to one of them, such as /tmp",
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
