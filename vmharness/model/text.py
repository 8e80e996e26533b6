"""Untrusted text of a guest as harmless text: decoded, without control sequences, in pieces as they arrive."""

from __future__ import annotations

import codecs
import re

# ECMA-48: CSI sequences, OSC/DCS/PM/APC strings up to their terminator, other escapes of two or three bytes.
_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_](?:[^\x07\x1b]|\x1b(?!\\))*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ`-~\\]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07]*|[ -/]*)?\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
_LONGEST_SEQUENCE = 4096


class Cleaner:
    """Turns a console's bytes into text without control sequences; keeps what is not complete for the next piece."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """The harmless text of ``data``; line ends become newlines alone, a lone carriage return stays."""
        text = self._rest + self._decoder.decode(data, final)
        text = _SEQUENCE.sub("", text)
        unfinished = _UNFINISHED.search(text)
        self._rest = ""
        if unfinished is not None and not final and len(unfinished[0]) < _LONGEST_SEQUENCE:
            text, self._rest = text[: unfinished.start()], unfinished[0]
        elif text.endswith("\r") and not final:
            text, self._rest = text[:-1], "\r"
        return _CONTROL.sub("", text.replace("\r\n", "\n"))


def harmless(text: str) -> str:
    """One line of untrusted text without control characters, fit for a person's terminal."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text)).replace("\r", "").replace("\n", " ")
