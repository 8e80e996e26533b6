"""Commands and files in a booted system: the same over a serial login and over SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serial_guest import SerialGuest
from ssh_server import FakeMachine, SshServer

from vmharness.errors import ApiMisuse, CommandFailed
from vmharness.vm.inside import Inside
from vmharness.vm.login import login
from vmharness.vm.ssh import Ssh
from vmharness.vm.sshkeys import KnownHost, SshKey

EVERY_BYTE = bytes(range(256))


@pytest.fixture(scope="module", params=["serial", "ssh"])
def ways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inside, Path]]:
    """A session of either kind, and its user's home directory."""
    folder = tmp_path_factory.mktemp("guest")
    if request.param == "serial":
        guest = SerialGuest(folder)
        yield login(guest.console, "root", within=20), guest.home
        guest.close()
    else:
        server = SshServer(folder, greeting=b"a profile that prints something\n")
        key = SshKey.generate()
        server.admit(key.public)
        with Ssh.connect(server.port, key, within=20, machine=FakeMachine(), host=KnownHost()) as ssh:
            yield ssh, folder
        server.close()


@pytest.fixture
def inside(ways: tuple[Inside, Path]) -> Inside:
    """The session."""
    return ways[0]


@pytest.fixture
def home(ways: tuple[Inside, Path]) -> Path:
    """Its user's home directory."""
    return ways[1]


class TestCommands:
    """What commands come to."""

    def test_outputs_and_status(self, inside: Inside) -> None:
        """Status, standard output and standard error come apart, byte by byte, with the time it took."""
        result = inside.run(
            "printf '\\000\\377\\r\\n\\033[2J~'; printf err >&2; sleep 0.1; exit 7", within=10, check=False
        )
        assert (result.status, result.stdout, result.stderr) == (7, b"\0\xff\r\n\x1b[2J~", b"err")
        assert 0.1 <= result.seconds < 5

    def test_text(self, inside: Inside) -> None:
        """A result's text is its output without the last newline, whatever its bytes are."""
        assert inside.run("printf 'a\\nb\\377\\n'", within=10).text == "a\nb\ufffd"

    def test_failure(self, inside: Inside) -> None:
        """A failing command is an error with its status and the end of what it said, harmless to a terminal."""
        with pytest.raises(CommandFailed, match="status 3") as caught:
            inside.run("seq 50 >&2;\nprintf '\\033[31mred' >&2\nexit 3", within=10)
        assert caught.value.what == "the command 'seq 50 >&2; ...' ended with status 3"
        assert caught.value.status == 3
        assert caught.value.last_words.endswith("49\n50\nred")
        with pytest.raises(CommandFailed) as caught:
            inside.run("kill -KILL $$", within=10)
        assert caught.value.status == 128 + 9

    def test_megabyte(self, inside: Inside) -> None:
        """Much output on both streams comes whole and in order."""
        result = inside.run("seq 150000; seq 20000 >&2", within=60)
        assert result.stdout == b"".join(b"%d\n" % number for number in range(1, 150_001))
        assert result.stderr == b"".join(b"%d\n" % number for number in range(1, 20_001))

    def test_any_command_text(self, inside: Inside) -> None:
        """Quotes, newlines, signs that other shells mind, other alphabets and great length reach the shell unharmed."""
        text = "'\"\\$!`#;&|<>*?~\u00e4\u2603\n end"
        script = f"x={'x' * 50_000}\ncat <<'EOF'\n{text}\nEOF\necho ${{#x}}"
        assert inside.run(script, within=20).text == f"{text}\n50000"

    def test_command_that_no_system_takes(self, inside: Inside) -> None:
        """A zero byte, or more than Linux takes for an argument, is the caller's mistake."""
        for command in ("echo \0", "x" * 100_001):
            with pytest.raises(ApiMisuse, match="put a script"):
                inside.run(command, within=10)

    def test_no_input(self, inside: Inside) -> None:
        """A command that reads gets the end of its input, not our typing."""
        assert inside.run("cat; read line || echo nothing", within=10).text == "nothing"

    def test_place_and_state(self, inside: Inside, home: Path) -> None:
        """Each command begins in the home directory; variables and folders of an earlier one are not its."""
        inside.run("cd /; X=1", within=10)
        assert inside.run("pwd; echo ${X-none}", within=10).text == f"{home}\nnone"

    def test_background(self, inside: Inside) -> None:
        """What a command leaves running is not waited for, and what that prints is nobody else's output."""
        assert inside.run("(sleep 0.4; echo late) & echo now", within=10).seconds < 0.4
        assert inside.run("sleep 0.8; echo mine", within=10).stdout == b"mine\n"


class TestFiles:
    """Files in both directions."""

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        data=st.binary(max_size=5000), name=st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1)
    )
    def test_any_bytes(self, inside: Inside, tmp_path: Path, data: bytes, name: str) -> None:
        """What is put is got back, and is what the guest has: any bytes, under any name."""
        path = f"{tmp_path}/{'x' if name in {'.', '..'} else name[:60]}"
        inside.put(data, path)
        assert inside.get(path) == data == Path(path).read_bytes()

    @pytest.mark.parametrize("size", [0, 36_863, 36_864, 36_865, 49_151, 49_152, 49_153, 700_000])
    def test_sizes(self, inside: Inside, tmp_path: Path, size: int) -> None:
        """Nothing is lost where pieces end."""
        data = (EVERY_BYTE * (size // 256 + 1))[:size]
        source = tmp_path / "source"
        source.write_bytes(data)
        inside.put(source, f"{tmp_path}/target")
        assert (tmp_path / "target").read_bytes() == data
        assert inside.get(f"{tmp_path}/target") == data

    def test_mode(self, inside: Inside, tmp_path: Path) -> None:
        """A mode is set; without one, that of a file that is there stays."""
        target = tmp_path / "a file"
        inside.put(b"1", str(target), mode=0o750)
        assert target.stat().st_mode & 0o7777 == 0o750
        inside.put(b"2", str(target))
        assert (target.read_bytes(), target.stat().st_mode & 0o7777) == (b"2", 0o750)

    def test_path_that_looks_like_an_option(self, inside: Inside, home: Path) -> None:
        """A relative path is one in the home directory, whatever it begins with."""
        inside.put(b"data", "-n", mode=0o600)
        assert inside.get("-n") == b"data" == (home / "-n").read_bytes()

    def test_file_without_a_size(self, inside: Inside) -> None:
        """Files that the kernel makes up are read, too."""
        assert inside.get("/proc/version").startswith(b"Linux version ")

    def test_trouble(self, inside: Inside, tmp_path: Path) -> None:
        """A path that is not there is named, with what the guest says of it."""
        with pytest.raises(CommandFailed, match=r"/none cannot be read in the guest(.|\n)*No such file"):
            inside.get(f"{tmp_path}/none")
        with pytest.raises(CommandFailed, match=r"/none/x cannot be written in the guest"):
            inside.put(b"x", f"{tmp_path}/none/x")
        with pytest.raises(FileNotFoundError):
            inside.put(tmp_path / "none", f"{tmp_path}/x")
