"""Text on real screenshots, with the real tesseract."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from vmharness.errors import HostError
from vmharness.model.outcome import Ended, PoweredOff, Stalled
from vmharness.vm.ocr import read_text, wait_for_picture

MENU = Path(__file__).resolve().parents[1] / "unit" / "recordings" / "ovmf-systemd-boot-menu.png"


def test_a_menu_is_read() -> None:
    """The entries are lines, the highlighted one among them."""
    assert read_text(MENU).splitlines() == ["minimal", "Second", "Third one", "Reboot Into Firmware Interface"]


def test_a_text_that_comes_later() -> None:
    """Pictures are taken until the text is on one; case does not matter."""
    pictures = [MENU.with_name("empty-screen.png"), MENU]
    found = wait_for_picture(lambda: pictures.pop(0), r"^third ONE$", within=60, ending=lambda: None)
    assert isinstance(found, re.Match)
    assert found[0] == "Third one"
    assert pictures == []


def test_a_text_that_never_comes() -> None:
    """The deadline passes: what was waited for, and what was read instead."""
    outcome = wait_for_picture(lambda: MENU, "login:", within=0.1, ending=lambda: None)
    assert isinstance(outcome, Stalled)
    assert outcome.waiting_for == "'login:' on the picture"
    assert "Third one" in outcome.last_words


def test_the_machines_end_ends_the_wait() -> None:
    """It is told as soon as it is known, before another picture is asked for."""
    ended: list[Ended] = []
    threading.Timer(0.2, ended.append, [PoweredOff(last_words="")]).start()
    started = time.monotonic()
    outcome = wait_for_picture(lambda: MENU, "login:", within=120, ending=lambda: ended[0] if ended else None)
    assert outcome == PoweredOff(last_words="")
    assert time.monotonic() - started < 60


def test_without_tesseract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="'tesseract' is not installed") as caught:
        read_text(MENU)
    assert caught.value.hint == "install tesseract-ocr"


def test_what_is_no_picture(tmp_path: Path) -> None:
    """The error says what could not be read."""
    (tmp_path / "screen.png").write_bytes(b"\x89PNG\r\n\x1a\ntruncated")
    with pytest.raises(HostError, match=r"reading the text on screen.png: tesseract ended with status 1"):
        read_text(tmp_path / "screen.png")
