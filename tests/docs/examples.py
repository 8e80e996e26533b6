"""The Python examples of a document."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TESTING_BOOT = CHECKOUT / "docs" / "testing-boot.md"


def examples(document: Path) -> list[str]:
    """The text of every Python block, in order."""
    return re.findall(r"^```python\n(.*?)^```$", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def is_test(example: str) -> bool:
    """Whether an example is one for pytest; others are scripts."""
    return re.search(r"^def test_", example, flags=re.MULTILINE) is not None


def name_of(example: str) -> str:
    """The name of its test, or of a script its first words."""
    found = re.search(r"^def (test_\w+)", example, flags=re.MULTILINE)
    return found[1] if found else "script"
