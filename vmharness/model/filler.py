"""Variables that only take room, to see what becomes of a machine whose variable store is nearly full."""

from __future__ import annotations

from uuid import UUID

from vmharness.model.variable_values import ATTRIBUTES
from vmharness.model.variables import EfiVariable

VENDOR = UUID("5b1d3a0e-9f5c-4f37-9c43-7f9a6c1d2e84")
"""Vendor of the fillers; nobody else's."""

_LARGEST = 4096
"""Bytes that one filler takes at most: any firmware would have taken a variable of that size."""


def name(number: int) -> str:
    """The name of a filler."""
    return f"Filler{number:04d}"


_AROUND = 60 + 2 * (len(name(0)) + 1)
"""Bytes of a filler's record besides its data (edk2, ``AUTHENTICATED_VARIABLE_HEADER``, and its name)."""

SMALLEST = _AROUND + 2
"""Bytes that a filler takes at least."""


def fillers(size: int) -> tuple[EfiVariable, ...]:
    """Variables that take ``size`` bytes of a store together, to the byte.

    :param size: a multiple of 4; nothing, or at least :data:`SMALLEST`.
    :raises ValueError: with a sentence, for other sizes.
    """
    if size == 0:
        return ()
    if size < SMALLEST or size % 4:
        raise ValueError(f"{size} bytes cannot be filled: only multiples of 4, from {SMALLEST} on")
    count = -(-size // _LARGEST)
    each, more = divmod(size // 4, count)
    sizes = [4 * (each + (number < more)) for number in range(count)]
    return tuple(
        EfiVariable(name=name(number), guid=VENDOR, attributes=ATTRIBUTES, data=bytes(taken - _AROUND))
        for number, taken in enumerate(sizes)
    )
