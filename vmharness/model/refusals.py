"""Why a machine does not boot, and the console texts that show it."""

from __future__ import annotations

import re

REFUSALS = {
    "access-denied": re.compile(
        r"BdsDxe: failed to load [^\n]*: Access Denied|Security [Vv]iolation|bad shim signature"
    ),
    "not-found": re.compile(r"BdsDxe: failed to load [^\n]*: Not Found"),
    "load-error": re.compile(
        r"BdsDxe: failed to (?:load|start) [^\n]*: (?:Load Error|Device Error|Unsupported|Aborted)"
    ),
    "no-device": re.compile(r"BdsDxe: No bootable option or device was found|No bootable device"),
    "firmware-shell": re.compile(r"UEFI Interactive Shell|^Shell> ?$", re.MULTILINE),
    "grub-rescue": re.compile(r"grub rescue>"),
    "emergency-shell": re.compile(r"You are in emergency mode"),
    "initramfs-shell": re.compile(r"ALERT!.*does not exist|\(initramfs\)"),
    "panic": re.compile(r"Kernel panic - not syncing"),
}
"""Evidence by name."""


def find(reason: str, text: str) -> re.Match[str] | None:
    """The place in ``text`` that shows a reason: a name of :data:`REFUSALS`, or a regular expression."""
    pattern = REFUSALS.get(reason) or re.compile(reason, re.MULTILINE)
    return pattern.search(text)
