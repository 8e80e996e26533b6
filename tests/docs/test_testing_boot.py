"""``docs/testing-boot.md`` speaks of what is there. That its examples work is tested in ``tests/behaviours``."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest

from examples import TESTING_BOOT, examples, name_of
from vmharness import pytest_plugin
from vmharness.flows import efivars
from vmharness.model import milestones, refusals
from vmharness.model.results import CommandResult
from vmharness.model.variables import VariableStore
from vmharness.testing import BootState, Machine, checks
from vmharness.vm.keyboard import Keyboard
from vmharness.vm.menu import Menu
from vmharness.vm.screen import Screen

TEXT = TESTING_BOOT.read_text("utf-8")
OWNERS: dict[str, Any] = {
    "vm": Machine,
    "state": BootState,
    "checks": checks,
    "efivars": efivars,
    "vm.screen": Screen,
    "vm.menu": Menu,
    "vm.keyboard": Keyboard,
    "vm.variables()": VariableStore,
}
SET_WHEN_ENTERED = {"attempts", "time_scale"}
"""Attributes of a machine that its class does not have."""


def missing(text: str) -> Iterator[str]:
    """Names that a text gives to something of vmharness that has none of that name."""
    for owner, kind in OWNERS.items():
        for name in re.findall(rf"(?<![\w.]){re.escape(owner)}\.(\w+)", text):
            if not hasattr(kind, name) and name not in SET_WHEN_ENTERED:
                yield f"{owner}.{name}"


def options(text: str) -> set[str]:
    """The plugin's options that a text has."""
    return set(re.findall(r"--vmharness-[a-z-]+", text))


def offered() -> set[str]:
    """The plugin's options."""
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    return {name for group in parser._groups for option in group.options for name in option.names()}


def test_every_name_is_there() -> None:
    """Every attribute and method that the document speaks of exists, in its text and in its examples."""
    assert list(missing(TEXT)) == []


def test_a_wrong_name_is_found() -> None:
    """A name that does not exist is reported, whatever it belongs to."""
    text = "`vm.start()`, `vm.stop()`, vm.menu.pick, checks.esp_has(state.gone) and efivars.sets"
    assert list(missing(text)) == ["vm.stop", "state.gone", "efivars.sets", "vm.menu.pick"]


@pytest.mark.parametrize("example", examples(TESTING_BOOT), ids=name_of)
def test_examples_are_python(example: str) -> None:
    """Each example compiles, and what it imports is there."""
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        elif isinstance(node, ast.Import):
            assert [name.name for name in node.names if importlib.util.find_spec(name.name) is None] == []


def test_every_option_is_explained() -> None:
    """The document has each option of the plugin, and no other."""
    assert options(TEXT) == offered()


def test_every_fixture_is_explained() -> None:
    """The document's table has each fixture of the plugin."""
    fixtures = {name for name, value in vars(pytest_plugin).items() if hasattr(value, "_fixture_function")}
    fixtures |= {name for name, value in vars(pytest_plugin).items() if "fixture" in type(value).__name__.lower()}
    assert fixtures >= {"vm", "boot_state"}
    assert [name for name in fixtures if f"`{name}`" not in TEXT] == []


def test_every_refusal_and_milestone_is_explained() -> None:
    """The document has the name of each kind of evidence that a machine does not boot, and of each milestone."""
    names = {*refusals.REFUSALS, *(milestone.name for milestone in milestones.MILESTONES), "loader"} - {"bootloader"}
    assert [name for name in sorted(names) if f"`{name}`" not in TEXT] == []


def test_results_have_what_is_told_of_them() -> None:
    """The result of a command has the attributes that the document names."""
    names = {*CommandResult.__annotations__, "text"}
    assert {"status", "stdout", "stderr", "text"} <= names
