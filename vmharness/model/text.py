"""Untrusted text of a guest as harmless text: decoded, without control sequences, in pieces as they arrive."""

from __future__ import annotations

import codecs
import re

# One pass from left to right, so that what is left of a removed sequence never joins into a new one. As in terminals
# (ECMA-48; the DEC state machine), a sequence is swallowed as far as it goes and ends at the first character that
# cannot be part of it. A control string ends at the line's end too: a lone introducer in binary output must not swallow
# what follows.
_STRING = r"\x1b[\]PX^_][^\x07\x1b\n]*\x07?"
_CSI = r"\x1b\[[ -?]*[@-~]?"
_ESCAPE = r"\x1b[ -/]*[0-~]?"
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
_REMOVED = re.compile(f"{_STRING}|{_CSI}|{_ESCAPE}|{_CONTROL}|(?P<returns>\\r+\\n?)")
# What may go on in the next piece. The content of a sequence is of no interest: its beginning is all that is kept.
_UNFINISHED = re.compile(
    r"(?P<string>\x1b[\]PX^_])[^\x07\x1b\n]*|(?P<csi>\x1b\[)[ -?]*|(?P<escape>\x1b[ -/]?)[ -/]*|(?P<returns>\r)\r*"
)


class Cleaner:
    """Turns a console's bytes into text without control characters; keeps what is not complete for the next piece.

    Cutting the bytes into other pieces gives the same text. Of the control characters only newline and tab remain.

    :param lone_return: what a carriage return becomes that no newline follows.
    """

    def __init__(self, *, lone_return: str = "\n") -> None:
        self._lone_return = lone_return
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """The harmless text of ``data``; ``final`` says that no more will come."""
        text = self._rest + self._decoder.decode(data, final)
        self._rest = ""
        pieces = []
        at = 0
        for removed in _REMOVED.finditer(text):
            pieces.append(text[at : removed.start()])
            at = removed.end()
            unfinished = _UNFINISHED.fullmatch(removed[0]) if at == len(text) and not final else None
            if unfinished is not None and unfinished.lastgroup is not None:
                self._rest = unfinished[unfinished.lastgroup]
            elif removed["returns"] is not None:
                pieces.append("\n" if removed[0].endswith("\n") else self._lone_return)
        pieces.append(text[at:])
        return "".join(pieces)


def harmless(text: str) -> str:
    """One line of untrusted text without control characters, fit for a person's terminal."""
    return _REMOVED.sub("", text).replace("\n", " ")


def printable(text: str) -> str:
    """Untrusted text with control and other unprintable characters escaped, where they are of interest."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
