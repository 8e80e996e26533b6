"""The only door to other programs.

Every program runs with an argument list (never a shell string), in the C locale, without standard input, and dies with
this process. Its failure is a :class:`~vmharness.errors.HostError` that names the program, its status and its last
lines; a program that is not there names the package that brings it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import frozen

from vmharness.errors import HostError
from vmharness.host.starting import start

_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "tune2fs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "fsck.vfat": "dosfstools",
    "mdir": "mtools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "sgdisk": "gdisk",
    "sfdisk": "fdisk",
    "mmdebstrap": "mmdebstrap",
    "gzip": "gzip",
    "bzip2": "bzip2",
    "zstd": "zstd",
    "xz": "xz-utils",
    "lz4": "lz4",
    "busybox": "busybox-static",
    "virt-fw-vars": "the Python package virt-firmware",
    "sbsign": "sbsigntool",
    "sbverify": "sbsigntool",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "newuidmap": "uidmap",
    "nix-store": "nix-bin",
    "mkswap": "util-linux",
    "swtpm": "swtpm",
    "tesseract": "tesseract-ocr",
}


@frozen(kw_only=True)
class Completed:
    """What a program that ended came to: exit status, and what it wrote, as bytes."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program: ours, in the C locale, with the administrator's folders on ``PATH``."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin"):
        if folder not in path.split(":"):
            path += f":{folder}"
    return {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "", "TZ": "UTC", "PATH": path, **(extra or {})}


def find(program: str) -> Path | None:
    """Where ``program`` is, or None. Programs of our own Python environment come first."""
    # Not resolved: the interpreter of a virtual environment is a link to the one outside.
    beside_python = Path(sys.executable).absolute().parent / program
    if beside_python.is_file():
        return beside_python
    found = shutil.which(program, path=environment()["PATH"])
    return Path(found) if found else None


def require(program: str) -> Path:
    """Where ``program`` is.

    :raises HostError: naming the package to install, if it is not there.
    """
    found = find(program)
    if found is None:
        raise HostError(f"the program '{program}' is not installed", hint=f"install {package_of(program)}")
    return found


def package_of(program: str) -> str:
    """The Debian package that brings ``program``."""
    return _PACKAGES.get(program, program)


def run(  # noqa: PLR0913 -- what a program can be given
    argv: Sequence[str | Path],
    *,
    doing: str,
    ok: Sequence[int] = (0,),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | IO[bytes] | None = None,
    timeout: float | None = None,
    log: Path | None = None,
) -> Completed:
    """Run a program to its end.

    :param argv: program name and arguments.
    :param doing: what this is for, as in "making the root filesystem"; begins the error's sentence.
    :param ok: exit statuses that are not failures.
    :param stdin: bytes or an open file to feed; nothing otherwise.
    :param timeout: seconds after which the program is killed.
    :param log: file to append standard error to, while it runs; the error then points to it.
    :raises HostError: the program is missing, failed, or took too long.
    """
    program = require(str(argv[0])) if "/" not in str(argv[0]) else Path(argv[0])
    data = stdin if isinstance(stdin, bytes) else None
    try:
        child = start(
            [str(program), *map(str, argv[1:])],
            stdin=(stdin or subprocess.DEVNULL) if not isinstance(stdin, bytes) else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            cwd=cwd,
        )
    except OSError as error:
        raise HostError(f"{doing}: cannot run {argv[0]}: {error.strerror}") from error
    with child:
        try:
            stdout, stderr = child.communicate(data, timeout)
        except BaseException as error:
            child.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise HostError(f"{doing}: {argv[0]} did not end within {timeout:.0f} s") from error
            raise
    if log is not None:
        with log.open("ab") as file:
            file.write(stderr)
    if child.returncode not in ok:
        raise _failure(doing, str(argv[0]), child.returncode, stderr or stdout, log)
    return Completed(status=child.returncode, stdout=stdout, stderr=stderr)


def run_within(argv: Sequence[str | Path], *, seconds: float, cwd: Path | None = None) -> Completed | None:
    """Run a program that may hang: None when it did not end within ``seconds``.

    It is then asked to end (SIGTERM), and killed a second later. Any exit status is a result, not an error.

    :raises HostError: the program is missing or cannot be run.
    """
    program = require(str(argv[0])) if "/" not in str(argv[0]) else Path(argv[0])
    try:
        child = start(
            [str(program), *map(str, argv[1:])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=cwd,
        )
    except OSError as error:
        raise HostError(f"cannot run {argv[0]}: {error.strerror}") from error
    with child:
        try:
            stdout, stderr = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.terminate()
            try:
                child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                child.kill()
            return None
        except BaseException:
            child.kill()
            raise
    return Completed(status=child.returncode, stdout=stdout, stderr=stderr)


@contextmanager
def pipe_from(
    argv: Sequence[str | Path],
    *,
    doing: str,
    stdin: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> Iterator[IO[bytes]]:
    """Run a program and read its standard output as a stream (a decompressor, say).

    :param say: takes each line of the program's standard error while it runs, in a thread of its own.
    :raises HostError: the program is missing, or it failed; when the reader stops early the program is ended silently.
    """
    program = require(str(argv[0]))
    child = start(
        [str(program), *map(str, argv[1:])],
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        tail: deque[bytes] = deque(maxlen=40)
        listener = threading.Thread(target=_listen, args=(child.stderr, tail, say), daemon=True)
        listener.start()
        try:
            yield child.stdout
        except BaseException:
            _end(child)
            listener.join()  # what it reads is closed next
            raise
        at_end = not child.stdout.read(1)
        if not at_end:
            _end(child)
        child.stdout.close()
        listener.join()
        if child.wait() != 0 and at_end:
            raise _failure(doing, str(argv[0]), child.returncode, b"".join(tail), None)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program: kindly, so that it can clean up behind itself, and by force when it does not listen."""
    child.terminate()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()


def _listen(stderr: IO[bytes], tail: deque[bytes], say: Callable[[str], None]) -> None:
    """Hand over each line of ``stderr`` to its end and remember the last ones; a carriage return ends a line too."""
    for line in stderr:
        tail.append(line)
        for part in line.decode("utf-8", "replace").replace("\r", "\n").splitlines():
            if part.strip():
                say(part)


def _failure(doing: str, program: str, status: int, output: bytes, log: Path | None) -> HostError:
    ending = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    tail = "\n    ".join(output.decode("utf-8", "replace").strip().splitlines()[-8:])
    said = f"\n    {tail}" if tail else ""
    hint = "free some space, or point TMPDIR and XDG_CACHE_HOME to a larger disk" if "No space left" in tail else None
    return HostError(f"{doing}: {program} {ending}{said}", evidence=log, hint=hint)
