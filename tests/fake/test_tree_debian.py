"""The Debian source, with the real mmdebstrap and the host's own apt configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmharness.errors import HostError
from vmharness.host import index
from vmharness.model.sources import DebianSource
from vmharness.tree import debian
from vmharness.tree.debian import stage_debian


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_tree_of_either_suite_is_made_once(suite: str) -> None:
    """Packages of the suite arrive with root's ownership; nothing of the build host is in it; again, it is cached."""
    source = DebianSource(suite=suite, variant="extract", include=("busybox-static",))
    lines: list[str] = []
    tree = stage_debian(source, origin="image.toml", say=lines.append)
    assert any("success" in line or "done" in line for line in lines), lines
    assert (tree.directory / "usr/share/doc/busybox-static").is_dir()
    assert f"Suites: {suite}" in "".join(
        path.read_text() for path in (tree.directory / "etc/apt/sources.list.d").iterdir()
    )
    for name in ("etc/resolv.conf", "etc/hostname", "etc/apt/apt.conf.d/98vmharness-host"):
        assert not (tree.directory / name).exists()
    assert tree.index is not None
    with index.read(tree.index) as entries:
        found = entries.get(b"", b"usr")
        assert found is not None
        assert (found.uid, found.gid) == (0, 0)

    lines.clear()
    assert stage_debian(source, origin="image.toml", say=lines.append) == tree
    assert lines == []


def test_a_package_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Mmdebstrap's own words, a hint, and no tree left in the cache."""
    source = DebianSource(suite="bookworm", variant="extract", include=("no-such-package-anywhere",))
    with pytest.raises(HostError) as caught:
        stage_debian(source, origin="image.toml")
    assert "no-such-package-anywhere" in str(caught.value)
    assert "include" in str(caught.value.hint)
    trees = (tmp_path / "cache" / "tree").rglob("*")
    assert [path for path in trees if path.is_file() and path.suffix != ".lock"] == []


def test_a_host_without_debian_sources_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror is guessed."""
    monkeypatch.setattr(debian, "_APT", tmp_path)
    with pytest.raises(HostError, match=r"(?s)has no source of a Debian archive.*hint: add your Debian mirror"):
        stage_debian(DebianSource(suite="bookworm"), origin="image.toml")
