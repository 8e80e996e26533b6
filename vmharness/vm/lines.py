"""A console's text as lines: the last ones are kept, and each is looked at for the guest's death."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Sequence

from attrs import frozen

_KEPT = 40
_LONGEST = 4096
_OVERLAP = 256  # longer than any text that a death pattern begins with


@frozen(kw_only=True)
class DeathPattern:
    """A text that only a guest prints whose work is over; it is looked for in each line by itself."""

    name: str
    pattern: re.Pattern[str]


def _death(name: str, pattern: str) -> DeathPattern:
    return DeathPattern(name=name, pattern=re.compile(pattern))


DEATHS = (
    _death("kernel panic", r"Kernel panic - not syncing.*"),
    _death("kernel cannot mount the root filesystem", r"VFS: Unable to mount root fs.*|Unable to mount root.*"),
    _death("kernel fault", r"BUG: unable to handle.*|general protection fault.*"),
    _death("firmware assertion", r"^ASSERT .*|^ASSERT_EFI_ERROR.*"),
    _death("firmware exception", r"^!!!! \S+ Exception Type.*"),
    _death("initramfs gave up", r"ALERT!.*does not exist\.\s+Dropping to a shell.*|\(initramfs\) $"),
    _death("GRUB rescue", r"^grub rescue> ?|^grub> ?$"),
    _death("no bootable device", r"^(?:BdsDxe: No bootable option or device was found.*|No bootable device.*)"),
    _death("UEFI shell", r"^Shell> ?$"),
    _death("emergency shell", r"^You are in emergency mode.*"),
)


class Lines:
    """Lines of harmless text, cut from pieces as they arrive. One thread feeds it; others may ask for the last words.

    An unfinished line is judged only when its writer says that nothing more has come for a moment: it may be a prompt,
    or words cut off by death, but as a rule it is the beginning of a line.

    :param on_line: gets each complete line, the parts of one that is longer than 4096 characters, and at the end the
        unfinished one.
    :param on_death: gets the pattern and the text that matched it.

    ``aside`` may be set to a function that says of a line whether it is nothing to hand over or to keep: it is only
    judged then.
    """

    def __init__(
        self,
        *,
        deaths: Sequence[DeathPattern],
        on_line: Callable[[str], None] | None,
        on_death: Callable[[DeathPattern, str], None],
    ) -> None:
        self.unjudged = False
        self.aside: Callable[[str], bool] = _nothing
        self._deaths = tuple(deaths)
        self._on_line = on_line
        self._on_death = on_death
        self._lock = threading.Lock()
        self._kept: deque[str] = deque(maxlen=_KEPT)
        self._partial = ""
        self._forgotten = False

    @property
    def unfinished(self) -> str:
        """The line that the guest has begun and not ended, such as a prompt."""
        with self._lock:
            return "" if self._forgotten else self._partial

    @property
    def last_words(self) -> str:
        """The last lines, with an unfinished one at the end."""
        with self._lock:
            return "" if self._forgotten else "\n".join([*self._kept, self._partial]).strip()

    def forget(self) -> None:
        """What was printed before is of an earlier life; may be called from any thread."""
        with self._lock:
            self._forgotten = True

    def feed(self, text: str) -> None:
        """Take a piece of text."""
        if self._forgotten:
            self._begin_anew()
        *lines, partial = (self._partial + text).split("\n")
        for line in lines:
            rest = self._shortened(line)
            self._hand_over(rest)
            self._judge(rest)
        partial = self._shortened(partial)
        with self._lock:
            self._partial = partial
        self.unjudged = bool(partial) and bool(self._deaths)

    def judge_unfinished(self) -> None:
        """Look at the unfinished line: nothing more has come for a moment."""
        self._judge(self._partial)
        self.unjudged = False

    def finish(self) -> None:
        """Take the unfinished line for a whole one: nothing more will come."""
        self.judge_unfinished()
        if self._partial:
            self._hand_over(self._partial)

    def _begin_anew(self) -> None:
        if self._partial:
            self._hand_over(self._partial)
        with self._lock:
            self._kept.clear()
            self._forgotten = False

    def _shortened(self, line: str) -> str:
        """Hand over the beginning of a line that is too long; gives the rest, in which a death pattern may begin."""
        while len(line) > _LONGEST:
            self._judge(line[:_LONGEST])
            self._hand_over(line[: _LONGEST - _OVERLAP])
            line = line[_LONGEST - _OVERLAP :]
        return line

    def _hand_over(self, line: str) -> None:
        spoken = not self.aside(line)
        with self._lock:
            if spoken:
                self._kept.append(line)
            self._partial = ""
        if spoken and self._on_line is not None:
            self._on_line(line)

    def _judge(self, line: str) -> None:
        for death in self._deaths:
            match = death.pattern.search(line)
            if match is not None:
                self._on_death(death, match[0])
                return


def _nothing(_line: str) -> bool:
    return False
