"""Looking at the host: programs, versions, the doctor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vmharness.errors import HostError, SpecError
from vmharness.flows import doctor
from vmharness.host import accelerator, data, probe, proc
from vmharness.host.versions import numbers, version_of
from vmharness.model.hardware import Accelerator


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script on the path, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return folder / name

    return put


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without any program."""
    monkeypatch.setattr(proc, "find", lambda name: None)


def test_the_host_is_known() -> None:
    """Facts hold QEMU first, a version for each tool, and the firmware to choose from."""
    facts = probe.probe(accel="tcg")
    assert facts.qemu.name == "qemu-system-x86_64"
    assert numbers(facts.qemu.version) >= probe.OLDEST_QEMU
    assert set(facts.versions) == {"qemu-system-x86_64", *probe.BUILD_TOOLS}
    assert facts.accelerator.accelerator is Accelerator.TCG
    assert facts.cpus >= 1
    assert facts.descriptors


def test_missing_programs_are_named_together(bare: None) -> None:
    """One error for all of them, with one command; Python packages have their own."""
    with pytest.raises(HostError, match="3 programs are not installed: sgdisk, mke2fs, virt-fw-vars") as refusal:
        probe.check_tools(["sgdisk", "mke2fs", "virt-fw-vars"])
    assert "e2fsprogs gdisk" in str(refusal.value.hint)
    assert "pip install virt-firmware" in str(refusal.value.hint)


def test_another_architecture_is_refused() -> None:
    """The error names it."""
    probe.check_architecture("x86_64")
    with pytest.raises(HostError, match="this one is aarch64"):
        probe.check_architecture("aarch64")


def test_an_old_qemu_is_refused(program: Callable[[str, str], Path]) -> None:
    """Numbers are compared as numbers; the newest of the old ones is still too old."""
    probe.check_qemu("10.0.2")
    probe.check_qemu("unknown")
    program("qemu-system-x86_64", "echo QEMU emulator version 6.2.0")
    with pytest.raises(HostError, match=r"QEMU 6\.2\.0 is too old"):
        probe.probe(accel="tcg")


def test_a_version_is_asked_for_once(program: Callable[[str, str], Path], tmp_path: Path) -> None:
    """The answer is kept until the program's file changes."""
    path = program("sgdisk", f"echo asked >>{tmp_path}/log; echo GPT fdisk version 1.0.9")
    assert [version_of("sgdisk"), version_of("sgdisk")] == ["1.0.9", "1.0.9"]
    assert (tmp_path / "log").read_text() == "asked\n"
    path.write_text("#!/bin/sh\necho 'GPT fdisk version 1.0.10-rc1' >&2\n")
    assert version_of("sgdisk") == "1.0.10"


def test_a_program_that_does_not_tell_is_unknown(program: Callable[[str, str], Path]) -> None:
    """Neither silence nor failure is an error: a version is information."""
    program("sgdisk", "exit 3")
    assert version_of("sgdisk") == "unknown"


def test_a_cache_that_cannot_be_written_only_costs_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Versions are found without it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert numbers(version_of("sgdisk"))


def test_the_accelerator_asked_for_is_taken_and_said() -> None:
    """No probe, and the reason says so; another word is the user's error."""
    verdict = accelerator.choose("kvm")
    assert (verdict.accelerator, verdict.reason) == (Accelerator.KVM, "KVM: asked for, not probed")
    with pytest.raises(SpecError, match="auto, kvm, tcg"):
        accelerator.choose("xen")


