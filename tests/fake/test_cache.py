"""The cache: entries are whole, made once, kept while in use, and bounded."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmharness.errors import HostError, SpecError
from vmharness.host import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, with nothing in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "_in_use", {})
    return tmp_path / "vmharness"


def write(size: int):
    """Make an entry of that many bytes."""
    return lambda folder: (folder / "file").write_bytes(os.urandom(size))


def let_go() -> None:
    """Stop using all entries, as the end of the process does."""
    for lock in cache._in_use.values():
        os.close(lock)
    cache._in_use.clear()


def in_child(code: str) -> subprocess.Popen[str]:
    """Run Python code in a process of its own, until it prints a line."""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


USE = """
import time
from vmharness.host import cache
cache.entry({kind!r}, {key!r}, lambda folder: {make})
print("ready", flush=True)
time.sleep(60)
"""


def test_entry_is_made_once() -> None:
    """The second call for the same key gives the same folder without making it again."""
    made = []
    for _ in range(2):
        place = cache.entry("kind", "key", made.append)
    assert place.is_dir()
    assert len(made) == 1


def test_failed_making_leaves_nothing(own_cache: Path) -> None:
    """When the maker fails, its folder is gone, also one that denies writing, and the next call tries again."""

    def fail(folder: Path) -> None:
        (folder / "closed").mkdir()
        (folder / "closed" / "file").touch()
        (folder / "closed").chmod(0o500)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.entry("kind", "key", fail)
    assert [path.name for path in (own_cache / "kind").iterdir()] == ["key.lock"]
    assert cache.entry("kind", "key", write(1)).is_dir()


def _make_slowly(log: Path) -> None:
    def make(folder: Path) -> None:
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(0.2)
        (folder / "whole").touch()

    place = cache.entry("kind", "key", make)
    assert (place / "whole").exists()


def test_processes_make_an_entry_once(tmp_path: Path) -> None:
    """Of several processes that want the same entry at once, one makes it and all get it whole."""
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_make_slowly, args=(log,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "made\n"


def test_trim_removes_the_least_recently_used() -> None:
    """Beyond the limit, the entry goes that was used longest ago; a use counts, not only the making."""
    for key in ("a", "b", "c"):
        cache.entry("kind", key, write(100_000))
    for age, key in ((30, "a"), (20, "b"), (10, "c")):
        moment = time.time() - age
        os.utime(cache.root() / "kind" / f"{key}.lock", (moment, moment))
    cache.entry("kind", "a", write(1))
    let_go()
    cache.trim(250_000)
    assert [item.key for item in cache.entries()] == ["c", "a"]


def test_making_an_entry_keeps_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the environment holds without a call to trim."""
    monkeypatch.setenv("VMHARNESS_CACHE_LIMIT", "250K")
    for key in ("a", "b", "c", "d"):
        cache.entry("kind", key, write(100_000))
        let_go()
    assert sum(item.size for item in cache.entries()) <= 250 * 1024


def test_limit_must_be_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is no size is an error that names the variable."""
    monkeypatch.setenv("VMHARNESS_CACHE_LIMIT", "lots")
    with pytest.raises(SpecError, match="VMHARNESS_CACHE_LIMIT"):
        cache.limit()


def test_entry_in_use_stays() -> None:
    """What another process uses is not removed; once that process is gone it is."""
    child = in_child(USE.format(kind="kind", key="key", make='(folder / "f").write_bytes(bytes(9999))'))
    try:
        cache.trim(0)
        assert [item.key for item in cache.entries()] == ["key"]
    finally:
        child.kill()
        child.communicate()
    cache.trim(0)
    assert cache.entries() == []


def test_leftovers_of_killed_makers_go(own_cache: Path) -> None:
    """A maker killed half-way leaves no entry; its folder stays while it lives and goes with the next trim."""
    child = in_child(USE.format(kind="kind", key="key", make='(print("ready", flush=True), time.sleep(60))'))
    try:
        cache.trim(0)
        assert any(path.name.startswith(".key.") for path in (own_cache / "kind").iterdir())
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    cache.trim(cache.DEFAULT_LIMIT)
    assert [path.name for path in (own_cache / "kind").iterdir()] == ["key.lock"]
    assert cache.entry("kind", "key", write(1)).is_dir()


def test_unwritable_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be made is an error that names the variable to set."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(HostError, match="XDG_CACHE_HOME"):
        cache.entry("kind", "key", write(1))


def test_discarded_entry_is_made_again() -> None:
    """An entry that proved unusable is removed, and the next call makes it anew."""
    place = cache.entry("kind", "key", write(1))
    cache.discard(place)
    assert not place.exists()
    assert cache.entry("kind", "key", write(1)).is_dir()


def test_digest_is_read_again_after_a_change(tmp_path: Path) -> None:
    """A remembered digest is that of the file as it is now, also when size and modification time stay the same."""
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = cache.remembered_digest(file)
    times = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cache.remembered_digest(file) == cache.digest_of(file) != first
