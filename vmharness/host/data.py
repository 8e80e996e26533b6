"""The files that come with vmharness: guest scripts and firmware descriptors."""

from __future__ import annotations

from pathlib import Path

from vmharness.errors import HostError

_PACKAGE = Path(__file__).resolve().parent.parent


def data_directory(name: str) -> Path:
    """The folder ``name`` of our own data (``guest-scripts``, ``firmware``).

    It lies inside the package in an installed wheel, and beside the package in a checkout.

    :raises HostError: it is in neither place.
    """
    places = (_PACKAGE / "_data" / name, _PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise HostError(
        f"vmharness is not installed whole: neither {places[0]} nor {places[1]} is there",
        hint="install the vmharness wheel again, or run it from a complete checkout",
    )
