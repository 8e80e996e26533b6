"""The example of ``docs/reproducing-failures.md``, played as it stands there."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
import transcripts
from running import Workplace

from examples import CHECKOUT

DOCUMENT = CHECKOUT / "docs" / "reproducing-failures.md"
SECONDS = 900


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    """A folder with the document's definition."""
    (definition, *_) = transcripts.blocks(DOCUMENT, "toml")
    (tmp_path / "debian.toml").write_text(definition)
    yield Workplace(folder=tmp_path)
    shutil.rmtree(tmp_path)


def test_grub_repaired_by_hand(workplace: Workplace) -> None:
    """GRUB's installer lacks a module; a person puts it back, goes on, and the image that is published boots."""
    (built, repaired, *_) = transcripts.blocks(DOCUMENT, "console")
    environment = {
        **workplace.environment_of_runs(),
        "PATH": f"{Path(sys.executable).parent}:{workplace.environment_of_runs()['PATH']}",
        "TERM": "vt100",
        "PS1": "$ ",
        "ENV": "",
    }
    with pexpect.spawn(
        "/bin/sh",
        ["-i"],
        env=environment,
        cwd=workplace.folder,
        timeout=SECONDS,
        encoding="utf-8",
        dimensions=(50, 250),
    ) as terminal:
        # On a terminal the list of steps is drawn anew in place; the document shows it as a log has it.
        lines = built.replace("-o out/debian\n", "-o out/debian 2>&1 | cat\n") + repaired
        transcripts.play(lines.splitlines(), terminal)
        terminal.expect_exact("$ ")
