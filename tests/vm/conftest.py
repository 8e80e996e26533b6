"""What the tests with real machines share: heavy results are made once for all of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "fake"))  # its readers of images serve here, too

import trees
from running import Workplace


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    """An empty workplace, whose images are removed after the test."""
    yield Workplace(folder=tmp_path)
    _clear(tmp_path)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """The workplace of images that several tests look at."""
    folder = tmp_path_factory.mktemp("shop")
    yield Workplace(folder=folder)
    _clear(folder)


@pytest.fixture(scope="session")
def minimal(shop: Workplace) -> Path:
    """The minimal image with systemd-boot, as published; no test changes it."""
    return shop.build(trees.MINIMAL + trees.SYSTEMD_BOOT, output="minimal")


def _clear(folder: Path) -> None:
    """Remove large files: pytest keeps the folders of its last three runs."""
    for entry in folder.iterdir():
        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()
