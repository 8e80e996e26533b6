"""The examples of ``docs/testing-boot.md``, run as they stand there, as their reader would run them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from running import Workplace

from examples import CHECKOUT, TESTING_BOOT, examples, is_test, name_of

IMAGE = CHECKOUT / "examples" / "minimal-systemd-boot.toml"
SECONDS = 900


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A folder in which the image is built that the document tells to build."""
    one = Workplace(folder=tmp_path_factory.mktemp("reader"))
    built = one.run("build", IMAGE, "-o", "out/minimal")
    assert built.status == 0, built.stderr
    yield one
    shutil.rmtree(one.folder)


@pytest.mark.parametrize("example", examples(TESTING_BOOT), ids=name_of)
def test_it_works(place: Workplace, example: str) -> None:
    """Scripts end well; what is for pytest passes, and is not skipped or left out."""
    file = place.folder / f"{name_of(example)}.py"
    file.write_text(example)
    pytest_of_its_own = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--vmharness-image", "out/minimal"]
    argv = [*pytest_of_its_own, f"--basetemp={place.folder / 'tmp'}"] if is_test(example) else [sys.executable]
    done = subprocess.run(
        [*argv, file.name],
        cwd=place.folder,
        env=place.environment_of_runs(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout or not is_test(example), done.stdout
