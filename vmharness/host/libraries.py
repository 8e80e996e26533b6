"""Shared libraries of programs, as the dynamic loader finds them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from vmharness.errors import HostError
from vmharness.host import proc

_FOUND = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")
_MISSING = re.compile(r"(\S+) => not found")


def libraries(programs: Collection[Path], *, prefer: tuple[Path, ...] = ()) -> list[Path]:
    """The shared libraries of ``programs``, dynamic loader included; none for static programs.

    :param prefer: folders that are searched before the host's own.
    :raises HostError: a library is not on this host.
    """
    search = {"LD_LIBRARY_PATH": ":".join(map(str, prefer))} if prefer else {}
    names = ", ".join(program.name for program in programs)
    # ldd answers 1 when one of the programs is static.
    answer = proc.run(["ldd", *programs], doing=f"finding the libraries of {names}", ok=(0, 1), env=search)
    missing = _MISSING.findall(answer.text)
    if missing:
        raise HostError(f"{names}: libraries are needed that are not here: {', '.join(missing)}")
    found = {Path(match[1]) for match in _FOUND.finditer(answer.text)}
    return sorted(found)


def loader_of(found: Iterable[Path]) -> Path:
    """The dynamic loader among libraries.

    :raises HostError: there is none.
    """
    for library in found:
        if library.name.startswith("ld-"):
            return library
    raise HostError("the host's programs have no dynamic loader that ldd can name", hint="use a glibc-based host")
