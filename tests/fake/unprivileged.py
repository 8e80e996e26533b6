"""Runs a piece of a test as an ordinary user, whoever runs the tests."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534


def run_as_ordinary_user(folder: Path, action: Callable[[], None]) -> None:
    """Run ``action`` without privilege; ``folder`` (below pytest's own) belongs to the user then.

    Where the tests run as root, a child process gives up its user and group ids first; what it needs of Python must
    have been imported by then, since the checkout may lie where an ordinary user cannot read.
    """
    if os.getuid() != 0:
        action()
        return
    top = Path(tempfile.gettempdir()).resolve()
    for parent in folder.resolve().parents:
        if parent == top or top not in parent.parents:
            break
        parent.chmod(0o711)
    for place in (folder, *folder.rglob("*")):
        os.lchown(place, NOBODY, NOBODY)
    report = folder / "report"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.chdir(folder)
            action()
            status = 0
        except BaseException:  # noqa: BLE001 -- the child must not go on with the parent's tests
            report.write_text(traceback.format_exc())
        finally:
            os._exit(status)
    _pid, status = os.waitpid(child, 0)
    assert status == 0, report.read_text() if report.exists() else status
