"""The doctor: what this host has, what it lacks, and the command that changes that."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from vmharness.errors import VmharnessError
from vmharness.host import accelerator, cache, descriptors, kernel, probe, proc, rundir
from vmharness.host.data import data_directory
from vmharness.host.versions import numbers, version_of
from vmharness.model.firmware import FirmwareVerdict
from vmharness.model.hardware import Accelerator
from vmharness.model.image import AutoFirmware
from vmharness.model.sizes import GIB, MIB
from vmharness.plan import firmware

_OPTIONAL = {
    "mmdebstrap": "for root trees made from Debian packages",
    "nix-store": "for root trees from a Nix store",
    "sbsign": "for images that are signed for Secure Boot",
    "zstd": "for archives packed with zstd",
    "xz": "for archives packed with xz",
    "lz4": "for archives packed with lz4",
    "bzip2": "for archives packed with bzip2",
}
_APT_LISTS = Path("/var/lib/apt/lists")
_ENOUGH_SPACE = 2 * GIB


@frozen(kw_only=True)
class Row:
    """One thing that was looked at.

    :param ok: whether it is as it should be.
    :param name: what was looked at.
    :param detail: what was seen.
    :param remedy: what to do where it is not ok; a command where there is one.
    :param required: whether no build works without it.
    """

    ok: bool
    name: str
    detail: str
    remedy: str = ""
    required: bool = True


@frozen(kw_only=True)
class Section:
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


@frozen(kw_only=True)
class Report:
    """What the doctor found.

    :param sections: what was looked at, in the order of reading.
    :param install: one command that installs all that is missing; empty when nothing is.
    """

    sections: tuple[Section, ...]
    install: str

    @property
    def ok(self) -> bool:
        """Whether a build can work on this host."""
        return all(row.ok for section in self.sections for row in section.rows if row.required)


def examine(accel: str | None = None) -> Report:
    """Look at the host. Whatever is missing or broken becomes a row, never an exception.

    :param accel: the user's word on the accelerator.
    """
    verdicts = firmware.judge_all(AutoFirmware(), descriptors.installed())
    needed = (probe.QEMU, *probe.BUILD_TOOLS)
    missing = [name for name in (*needed, *_OPTIONAL) if proc.find(name) is None]
    if not any(verdict.firmware for verdict in verdicts):
        missing.append("ovmf")
    sections = (
        Section(title="Host", rows=(_architecture(), _accelerator(accel))),
        Section(
            title="Programs", rows=(*map(_program, needed), *(_program(name, use) for name, use in _OPTIONAL.items()))
        ),
        Section(title="Firmware", rows=_firmware(verdicts)),
        Section(title="Packages", rows=(*_kernel(), *_namespaces())),
        Section(
            title="Folders",
            rows=(_folder("cache", cache.root(), measure=True), _folder("run directories", rundir.base_directory())),
        ),
    )
    return Report(sections=sections, install=probe.install_command(missing) if missing else "")


def _architecture() -> Row:
    return _checked("architecture", probe.check_architecture, platform.machine)


def _accelerator(accel: str | None) -> Row:
    try:
        verdict = accelerator.choose(accel)
    except VmharnessError as error:
        return _failed("accelerator", error)
    fast = verdict.accelerator is Accelerator.KVM
    denied = "Permission denied" in verdict.reason
    remedy = f"sudo usermod -aG kvm {_user()}, then log in again" if denied else ""
    slow = "" if fast else " (works, several times slower than KVM)"
    return Row(ok=fast, name="accelerator", detail=verdict.reason + slow, remedy=remedy, required=False)


def _program(name: str, use: str = "") -> Row:
    path = proc.find(name)
    if path is None:
        purpose = f"not installed; {use}" if use else "not installed"
        return Row(ok=False, name=name, detail=purpose, remedy=probe.install_command([name]), required=not use)
    try:
        version = version_of(name)
        if name == probe.QEMU:
            probe.check_qemu(version)
    except VmharnessError as error:
        return _failed(name, error)
    return Row(ok=True, name=name, detail=f"{version}, {path}" if numbers(version) else str(path), required=not use)


def _firmware(verdicts: tuple[FirmwareVerdict, ...]) -> tuple[Row, ...]:
    """Every descriptor and what speaks for or against it; our own only where they lead to a file."""
    own = data_directory("firmware")
    taken = next((verdict for verdict in verdicts if verdict.firmware), None)
    rows = []
    for verdict in verdicts:
        path = verdict.descriptor
        if path is None or (taken and path.parent == own and verdict is not taken):
            continue
        word = "fits, but another comes first" if verdict.firmware else verdict.refusal
        detail = f"taken: {verdict.firmware.code}" if verdict is taken and verdict.firmware else f"not taken: {word}"
        rows.append(Row(ok=verdict is taken, name=str(path), detail=detail, required=False))
    if taken is None:
        remedy = probe.install_command(["ovmf"])
        rows.append(Row(ok=False, name="UEFI firmware", detail="no descriptor leads to one that fits", remedy=remedy))
    return tuple(rows)


def _kernel() -> tuple[Row, ...]:
    """The appliance's kernel, and, where it is still to come, the apt that it comes from."""
    cached = kernel.cached_kernel()
    if cached is not None:
        return (Row(ok=True, name="appliance kernel", detail=f"{cached.version}, in the cache"),)
    rows = [Row(ok=True, name="appliance kernel", detail="not in the cache yet; the first build downloads it")]
    if proc.find("apt-get") is None or proc.find("dpkg-deb") is None:
        remedy = "give a kernel with --kernel and --modules"
        rows.append(Row(ok=False, name="apt", detail="not installed, so no kernel can be downloaded", remedy=remedy))
    elif any(_APT_LISTS.glob("*_Packages*")):
        rows.append(Row(ok=True, name="apt", detail="package lists are there"))
    else:
        sudo = "" if os.geteuid() == 0 else "sudo "
        rows.append(Row(ok=False, name="apt", detail="package lists are missing", remedy=f"{sudo}apt-get update"))
    return tuple(rows)


