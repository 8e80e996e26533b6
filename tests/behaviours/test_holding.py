"""``--vmharness-hold``: a person looks at the machine of a failed test before it is gone."""

from __future__ import annotations

import sys
from pathlib import Path

import pexpect
from running import Workplace

from vmharness.testing import BootState

SECONDS = 120
TEST = """
def test_it(vm):
    vm.start()
    vm.reach("login")
    assert vm.run("hostname").stdout == "another\\n"
"""


def test_person_looks_at_a_failed_machine(minimal: BootState, tmp_path: Path) -> None:
    """The machine stands still with its monitor named; its console is lent and taken back; then the tests go on."""
    place = Workplace(folder=tmp_path)
    (tmp_path / "test_it.py").write_text(TEST)
    image = minimal.disks[0].path.parent
    options = ["-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tmp'}", "--vmharness-image", str(image)]
    with pexpect.spawn(
        sys.executable,
        ["-m", "pytest", *options, "--vmharness-hold", "test_it.py"],
        env=place.environment_of_runs(),
        cwd=tmp_path,
        timeout=SECONDS,
        encoding="utf-8",
    ) as terminal:
        terminal.expect_exact("is paused")
        terminal.expect_exact("UNIX-CONNECT:")
        terminal.expect_exact("c is its console: ")
        terminal.sendline("c")
        terminal.expect_exact("Ctrl-] leaves the console")
        terminal.send("\r")
        terminal.expect_exact("login: ")
        terminal.send("root\r")
        terminal.expect_exact("# ")
        terminal.send("echo $((6 * 7)) apples\r")
        terminal.expect_exact("42 apples")
        terminal.send("\x1d")
        terminal.expect_exact("c is its console: ")
        terminal.sendline("")
        terminal.expect_exact("1 failed")
        terminal.expect(pexpect.EOF)
    assert place.guests() == []
