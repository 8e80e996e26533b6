"""``--accel kvm`` is taken without a proof: where KVM runs no guest the build ends with an error, not in a hang."""

from __future__ import annotations

import trees
from running import Workplace

from vmharness.host.accelerator import prove
from vmharness.host.probe_rom import probe_rom
from vmharness.model.hardware import Accelerator


def test_forced_kvm(place: Workplace) -> None:
    """Where a probe guest runs under KVM the build succeeds; elsewhere it fails within its deadlines and says why."""
    works = prove(Accelerator.KVM, probe_rom()).passed
    options = ("build", place.define(trees.MINIMAL), "-o", place.folder / "out", "--accel", "kvm", "--json")
    done = place.run(*options, within=100)
    assert (done.status == 0) == works, done.stdout
    assert (place.folder / "out").exists() == works
    assert place.guests() == []
    if not works:
        assert "kvm" in done.error().lower()
        assert done.seconds < 75
