"""The milestones of a boot, in their order, and the console texts that show them."""

from __future__ import annotations

import re

from attrs import frozen


@frozen(kw_only=True)
class Milestone:
    """A point of a boot: its name, and a text that the guest prints only when it has come there."""

    name: str
    pattern: re.Pattern[str]


MILESTONES = (
    Milestone(name="firmware", pattern=re.compile(r"BdsDxe: (?:loading|starting|failed to) |SeaBIOS \(version")),
    Milestone(
        name="bootloader",
        # OVMF says when it hands over to what lies on a disk, in a line that is to be whole; loaders that wait show
        # their menu.
        pattern=re.compile(
            r'BdsDxe: starting Boot[0-9A-F]{4} "[^"\n]*" from HD\([^\n]*\n|Welcome to GRUB!|GNU GRUB|Boot in \d+ s'
        ),
    ),
    Milestone(name="kernel", pattern=re.compile(r"Linux version \d|EFI stub: |\[ +0\.\d{6}\] ")),
    Milestone(
        name="initramfs",
        pattern=re.compile(
            r"Run /init as init process|Loading, please wait\.\.\.|Begin: Loading essential drivers|"
            r"Running in (?:initrd|initial RAM disk)|dracut-cmdline"
        ),
    ),
    Milestone(
        name="init",
        pattern=re.compile(
            r"systemd\[1\]: |Welcome to (?!GRUB!)[^\n]+!|Run /\S+/init as init process|INIT: version |init started: |"
            r"minimal: up"
        ),
    ),
    Milestone(name="login", pattern=re.compile(r"\blogin: ")),
)
"""In the order in which a boot passes them: one that shows implies all before it, which some systems keep silent."""


_ALSO = {"loader": "bootloader"}


def by_name(name: str) -> Milestone | None:
    """The milestone of that name, or None; the bootloader is called ``loader``, too."""
    wanted = _ALSO.get(name, name)
    return next((milestone for milestone in MILESTONES if milestone.name == wanted), None)
