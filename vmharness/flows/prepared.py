"""What a build works with, once nothing is left to decide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from vmharness.host.appliance import Appliance
from vmharness.model import manifest
from vmharness.model.checkpoint import Checkpoints
from vmharness.model.results import StagedContents, StagedTree
from vmharness.plan.make import Plan
from vmharness.plan.stopping import Stop


@frozen(kw_only=True)
class Prepared:
    """Everything that is known once nothing is left to decide, and what was signed since.

    :param tools: versions of the programs used, by name.
    :param trees: what goes into partitions, by role.
    :param checkpoints: which are taken on the way.
    :param stop: where the build is to stop on purpose, or None.
    :param repairs: what was done by hand, one thing a line, where the build was ended in a session; None otherwise.
    :param media: what an installer was started from.
    :param signed: what was signed for Secure Boot.
    :param key_files: keys that were made for the image and are published with it, each with its role.
    """

    plan: Plan
    seed: str
    tools: Mapping[str, str]
    trees: Mapping[str, StagedTree]
    contents: StagedContents | None
    appliance: Appliance | None
    resume: bool
    checkpoints: Checkpoints = Checkpoints.NONE
    stop: Stop | None = None
    repairs: tuple[str, ...] | None = None
    media: tuple[manifest.SourceFile, ...] = ()
    signed: tuple[manifest.SignedFile, ...] = ()
    key_files: Mapping[Path, str] = field(factory=dict)
