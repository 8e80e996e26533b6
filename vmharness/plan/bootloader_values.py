"""How a definition names its bootloader."""

from __future__ import annotations

from typing import Any

from vmharness.model import image as model
from vmharness.model.bootloader import BOOTLOADERS, Argument, Bootloader
from vmharness.plan import values
from vmharness.plan.problem import Problem, nearest


def installer(value: Any, _kind: Any) -> model.Installer:
    """``"grub"``, or a table of one bootloader's name and what it has to be told: ``{ command = ["install"] }``."""
    allowed = " | ".join(_installer_forms())
    if isinstance(value, dict):
        if len(value) != 1:
            raise Problem("an installer that is a table has one key, the bootloader's name", allowed)
        name, argument = next(iter(value.items()))
    else:
        name, argument = value, None
    known = BOOTLOADERS.get(name) if isinstance(name, str) else None
    if known is None:
        raise Problem(f"{name!r} is not known{nearest(str(name), list(BOOTLOADERS))}", allowed)
    return model.Installer(name=known.name, arguments=_arguments(known, argument))


def _arguments(bootloader: Bootloader, value: Any) -> tuple[str, ...]:
    if bootloader.argument is Argument.NOTHING and value is None:
        return ()
    if bootloader.argument is Argument.PATH and isinstance(value, str) and value.startswith("/"):
        return (value,)
    if bootloader.argument is Argument.COMMAND and isinstance(value, list):
        return values.texts(value, None)
    raise Problem(f"'{bootloader.name}' is given {bootloader.argument.value} besides", _installer_form(bootloader))


def _installer_forms() -> list[str]:
    return [_installer_form(bootloader) for bootloader in BOOTLOADERS.values()]


def _installer_form(bootloader: Bootloader) -> str:
    examples = {Argument.PATH: '"/path"', Argument.COMMAND: '["..."]'}
    example = examples.get(bootloader.argument)
    return f"{{ {bootloader.name} = {example} }}" if example else bootloader.name
