"""The machine that the figures belong to."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from vmharness.host.versions import version_of


def describe() -> dict[str, str]:
    """What a reader must know of the machine, by name."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} in use",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": f"{_system()}, Linux {platform.release()}",
        "QEMU": version_of("qemu-system-x86_64"),
        "mke2fs": version_of("mke2fs"),
        "Python": platform.python_version(),
    }


def in_one_line(about: dict[str, str]) -> str:
    """What :func:`describe` gives, short."""
    return f"{about['processor']}, QEMU {about['QEMU']}"


def load() -> str:
    """The load averages of the last 1, 5 and 15 minutes."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
