"""What is refused before a machine is started, by its exit code and a sentence."""

from __future__ import annotations

import trees
from running import Workplace

from vmharness.host.kernel import appliance_kernel
from vmharness.tree import minimal


def test_disk_that_is_too_small(place: Workplace) -> None:
    """A fixed size that cannot hold the tree: how much is needed, before the guest is started."""
    definition = trees.MINIMAL.replace('additional-space = "8M"', 'size = "80M"')
    done = place.fail(definition)
    assert done.status == 2
    assert "image.size" in done.error()
    assert "needed" in done.error()
    assert "boot the appliance" not in done.stdout
    assert place.run_directories() == []


def test_kernels_that_do_not_fit(place: Workplace) -> None:
    """A grafted initrd that the EFI system partition cannot take: how large it would have to be, before any guest."""
    with (place.folder / "initrd").open("wb") as file:
        file.truncate(300 << 20)
    (kernel,) = minimal.stage(appliance_kernel(None, None), systemd_boot=True).directory.glob("boot/vmlinuz-*")
    target = f"/boot/initrd.img-{kernel.name.removeprefix('vmlinuz-')}"
    contents = f'\n[[contents]]\nsource = "initrd"\ntarget = "{target}"\n'
    done = place.fail(trees.MINIMAL + trees.SYSTEMD_BOOT + contents)
    assert done.status == 2
    assert "image.boot-size: the EFI system partition with 48 MiB is too small" in done.error()
    assert "boot the appliance" not in done.stdout
    assert place.run_directories() == []


def test_folder_that_no_build_made(place: Workplace) -> None:
    """An output folder with a person's files is neither replaced nor written to."""
    out = place.folder / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    done = place.run("build", place.define(trees.MINIMAL), "-o", out, "--json")
    assert done.status == 2
    assert "is not the output of a build" in done.error()
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    assert place.run_directories() == []


def test_kernel_that_is_none(place: Workplace) -> None:
    """``--kernel`` with a file that is no kernel: named, with nothing started."""
    (place.folder / "vmlinuz").write_text("not a kernel")
    done = place.fail(trees.MINIMAL, "--kernel", place.folder / "vmlinuz", "--modules", place.folder)
    assert done.status == 2
    assert "--modules" in done.error() or "is not a Linux kernel image" in done.error()
    assert place.run_directories() == []


def test_output_that_is_none(place: Workplace) -> None:
    """``boot`` and ``inspect`` of a folder that no build made say what to name instead."""
    for verb in ("inspect", "boot"):
        done = place.run(verb, place.folder, *(["--until", "login"] if verb == "boot" else []))
        assert done.status == 2
        assert "manifest.json" in done.stderr
        assert "hint: name the folder that `vmharness build" in done.stderr
