"""Text on a screenshot, read by tesseract, for what a guest shows on its graphics card only.

It takes one letter for a similar one now and then, and a firmware's font makes ``m`` and ``n``, ``w`` and ``u`` look
alike. So patterns should be short and forgiving; where the serial console shows the same, its screen is exact.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from vmharness.host import proc
from vmharness.model.outcome import Ended, Stalled

_SECONDS = 60.0
_PAUSE_SECONDS = 0.5

# "Sparse text": of tesseract's page segmentation modes the one that reads highlighted lines best, at the font's own
# size; enlarged pictures lost them.
_MODE = "11"


def read_text(png: Path) -> str:
    """The text on a picture, line by line; columns next to each other may come one after the other.

    :param png: the picture.
    :raises HostError: tesseract is not installed, or cannot read it.
    """
    read = proc.run(
        ["tesseract", png, "-", "--psm", _MODE],
        doing=f"reading the text on {png.name}",
        env={"OMP_THREAD_LIMIT": "1"},  # its threads get in each other's way
        timeout=_SECONDS,
    )
    return "\n".join(line.rstrip() for line in read.text.splitlines() if line.strip())


def wait_for_picture(
    take: Callable[[], Path], pattern: re.Pattern[str] | str, *, within: float, ending: Callable[[], Ended | None]
) -> re.Match[str] | Stalled | Ended:
    """Take pictures until ``pattern`` is read on one, and give its match, or what came instead.

    Nothing tells when the screen changes, so it is looked at again and again, with a pause between.

    :param take: takes a picture and says where it is.
    :param pattern: a string is a regular expression without regard to upper and lower case, in which ``^`` and ``$``
        are the ends of lines.
    :param within: seconds; a picture is taken at least once.
    :param ending: how the machine ended, or None while it lives.
    :raises HostError: tesseract is not installed, or cannot read a picture.
    """
    expression = re.compile(pattern, re.MULTILINE | re.IGNORECASE) if isinstance(pattern, str) else pattern
    started = time.monotonic()
    while True:
        ended = ending()
        if ended is not None:
            return ended
        text = read_text(take())
        found = expression.search(text)
        if found is not None:
            return found
        waited = time.monotonic() - started
        if waited >= within:
            return Stalled(waiting_for=f"{expression.pattern!r} on the picture", seconds=waited, last_words=text)
        time.sleep(_PAUSE_SECONDS)
