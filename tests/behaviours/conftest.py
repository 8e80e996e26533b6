"""What the tests of behaviours share with those of real machines: their helpers."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "vm"), str(TESTS / "fake")]
