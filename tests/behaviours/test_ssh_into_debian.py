"""Debian with OpenSSH: commands and files over SSH and over the serial login."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from attrs import frozen
from running import Workplace

from vmharness.errors import Unreachable
from vmharness.model.sizes import MIB
from vmharness.testing import BootState, Hardware, Machine
from vmharness.vm.inside import Inside
from vmharness.vm.sshkeys import SshKey, authorize

IMAGE = """
[image]
name = "ssh"
additional-space = "64M"
boot-size = "128M"

[root]
source = { debian = "bookworm", include = [
    "linux-image-cloud-amd64", "systemd-sysv", "systemd-boot", "openssh-server",
] }

[bootloader]
install = "systemd-boot"
kernel-parameters = ["console=ttyS0", "systemd.wants=systemd-networkd.service"]
"""
# Images have no host keys, which machines must not share: each makes its own.
HOME = "/root"
"""The home of root in the guest."""

HOST_KEY = """
[Service]
ExecStartPre=
ExecStartPre=-/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
"""
NETWORK = """
[Match]
Name=en*

[Network]
Address=10.0.2.15/24
"""
# crypt(3) of "secret"; the rest as Debian's packages make it
SHADOW = """\
root:$6$vmharness$npjGHlA7s8S/LPko7m/UTAihup5/VhGEWIVG7anWdD5JtkMP3Iht9aHmhU1TxCanssyfbhu4KExNlt5qG3NSr.:19000::::::
sshd:!:19000::::::
"""


@frozen(kw_only=True)
class Installed:
    """The image, and a key that it lets in as root."""

    state: BootState
    key: SshKey


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Debian with a server, a network address and a password for root."""
    place = Workplace(folder=tmp_path_factory.mktemp("ssh"))
    key = SshKey.generate()
    grafted = {
        f"{HOME}/.ssh/authorized_keys": f"{key.public}\n",
        "/etc/shadow": SHADOW,
        "/etc/systemd/network/wired.network": NETWORK,
        "/etc/systemd/system/ssh.service.d/keys.conf": HOST_KEY,
    }
    definition = IMAGE
    for number, (target, text) in enumerate(grafted.items()):
        (place.folder / f"file{number}").write_text(text)
        mode = "0644" if target.startswith("/etc/systemd") else "0600"
        definition += f'\n[[contents]]\nsource = "file{number}"\ntarget = "{target}"\nmode = "{mode}"\n'
    yield Installed(state=BootState.of(place.build(definition)), key=key)
    shutil.rmtree(place.folder)


def exercise(one: Inside, other: Inside) -> None:
    """Results of ``one``, some of them looked at through ``other``."""
    result = one.run("printf 'out\\000\\377'; printf err >&2; exit 3", within=60, check=False)
    assert (result.status, result.stdout, result.stderr) == (3, b"out\0\xff", b"err")
    assert one.run("whoami; pwd; tty; sleep 100 & cat", within=60).text == f"root\n{HOME}\nnot a tty"
    data = os.urandom(30_000)
    one.put(data, f"{HOME}/data", mode=0o640)
    assert other.get(f"{HOME}/data") == data
    assert other.run(f"stat -c %a {HOME}/data", within=60).text == "640"
    with pytest.raises(Unreachable, match="no end of the command 'sleep 301'"):
        one.run("sleep 301", within=5)
    assert other.run("pgrep -f '^sleep 301' || echo none", within=60).text == "none"


def test_both_ways_inside(installed: Installed) -> None:
    """SSH and the serial login give the same results; a key that the one authorises is let in by the other."""
    with Machine(installed.state, Hardware(network=True, memory=512 * MIB)) as machine:
        machine.start()
        ssh = machine.ssh(installed.key)
        shell = machine.login("root", "secret")
        exercise(ssh, shell)
        exercise(shell, ssh)
        data = os.urandom(3_000_000)
        ssh.put(data, f"{HOME}/large")
        assert ssh.get(f"{HOME}/large") == data
        other = SshKey.generate()
        with pytest.raises(Unreachable, match="refused our key for 'root'"):
            machine.ssh(other)
        authorize(shell, other, within=60)
        assert machine.ssh(other).run("sync; echo in", within=60).text == "in"
