"""Many machines from one boot: each goes on where one was saved, and sees nothing of the others."""

from __future__ import annotations

import time

from vmharness.testing import BootState, Machine

LIMIT = 5.0
"""How long a start from a checkpoint may take: a fifth of a second on a quiet machine, where a boot takes twenty."""


def test_machines_go_on_from_a_login(minimal: BootState) -> None:
    """From one boot to a login, two machines log in; what one writes to its disk the other does not have."""
    with Machine(minimal) as vm:
        vm.start()
        vm.expect_boot("login")
        saved = vm.checkpoint()
        for _ in range(2):
            with Machine(saved) as other:
                began = time.monotonic()
                other.start()
                assert time.monotonic() - began < LIMIT
                other.run("test ! -e /root/mark && touch /root/mark && sync")
                assert other.run("test -e /root/mark").status == 0


def test_a_machine_that_went_on_boots_its_own_disk(minimal: BootState) -> None:
    """After it is switched off and on it boots cold, with what it had written."""
    with Machine(minimal) as vm:
        vm.start()
        vm.expect_boot("login")
        with Machine(vm.checkpoint()) as other:
            other.start()
            other.run("touch /root/mark && sync")
            other.off()
            other.start()
            other.expect_boot("login")
            assert other.run("test -e /root/mark").status == 0
