"""Testing how images boot: state as a value, machines made from it, and what they must do."""

from vmharness.model.hardware import Bus, Disk, Faults
from vmharness.testing.hardware import Hardware
from vmharness.testing.machine import Machine
from vmharness.testing.state import BootState, firmware, fork

__all__ = ["BootState", "Bus", "Disk", "Faults", "Hardware", "Machine", "firmware", "fork"]
