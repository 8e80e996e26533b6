"""A guest's serial console without a guest: a getty, a login and a real shell on a pseudo terminal behind a socket."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from vmharness.host import proc
from vmharness.vm.console import Console
from vmharness.vm.ending import Ending
from vmharness.vm.lines import DEATHS

KERNEL_MESSAGE = b"[   17.123456] usb 1-1: new high-speed USB device number 2 using xhci_hcd\r\n"

# As agetty and login do: what was typed too early is dropped, and a password is not echoed.
GETTY = r"""#!/bin/sh
drop() {
    stty -icanon min 0 time 0
    while [ -n "$(dd bs=512 count=1 2>/dev/null)" ]; do :; done
    stty icanon
}
if [ -n "$AUTOMATIC" ]; then
    printf 'fake login: %s (automatic login)\n\n' "$AUTOMATIC"
    exec $LOGIN_SHELL
fi
sleep "$BOOT_SECONDS"
while :; do
    drop
    printf '\nDebian GNU/Linux 12 fake ttyS0\n\nfake login: '
    IFS= read -r user || exit
    [ -n "$user" ] || continue
    password=
    case $user in
    root) password=none ;;
    secret | expired) password=secret ;;
    esac
    if [ "$password" != none ]; then
        sleep 0.1
        stty -echo
        drop
        printf 'Password: '
        IFS= read -r given || exit
        stty echo
        if [ "$given" != "$password" ] || [ -z "$password" ]; then
            sleep 0.2
            printf '\n\nLogin incorrect\n'
            continue
        fi
        printf '\n'
    fi
    if [ "$user" = expired ]; then
        echo "You are required to change your password immediately (administrator enforced)."
        printf 'Current password: '
        IFS= read -r given
        exit
    fi
    printf 'Last login: Mon Nov 23 04:41:27 UTC 2026 on ttyS0\nThe password policy has changed: see the intranet.\n'
    exec $LOGIN_SHELL
done
"""


class SerialGuest:
    """The guest, and our console on it.

    :param shell: the users' login shell and its arguments.
    :param environment: of the login.
    :param noise_every: after so many bytes of output the kernel says something, in the middle of what others say.
    :param noise: what it says.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shell: str = "sh -i",
        environment: Mapping[str, str] | None = None,
        noise_every: int = 0,
        noise: bytes = KERNEL_MESSAGE,
    ) -> None:
        getty = folder / "getty"
        getty.write_text(GETTY)
        getty.chmod(0o755)
        self.home = folder / "home"
        self.home.mkdir()
        self.noise_every = noise_every
        self.noise = noise
        self._quiet_for = noise_every
        self._argv = [str(proc.require("setsid")), "--ctty", str(getty)]
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LOGIN_SHELL": shell, "TERM": "vt220"}
        self._environment |= {"AUTOMATIC": "", "BOOT_SECONDS": "0", "TMPDIR": str(folder)}
        self._environment |= environment or {}
        ours, self._socket = socket.socketpair()
        self._wake, self._waker = os.pipe()
        self.typed = b""
        self._closing = False
        self._child: subprocess.Popen[bytes] | None = None
        self.ending = Ending()
        self.console = Console(
            name="log", stream=ours, transcript=folder / "transcript", ending=self.ending, deaths=DEATHS
        )
        self._thread = threading.Thread(target=self._live, name="serial-guest")
        self._thread.start()

    @property
    def transcript(self) -> bytes:
        """Every byte that the guest has printed."""
        return self.console.transcript.read_bytes()

    def say(self, data: bytes) -> None:
        """The kernel prints something now."""
        self._socket.sendall(data)

    def reset(self) -> None:
        """The machine is reset: all that ran in the guest is gone, and it boots once more, as whoever did it knows."""
        self.console.forget()
        self._kill()

    def close(self) -> None:
        """End it."""
        self._closing = True
        os.write(self._waker, b"x")
        self._kill()
        self._thread.join(timeout=5)
        self.console.close()
        self._socket.close()
        os.close(self._wake)
        os.close(self._waker)

    def _kill(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGKILL)

    def _live(self) -> None:
        while not self._closing:
            master, slave = pty.openpty()
            self._child = subprocess.Popen(
                self._argv, stdin=slave, stdout=slave, stderr=slave, env=self._environment, cwd=self.home
            )
            os.close(slave)
            try:
                self._pass_on(master)
            finally:
                self._kill()
                os.close(master)
                self._child.wait()

    def _pass_on(self, master: int) -> None:
        """Connect terminal and socket until either ends."""
        while not self._closing:
            ready, _, _ = select.select([master, self._socket, self._wake], [], [])
            if self._wake in ready:
                return
            if master in ready:
                try:
                    output = os.read(master, 4096)
                except OSError:  # nobody has the terminal any more
                    return
                self._socket.sendall(self._disturbed(output))
            if self._socket in ready:
                typed = self._socket.recv(512)
                if not typed:
                    return
                self.typed += typed
                os.write(master, typed)

    def _disturbed(self, output: bytes) -> bytes:
        if not self.noise_every:
            return output
        pieces = []
        while len(output) >= self._quiet_for:
            pieces += [output[: self._quiet_for], self.noise]
            output = output[self._quiet_for :]
            self._quiet_for = self.noise_every
        self._quiet_for -= len(output)
        return b"".join([*pieces, output])
