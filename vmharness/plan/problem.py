"""A single value of a definition that is not allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Problem(ValueError):
    """A value that is not allowed: the sentence, and what is allowed. Whoever knows the key makes an error of it."""

    def __init__(self, what: str, allowed: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.allowed = allowed


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that names what was probably meant; empty if nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
