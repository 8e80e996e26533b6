"""What the firmware says about the entries that it tries to boot (edk2, ``UefiBootManagerLib``)."""

from __future__ import annotations

import re

from attrs import frozen

_LINE = re.compile(
    r'BdsDxe: (?P<what>starting|failed to load|failed to start) Boot(?P<number>[0-9A-F]{4}) "(?P<description>.*?)" '
    r"from (?P<path>.*?)(?:: (?P<reason>[A-Z][A-Za-z ]+))?\s*$"
)


@frozen(kw_only=True)
class BootAttempt:
    """The firmware has tried a boot entry.

    :param number: of ``Boot####``.
    :param description: the entry's.
    :param path: its device path, as the firmware prints it.
    :param failure: why it could not be loaded or started, such as ``Access Denied``; empty if it was started.
    """

    number: int
    description: str
    path: str
    failure: str = ""

    def __str__(self) -> str:
        entry = f'Boot{self.number:04X} "{self.description}"'
        return f"{entry} could not be booted: {self.failure}" if self.failure else f"{entry} was started"


def parse(line: str) -> BootAttempt | None:
    """The attempt that one line of the firmware's console tells of, or None."""
    found = _LINE.search(line)
    if found is None:
        return None
    failed = found["what"] != "starting"
    return BootAttempt(
        number=int(found["number"], 16),
        description=found["description"],
        path=found["path"],
        failure=(found["reason"] or "no reason given") if failed else "",
    )
