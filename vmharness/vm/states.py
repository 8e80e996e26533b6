"""The states of a machine, and what may be asked of it in each."""

from __future__ import annotations

from enum import Enum

from vmharness.vm import panel


class State(Enum):
    """What a machine is doing.

    ``SAVED`` is paused for ever, since its memory belongs to its saved state. ``DEAD`` and ``GONE`` mean that it ended
    by itself: ``DEAD`` while QEMU is still there to be asked, such as after a kernel's panic.
    """

    NEW = "new"
    RUNNING = "running"
    PAUSED = "paused"
    SAVED = "saved"
    OFF = "off"
    DEAD = "dead"
    GONE = "gone"


LEGAL = {
    State.NEW: "start(), close()",
    State.RUNNING: f"qmp(), plug(), {panel.CALLS}, pause(), save(), wait_off(), kill(), off(), close()",
    State.PAUSED: f"qmp(), plug(), {panel.CALLS}, unpause(), save(), kill(), off(), close()",
    State.SAVED: "kill(), off(), close()",
    State.OFF: "close()",
    State.DEAD: f"qmp(), {panel.CALLS}, wait_off(), kill(), off(), close()",
    State.GONE: "wait_off(), close()",
}
"""The legal calls in each state, for messages."""
