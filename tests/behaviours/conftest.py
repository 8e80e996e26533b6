"""What the tests of behaviours share with those of real machines: their helpers; and one image for most of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "vm"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "fake"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "docs"))

import generations
import trees
from running import Workplace

from vmharness.testing import BootState


@pytest.fixture(scope="session")
def minimal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootState]:
    """What the minimal image with systemd-boot boots from, its disk raw; no test changes it."""
    folder = tmp_path_factory.mktemp("minimal")
    text = trees.MINIMAL.replace("[root]", 'format = "raw"\n\n[root]')
    yield BootState.of(Workplace(folder=folder).build(text + trees.SYSTEMD_BOOT))
    shutil.rmtree(folder)


@pytest.fixture
def system(minimal: BootState, tmp_path: Path) -> Iterator[generations.SystemMaker]:
    """Makes the state of a system with two generations, with :func:`generations.two_generations`' parameters."""

    def make(**how: str) -> tuple[BootState, generations.Esp]:
        state, own = generations.copied(minimal, tmp_path)
        generations.two_generations(own, **how)
        return state, own

    yield make
    (tmp_path / "disk.raw").unlink(missing_ok=True)
