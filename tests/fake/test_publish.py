"""Outputs appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmharness.errors import HostError, SpecError
from vmharness.host import publish
from vmharness.host.publish import published, require_publishable


def make(output: Path, text: str) -> None:
    with published(output) as folder:
        (folder / "manifest.json").write_text(text)
        (folder / "disk.raw").write_text(text)


def test_a_new_output(tmp_path: Path) -> None:
    """The folder appears with everything in it, readable by others; folders above it are made."""
    output = tmp_path / "out" / "a, b"
    make(output, "one")
    assert {file.name for file in output.iterdir()} == {"manifest.json", "disk.raw"}
    assert output.stat().st_mode & 0o777 == 0o755
    assert list(output.parent.iterdir()) == [output]


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    """While it is written the output is not there, and an earlier one is complete."""
    output = tmp_path / "out"
    with published(output) as folder:
        (folder / "manifest.json").write_text("one")
        assert not output.exists()
    with published(output) as folder:
        (folder / "manifest.json").write_text("two")
        assert (output / "manifest.json").read_text() == "one"
    assert (output / "manifest.json").read_text() == "two"


@pytest.mark.parametrize("exchange", [True, False])
def test_an_earlier_output_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    """Files of the earlier output that the new one does not have are gone, also where folders cannot be exchanged."""
    if not exchange:
        monkeypatch.setattr(publish, "_RENAME_EXCHANGE", 1 << 20)  # flags that no kernel knows
    output = tmp_path / "out"
    make(output, "one")
    (output / "old").touch()
    make(output, "two")
    assert {file.name for file in output.iterdir()} == {"manifest.json", "disk.raw"}
    assert (output / "disk.raw").read_text() == "two"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException], earlier: bool) -> None:
    """When the block fails or is interrupted, nothing of it is left and an earlier output is as it was."""
    output = tmp_path / "out"
    if earlier:
        make(output, "one")

    def fail() -> None:
        with published(output) as folder:
            (folder / "manifest.json").write_text("two")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == ([output] if earlier else [])
    assert not earlier or (output / "manifest.json").read_text() == "one"


def test_without_a_manifest_nothing_is_published(tmp_path: Path) -> None:
    """A caller who writes no manifest has thought better of it."""
    with published(tmp_path / "out") as folder:
        (folder / "disk.raw").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_folder_stays(tmp_path: Path) -> None:
    """Where the output is a link to a folder, that folder is replaced and the link stays."""
    real, link = tmp_path / "real", tmp_path / "link"
    make(real, "one")
    link.symlink_to(real)
    require_publishable(link)
    make(link, "two")
    assert link.is_symlink()
    assert (real / "manifest.json").read_text() == "two"
    assert sorted(tmp_path.iterdir()) == [link, real]


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_what_is_not_ours_is_refused(tmp_path: Path, kind: str) -> None:
    """A file, a folder with something else in it, or a link to nowhere is never replaced."""
    output = tmp_path / "out"
    if kind == "file":
        output.touch()
    elif kind == "folder":
        output.mkdir()
        (output / "thesis.txt").touch()
    else:
        output.symlink_to("nowhere")
    with pytest.raises(SpecError, match="is not the output of a build"):
        require_publishable(output)


def test_what_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """A folder that somebody filled while the build ran is left alone."""
    output = tmp_path / "out"

    def meanwhile() -> None:
        with published(output) as folder:
            (folder / "manifest.json").touch()
            output.mkdir()
            (output / "thesis.txt").write_text("mine")

    with pytest.raises(SpecError, match="is not the output of a build"):
        meanwhile()
    assert (output / "thesis.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [output]


def test_what_may_be_replaced(tmp_path: Path) -> None:
    """A place where nothing is, an empty folder and an earlier output are fine."""
    require_publishable(tmp_path / "new")
    require_publishable(tmp_path)
    make(tmp_path / "out", "one")
    require_publishable(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", "two")
    assert (tmp_path / "empty" / "manifest.json").is_file()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be made is the host's error, and is named."""
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"cannot write to .*file"):
        make(tmp_path / "file" / "out", "one")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
