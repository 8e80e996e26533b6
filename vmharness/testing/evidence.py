"""What a person wants to see of a machine whose test has failed, collected while the machine is still there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from vmharness.disk import efivars
from vmharness.errors import VmharnessError
from vmharness.model.outcome import describe
from vmharness.model.sizes import format_size
from vmharness.model.text import harmless
from vmharness.model.variable_changes import changes
from vmharness.testing.machine import Machine
from vmharness.testing.report import BootRecord, Screenshot, page
from vmharness.vm.rendering import render_html, transcript_end

_LINES = 40
_REPORT_LINES = 1000

Sections = list[tuple[str, str]]
"""Titles with texts, as pytest's reports have them."""


def collect(machine: Machine, folder: Path, verdict: str) -> Sections:
    """What is known of the machine, in words; pictures, long texts and a page of HTML go to files in ``folder``.

    Nothing here raises an error of vmharness: what cannot be had any more is left out.

    :param verdict: what is wrong, in a sentence.
    """
    sections = [("vmharness: the boot", "\n".join(_boot(machine)))]
    with suppress(VmharnessError):
        sections.append(("vmharness: the console's end", _console(machine)))
    with suppress(VmharnessError):
        sections.append(("vmharness: EFI variables", "\n".join(variable_changes(machine)) or "as they were"))
    picture = _screenshot(machine, folder)
    made = (_report(machine, folder, verdict, picture), picture, _registers(machine, folder))
    files = [path for path in made if path is not None]
    files += [path for path in (machine.transcript, machine.folder / "qmp.log") if path.is_file()]
    sections.append(("vmharness: files", "\n".join(map(str, files))))
    sections.append(("vmharness: to open this machine", command(machine)))
    return sections


def record(machine: Machine, verdict: str, *, reached: bool, pictures: Sequence[Screenshot] = ()) -> BootRecord:
    """What the report of a boot tells of a machine.

    :param verdict: what the boot came to, in a sentence.
    :param reached: whether that is what it should.
    :param pictures: screenshots on the way.
    """
    facts = {
        "accelerator": machine.accelerator.reason,
        "firmware": machine.state.firmware.description if machine.state.firmware is not None else "BIOS",
        "memory": format_size(machine.hardware.memory),
        "boots": str(machine.boots),
        "transcript": str(machine.transcript),
    }
    facts |= {f"attempt {number}": str(attempt) for number, attempt in enumerate(machine.attempts, 1)}
    return BootRecord(
        title=machine.name,
        verdict=verdict,
        reached=reached,
        milestones=machine.milestones if machine.is_on else {},
        seconds=machine.seconds if machine.is_on else 0.0,
        facts=facts,
        pictures=pictures,
        console=render_html(transcript_end(machine.transcript.read_bytes(), lines=_REPORT_LINES)),
        changes=tuple(variable_changes(machine)),
    )


def command(machine: Machine) -> str:
    """The one command that boots what this machine has left, with a person at its console."""
    return f"vmharness boot {shlex.quote(str(machine.folder))}"


def variable_changes(machine: Machine) -> Iterator[str]:
    """What the machine's boots changed in its variable store, without what the firmware rewrites at each start."""
    initial = machine.initial
    if initial.firmware is None or machine.state.variables is None:
        return
    before = efivars.read_store(initial.variables or initial.firmware.template)
    yield from (change.text for change in changes(before, machine.variables(), ignore_volatile=True))


def _boot(machine: Machine) -> Iterator[str]:
    yield f"accelerator: {machine.accelerator.reason}"
    yield f"boots: {machine.boots}"
    yield from (f"firmware: {harmless(str(attempt))}" for attempt in machine.attempts)
    if machine.is_on:
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in machine.milestones.items())
        yield f"milestones: {stages or 'none'}"
        ending = machine.core.ending
        yield f"the machine: {harmless(describe(ending)) if ending is not None else machine.core.state.value}"
    else:
        yield "the machine: off"


def _console(machine: Machine) -> str:
    return "\n".join(harmless(line) for line in machine.printed().splitlines()[-_LINES:])


def _report(machine: Machine, folder: Path, verdict: str, picture: Path | None) -> Path | None:
    """The page about the boot, with its last picture."""
    pictures = [Screenshot(caption="when the test failed", png=picture.read_bytes())] if picture is not None else []
    with suppress(VmharnessError, OSError):
        path = folder / "report.html"
        path.write_text(page([record(machine, verdict, reached=False, pictures=pictures)]), encoding="utf-8")
        return path
    return None


def _screenshot(machine: Machine, folder: Path) -> Path | None:
    if not machine.is_on:
        return None
    with suppress(VmharnessError):
        return machine.screenshot(folder / "screen-at-failure.png")
    return None


def _registers(machine: Machine, folder: Path) -> Path | None:
    """Where each processor is, of a guest that may hang."""
    if not machine.is_on:
        return None
    with suppress(VmharnessError):
        path = folder / "registers.txt"
        path.write_text(machine.core.registers(), encoding="utf-8")
        return path
    return None
