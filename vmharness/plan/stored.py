"""The plan as text: written for people and for the run directory, read again where a failed build is entered.

A plan that is read may come from a stranger: its numbers are bounded, its scripts are ours, and none of its paths is
opened before :func:`relocated` has put this host's own in their places.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import cattrs
from attrs import asdict, evolve

from vmharness.model import serial
from vmharness.model.firmware import Firmware
from vmharness.model.hardware import AcceleratorVerdict, MachineSpec
from vmharness.model.image import ImageSpec
from vmharness.model.partitions import Blocks
from vmharness.plan.bounds import check_bounds
from vmharness.plan.make import Plan


def to_json(plan: Plan) -> str:
    """The plan as JSON text with stable keys."""
    return json.dumps(_CONVERTER.unstructure(plan), indent=2, sort_keys=True) + "\n"


def from_json(text: str, spec: ImageSpec) -> Plan:
    """The plan that ``text`` holds.

    :param spec: the definition, loaded anew; what the text says about it is for people only.
    :raises ValueError: with a sentence, if it is no plan, or one that no build could have made.
    """
    data = serial.from_text(text)
    if isinstance(data, dict):
        data["spec"] = spec
    plan = serial.structured(data, Plan, _CONVERTER)
    check_bounds(plan)
    return plan


def relocated(plan: Plan, *, kernel: Path, initrd: Path, firmware: Firmware | None) -> Plan:
    """The plan with files of this host: there is no other path in it that a machine is started with.

    :param kernel: the appliance's, as ``initrd``.
    :param firmware: None where the plan has none.
    :raises ValueError: with a sentence, if it needs firmware that is not given, or a file that cannot be replaced.
    """
    if plan.firmware is not None and firmware is None:
        raise ValueError("its machine needs firmware, and none is given")
    if any(isinstance(part.filesystem, Blocks) for part in plan.layout.partitions):
        raise ValueError("it has a partition that is copied from a file of the host that made it")
    firmware = firmware if plan.firmware is not None else None
    machine = _with_files(plan.machine, kernel, initrd, firmware) if plan.machine is not None else None
    return evolve(plan, firmware=firmware, machine=machine)


def accelerated(plan: Plan, verdict: AcceleratorVerdict) -> Plan:
    """The plan with another accelerator, and deadlines that suit it."""
    scale = verdict.accelerator.time_scale / plan.accelerator.accelerator.time_scale
    return evolve(
        plan,
        accelerator=verdict,
        machine=None if plan.machine is None else evolve(plan.machine, accelerator=verdict.accelerator),
        boot_deadline=plan.boot_deadline * scale,
        steps=tuple(evolve(step, deadline=step.deadline * scale) for step in plan.steps),
        dialogue=tuple(evolve(entry, deadline=entry.deadline * scale) for entry in plan.dialogue),
    )


def _with_files(machine: MachineSpec, kernel: Path, initrd: Path, firmware: Firmware | None) -> MachineSpec:
    direct = machine.kernel
    return evolve(
        machine,
        firmware=firmware if machine.firmware is not None else None,
        kernel=evolve(direct, image=kernel, initrd=initrd) if direct is not None else None,
    )


def _for_people(spec: ImageSpec) -> dict[str, Any]:
    """The definition as data, of which nothing is read again: kinds are not told apart."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        return str(value) if isinstance(value, Path | UUID) else value

    return asdict(spec, value_serializer=lambda _instance, _attribute, value: plain(value))


def _is_spec(kind: Any) -> bool:
    return kind is ImageSpec


def _converter() -> cattrs.Converter:
    converter = serial.make_converter()
    converter.register_unstructure_hook_func(_is_spec, _for_people)
    converter.register_structure_hook_func(_is_spec, lambda spec, _type: spec)  # which from_json has put there
    return converter


_CONVERTER = _converter()
