"""Single values of a definition: each from what TOML gives, or refused with what is allowed."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from vmharness.model.partitions import Subvolume
from vmharness.model.sizes import parse_size
from vmharness.plan.problem import Problem, nearest

_T = TypeVar("_T")
UUID_FORM = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])", re.ASCII)
_TIME_UNITS = {"s": 1, "m": 60, "h": 3600}
_LONGEST_TIME = 24 * 3600
_HEX32 = re.compile(r"[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}")


def exactly(value: Any, kind: type[_T]) -> _T:
    """A value of just that type: TOML has no other that would be meant."""
    if type(value) is not kind:
        names = {str: "a text in quotes", bool: "true or false"}
        raise Problem(f"{value!r} has the wrong type", names[kind])
    return value


def one_of(value: Any, kind: type[Enum]) -> Enum:
    """The member of an enumeration, by its value."""
    allowed = [str(member.value) for member in kind]
    if value not in allowed:
        raise Problem(f"{value!r} is not known{nearest(str(value), allowed)}", " | ".join(allowed))
    return kind(value)


def size(value: Any, _kind: Any) -> int:
    """A size in bytes."""
    allowed = "512M, 4GiB, or a number of bytes"
    if not isinstance(value, str | int):
        raise Problem(f"{value!r} is not a size", allowed)
    try:
        return parse_size(value)
    except ValueError as error:
        raise Problem(str(error), allowed) from error


def size_or_auto(value: Any, kind: Any) -> int | None:
    """A size in bytes, or None for ``auto``."""
    return None if value == "auto" else size(value, kind)


def mode(value: Any, _kind: Any) -> int:
    """Permission bits, from their octal digits."""
    text = value if isinstance(value, str) else ""
    if not text or any(digit not in "01234567" for digit in text) or int(text, 8) > 0o7777:
        raise Problem(f"{value!r} is not a file mode", 'octal digits in quotes, such as "0644"')
    return int(text, 8)


def texts(value: Any, _kind: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Problem(f"{value!r} is not a list of texts", '["one", "two"]')
    return tuple(value)


def subvolumes(value: Any, _kind: Any) -> tuple[Subvolume, ...]:
    """A table of names and mount points, in the order in which they are mounted."""
    if not isinstance(value, dict) or not all(isinstance(path, str) for path in value.values()):
        raise Problem(f"{value!r} is not a table of subvolumes", '{ "@" = "/", "@home" = "/home" }')
    return tuple(Subvolume(name=name, path=path) for name, path in sorted(value.items(), key=lambda item: item[1]))


def parameters(value: Any, _kind: Any) -> dict[str, str]:
    """A table of texts."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Problem(f"{value!r} is not a table of texts", '{ NAME = "value" }')
    return value


def seconds(value: Any, _kind: Any) -> float:
    """A time of more than nothing, in seconds: a number, or a text with a unit."""
    allowed = f'seconds, or "90s", "5m", "2h", up to {_LONGEST_TIME // 3600} hours'
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        value = float(match[1]) * _TIME_UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_TIME:
        raise Problem(f"{value!r} is not a time", allowed)
    return float(value)


def command(value: Any, _kind: Any) -> tuple[str, ...]:
    """A command of the host: an argument list, or a text for the shell, which gets its arguments as ``$1`` and on."""
    if isinstance(value, str) and value.strip():
        return ("/bin/sh", "-c", value, "after-build")
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise Problem(f"{value!r} is not a command", '"gzip --keep $1" or ["./finish", "--fast"]')
    return tuple(value)


def identity(value: Any, _kind: Any) -> str:
    """A user or group, by name or number, as text."""
    if (
        isinstance(value, bool)
        or not isinstance(value, str | int)
        or value == ""
        or (isinstance(value, int) and value < 0)
    ):
        raise Problem(f"{value!r} is not a user or group", "a name or a number")
    return str(value)


def guid(value: Any, _kind: Any) -> UUID:
    """A UUID in its one canonical form: tools disagree about what others mean, and "repair" them silently."""
    if not isinstance(value, str) or not UUID_FORM.fullmatch(value):
        raise Problem(f"{value!r} is not a UUID", "32 hexadecimal digits in groups of 8-4-4-4-12")
    if int(value.replace("-", ""), 16) == 0:
        raise Problem("the UUID of zeros means none", "32 hexadecimal digits in groups of 8-4-4-4-12")
    return UUID(value)


def hex32(value: Any, _kind: Any) -> int:
    """An identifier of 32 bits."""
    if not isinstance(value, str) or not _HEX32.fullmatch(value) or not int(value.replace("-", ""), 16):
        raise Problem(f"{value!r} is not an identifier of 32 bits", "eight hexadecimal digits in quotes, not all zero")
    return int(value.replace("-", ""), 16)
