"""What the tests of behaviours share with those of real machines: their helpers; and one image for most of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "vm"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "fake"))

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
