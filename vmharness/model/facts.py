"""What is known about the host before anything is planned."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from vmharness.model.firmware import Descriptor
from vmharness.model.hardware import AcceleratorVerdict


@frozen(kw_only=True)
class Tool:
    """A program of the host: its name, where it is, and its version ("unknown" where it does not say)."""

    name: str
    path: Path
    version: str


@frozen(kw_only=True)
class HostFacts:
    """The host, as far as a plan depends on it.

    :param architecture: as ``uname -m`` says; always ``x86_64`` today.
    :param cpus: processors that this process may use.
    :param accelerator: the accelerator taken, and why.
    :param tools: the programs that a run uses, QEMU first.
    :param descriptors: the firmware to choose from, in order of preference.
    """

    architecture: str
    cpus: int
    accelerator: AcceleratorVerdict
    tools: tuple[Tool, ...]
    descriptors: tuple[Descriptor, ...]

    @property
    def qemu(self) -> Tool:
        """The emulator."""
        return self.tools[0]

    @property
    def versions(self) -> dict[str, str]:
        """Version of each tool by its name."""
        return {tool.name: tool.version for tool in self.tools}
