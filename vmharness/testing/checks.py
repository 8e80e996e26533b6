"""What tests of bootloaders demand, each with a message that shows what was there instead.

All raise :class:`~vmharness.errors.BootFailed`, which test runners take for a failed assertion. *Must not boot* is
:meth:`Machine.expect_no_boot <vmharness.testing.machine.Machine.expect_no_boot>`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from vmharness.errors import BootFailed
from vmharness.model.variable_records import decode
from vmharness.model.variables import GLOBAL, VariableStore
from vmharness.testing import esp
from vmharness.testing.machine import Machine
from vmharness.testing.state import BootState

_SHOWN = 20


def esp_has(state: BootState, path: str, *, sha256: str | None = None, contains: bytes | None = None) -> bytes:
    """A file lies on the EFI system partition; gives its content.

    :param path: with slashes or backslashes, in whatever case.
    :param sha256: its digest, in hexadecimal.
    :param contains: bytes somewhere in it.
    """
    with esp.opened(state) as view:
        if not view.exists(path):
            files = view.files()
            raise BootFailed(f"the ESP holds no {path}; it holds {_listed(files)}")
        data = view.read(path)
    if sha256 is not None:
        digest_is(data, sha256, what=path)
    if contains is not None and contains not in data:
        raise BootFailed(f"{path} on the ESP ({len(data):,} bytes) does not contain {contains!r}")
    return data


def esp_lacks(state: BootState, path: str) -> None:
    """No such file lies on the EFI system partition."""
    with esp.opened(state) as view:
        if view.exists(path):
            raise BootFailed(f"the ESP holds {path}, which should not be there")


def variable_is(store: VariableStore, name: str, value: Any, *, guid: Any = GLOBAL) -> None:
    """An EFI variable has a value, as ``vmharness efivars show --json`` shows it; None: it is not there."""
    variable = store.get(name, guid)
    found = decode(variable).value if variable is not None else None
    if found != value:
        there = ", ".join(item.name for item in store.variables) or "nothing"
        what = f"the variable {name} is {found!r} instead of {value!r}"
        raise BootFailed(f"{what}; the store holds {there}" if variable is None else what)


def prints(machine: Machine, command: str, pattern: str, *, within: float = 30.0) -> re.Match[str]:
    """A command inside the booted system prints a text; gives the match.

    :param pattern: a regular expression.
    :param within: seconds, before the accelerator's time scale.
    """
    text = machine.run(command, within=within).text
    found = re.search(pattern, text)
    if found is None:
        raise BootFailed(f"{command!r} does not print {pattern!r}", last_words=text)
    return found


def showed(machine: Machine, pattern: str, *, during: str | None = None) -> re.Match[str]:
    """A text was on the console.

    :param pattern: a regular expression.
    :param during: a milestone's name: only what was printed from there to the next milestone counts.
    """
    text = machine.printed(during)
    found = re.search(pattern, text)
    if found is None:
        where = f" during the stage '{during}'" if during else ""
        raise BootFailed(f"the console did not show {pattern!r}{where}", machine.transcript, last_words=text)
    return found


def booted_times(machine: Machine, count: int) -> None:
    """The machine has gone through its firmware so many times, by being switched on or reset."""
    if machine.boots != count:
        raise BootFailed(f"the machine has booted {machine.boots} times instead of {count}", machine.transcript)


def digest_is(artefact: bytes | Path, sha256: str, *, what: str = "the artefact") -> None:
    """An artefact has a digest (SHA-256, in hexadecimal)."""
    data = artefact.read_bytes() if isinstance(artefact, Path) else artefact
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        name = str(artefact) if isinstance(artefact, Path) else what
        raise BootFailed(f"{name} has the SHA-256 {found} instead of {sha256.lower()}")


def pcr(machine: Machine, index: int, *, bank: str = "sha256") -> str:
    """The value of a TPM's register inside the booted system, in hexadecimal."""
    return machine.run(f"cat /sys/class/tpm/tpm0/pcr-{bank}/{index}").text.strip().lower()


def pcr_is(machine: Machine, index: int, value: str, *, bank: str = "sha256") -> None:
    """A TPM's register has a value."""
    found = pcr(machine, index, bank=bank)
    if found != value.lower():
        raise BootFailed(f"PCR {index} ({bank}) is {found} instead of {value.lower()}")


def event_log(machine: Machine) -> bytes:
    """The firmware's TPM event log inside the booted system, as bytes (TCG PC Client Platform Firmware Profile)."""
    return machine.get("/sys/kernel/security/tpm0/binary_bios_measurements")


def entry_selected(machine: Machine, entry: str) -> None:
    """The loader says that it booted this entry (``LoaderEntrySelected``, Boot Loader Interface).

    :param entry: the entry's id, such as ``debian.conf``; a regular expression.
    """
    found = selected_entry(machine)
    if re.fullmatch(entry, found) is None:
        raise BootFailed(f"the loader selected the entry {found!r} instead of {entry!r}", machine.transcript)


def selected_entry(machine: Machine) -> str:
    """The id of the entry that the loader booted, as the booted system sees it."""
    name = "LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    data = machine.get(f"/sys/firmware/efi/efivars/{name}")
    return data[4:].decode("utf-16-le").rstrip("\0")


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN]) or "nothing"
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