def test_the_proof_runs_once_for_a_boot(
    program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With KVM that looks right the guest decides; its verdict holds for this boot and this QEMU, not the next ones."""
    script = f'[ "$1" = --version ] && exec echo version 9.9.9; echo ran >>{tmp_path}/log; exit'
    qemu = program("qemu-system-x86_64", f"{script} 85")
    (tmp_path / "kvm").touch()
    (tmp_path / "cpuinfo").write_text("processor: 0\nflags\t\t: fpu vmx\n")
    (tmp_path / "boot").write_text("one")
    monkeypatch.setattr(accelerator, "_KVM", tmp_path / "kvm")
    monkeypatch.setattr(accelerator, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(accelerator, "_BOOT_ID", tmp_path / "boot")
    for _ in range(2):
        verdict = accelerator.choose("auto")
        assert verdict.accelerator is Accelerator.KVM
        assert verdict.reason.startswith("KVM: a 64-bit guest ran in ")
    assert (tmp_path / "log").read_text() == "ran\n"
    (tmp_path / "boot").write_text("two")
    accelerator.choose()
    assert (tmp_path / "log").read_text() == "ran\nran\n"
    qemu.write_text(f"#!/bin/sh\n{script} 134 # another QEMU\n")
    verdict = accelerator.choose()
    assert verdict.accelerator is Accelerator.TCG
    assert verdict.reason.endswith("kvm opens, but QEMU ended with status 134 on a 64-bit guest")


def test_kvm_that_cannot_work_is_seen_without_a_guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No device, no processor flag, a device that does not open: each with its reason."""
    kvm, cpuinfo = tmp_path / "kvm", tmp_path / "cpuinfo"
    monkeypatch.setattr(accelerator, "_KVM", kvm)
    monkeypatch.setattr(accelerator, "_CPUINFO", cpuinfo)
    assert accelerator.choose().reason == f"TCG: {kvm} is not there"
    kvm.mkdir()
    cpuinfo.write_text("flags\t\t: fpu vmxish\n")
    assert "neither the vmx nor the svm flag" in accelerator.choose().reason
    cpuinfo.write_text("flags\t\t: fpu svm\n")
    assert accelerator.choose().reason == f"TCG: {kvm} does not open (Is a directory)"


def test_our_data_are_found() -> None:
    """Guest scripts and firmware descriptors are there; a folder that is not is an error."""
    assert (data.data_directory("firmware") / "README.md").is_file()
    assert data.data_directory("guest-scripts").is_dir()
    with pytest.raises(HostError, match="not installed whole"):
        data.data_directory("nonesuch")


def rows(report: doctor.Report) -> dict[str, doctor.Row]:
    """The report's rows by name."""
    return {row.name: row for section in report.sections for row in section.rows}


def test_the_doctor_is_content_with_a_host_that_can_build() -> None:
    """Everything that a build needs is there, with versions; firmware refusals are no illness."""
    report = doctor.examine("tcg")
    assert report.ok, [row for row in rows(report).values() if not row.ok]
    assert [section.title for section in report.sections] == ["Host", "Programs", "Firmware", "Packages", "Folders"]
    assert numbers(rows(report)["qemu-img"].detail)
    assert any(row.detail.startswith("taken: ") for row in report.sections[2].rows)
    assert "asked for" in rows(report)["accelerator"].detail


def test_the_doctor_lists_what_is_missing(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a bare host it still answers: each missing program with its remedy, and one command for all."""
    monkeypatch.setattr(doctor.descriptors, "installed", tuple)
    report = doctor.examine()
    assert not report.ok
    assert "e2fsprogs" in rows(report)["mke2fs"].remedy
    assert not rows(report)["UEFI firmware"].ok
    assert not rows(report)["mmdebstrap"].required
    assert rows(report)["apt"].remedy == "give a kernel with --kernel and --modules"
    for package in ("qemu-system-x86", "ovmf", "gdisk", "mmdebstrap"):
        assert package in report.install.split()


def test_the_doctor_sees_an_old_qemu(program: Callable[[str, str], Path]) -> None:
    """The version is judged, not only shown."""
    program("qemu-system-x86_64", "echo QEMU emulator version 5.0")
    row = rows(doctor.examine("tcg"))["qemu-system-x86_64"]
    assert not row.ok
    assert "too old" in row.detail


def test_the_doctor_sees_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache in a place where nothing can be made is named with the setting that moves it."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    row = rows(doctor.examine("tcg"))["cache"]
    assert not row.ok
    assert "XDG_CACHE_HOME" in row.remedy
