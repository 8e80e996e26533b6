"""What all tests share."""

import os
import signal
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

# Programs of our own environment come first, as vmharness itself looks for them, also when it is not activated.
os.environ["PATH"] = f"{Path(sys.executable).absolute().parent}:{os.environ['PATH']}"

# A shell lets what it starts in the background ignore Ctrl-C; tests that press it are started so, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout that these tests belong to."""
    return TESTS.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything under ``tests/vm`` and ``tests/behaviours`` as booting a real QEMU."""
    for item in items:
        if {TESTS / "vm", TESTS / "behaviours"} & set(item.path.parents):
            item.add_marker("vm")
