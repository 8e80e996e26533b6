"""The single values of a declared partition, as definitions and repart's files write them."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from vmharness.model.declared import Minimize
from vmharness.model.partition_types import ALIASES, TYPES, type_named
from vmharness.plan.problem import Problem, nearest
from vmharness.plan.values import UUID_FORM

_PLAIN_UUID = re.compile(r"[0-9A-Fa-f]{32}")
_LARGEST_WEIGHT = 1_000_000
# UEFI 2.10, table 5.8: the three common bits, and the sixteen of each type; sfdisk sets no others
ALLOWED_FLAGS = 0b111 | 0xFFFF << 48


def partition_type(value: Any, _kind: Any = None) -> UUID:
    """A type by its name or GUID."""
    if isinstance(value, str) and UUID_FORM.fullmatch(value):
        return UUID(value)
    found = type_named(value) if isinstance(value, str) else None
    if found is None:
        close = nearest(str(value), [*TYPES, *ALIASES])
        raise Problem(f"{value!r} is no partition type{close}", "a GUID, esp, xbootldr, root, usr, home, srv, var, ...")
    return found


def minimize(value: Any, _kind: Any = None) -> Minimize:
    """``true`` is ``best``, ``false`` is ``off``."""
    if isinstance(value, bool):
        return Minimize.BEST if value else Minimize.OFF
    allowed = [member.value for member in Minimize]
    if value not in allowed:
        raise Problem(f"{value!r} is not known{nearest(str(value), allowed)}", " | ".join([*allowed, "true", "false"]))
    return Minimize(value)


def weight(value: Any, _kind: Any = None) -> int:
    """A share of the free room."""
    if type(value) is not int or not 0 <= value <= _LARGEST_WEIGHT:
        raise Problem(f"{value!r} is not a weight", f"a number from 0 to {_LARGEST_WEIGHT}")
    return value


def priority(value: Any, _kind: Any = None) -> int:
    """The order in which partitions are left out, the highest first."""
    if type(value) is not int or not -(1 << 31) <= value < 1 << 31:
        raise Problem(f"{value!r} is not a priority", "a number of 32 bits, 0 for what is never left out")
    return value


def flags(value: Any, _kind: Any = None) -> int:
    """The attribute bits."""
    if type(value) is not int or value < 0 or value & ~ALLOWED_FLAGS:
        raise Problem(f"{value!r} is not a set of flags", "a number such as 0x4, with the bits 0 to 2 and 48 to 63")
    return value


def plain_uuid(text: str) -> UUID:
    """A UUID as systemd takes it, with or without dashes."""
    if not UUID_FORM.fullmatch(text) and not _PLAIN_UUID.fullmatch(text):
        raise Problem(f"{text!r} is not a UUID", "32 hexadecimal digits in groups of 8-4-4-4-12")
    if UUID(text).int == 0:
        raise Problem("the UUID of zeros means none", "32 hexadecimal digits in groups of 8-4-4-4-12")
    return UUID(text)


HOOKS: dict[str, Any] = {
    "type": partition_type,
    "minimize": minimize,
    "weight": weight,
    "padding_weight": weight,
    "priority": priority,
    "flags": flags,
}
"""What reads each key of ``[[partition]]`` that no other table has."""