def _namespaces() -> tuple[Row, ...]:
    """What an ordinary user needs for mmdebstrap: subordinate ids, and the kernel's leave to use them."""
    if os.geteuid() == 0:
        return ()
    user, names = _user(), ("/etc/subuid", "/etc/subgid")
    lacking = [name for name in names if not _has_entry(Path(name), user)]
    rows = [Row(ok=True, name="subordinate ids", detail=f"{user} has some", required=False)]
    if lacking or proc.find("newuidmap") is None:
        detail = f"{user} has no entry in {' and '.join(lacking)}" if lacking else "newuidmap is not installed"
        remedy = (
            f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            if lacking
            else probe.install_command(["newuidmap"])
        )
        rows = [
            Row(
                ok=False,
                name="subordinate ids",
                detail=f"{detail}; for `debian` root trees",
                remedy=remedy,
                required=False,
            )
        ]
    tried = proc.run_within(["unshare", "--user", "true"], seconds=5) if proc.find("unshare") else None
    works = tried is not None and tried.status == 0
    detail = "work" if works else "are not allowed here; for `debian` root trees"
    remedy = "" if works else "see the sysctl settings user.max_user_namespaces and kernel.unprivileged_userns_clone"
    return (*rows, Row(ok=works, name="user namespaces", detail=detail, remedy=remedy, required=False))


def _has_entry(file: Path, user: str) -> bool:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return False
    return any(line.split(":")[0] in {user, str(os.getuid())} for line in lines)


def _folder(name: str, place: Path, *, measure: bool = False) -> Row:
    """A folder that is written to: whether it can be, and the space around it."""
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        remedy = "set XDG_CACHE_HOME, or TMPDIR, to a folder that you may write"
        return Row(ok=False, name=name, detail=f"{place}: not writable", remedy=remedy)
    free = shutil.disk_usage(existing).free
    held = f", {_size_of(place) / MIB:.0f} MiB in it" if measure else ""
    detail = f"{place}{held}, {free / GIB:.1f} GiB free"
    enough = free >= _ENOUGH_SPACE
    return Row(ok=enough, name=name, detail=detail, remedy="" if enough else "free some space", required=False)


def _size_of(place: Path) -> int:
    """Bytes that a folder takes on the disk."""
    total = 0
    for base, _folders, files in os.walk(place):
        for file in files:
            try:
                total += Path(base, file).lstat().st_blocks * 512
            except OSError:  # another run tidied up
                continue
    return total


def _checked(name: str, check: Callable[[], None], detail: Callable[[], str]) -> Row:
    try:
        check()
    except VmharnessError as error:
        return _failed(name, error)
    return Row(ok=True, name=name, detail=detail())


def _failed(name: str, error: VmharnessError) -> Row:
    return Row(ok=False, name=name, detail=error.sentence(), remedy=error.hint or "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
