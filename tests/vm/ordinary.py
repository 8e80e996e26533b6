"""Runs vmharness as an ordinary user, whoever runs the tests: nothing of root's is used, not even the checkout."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running import PROGRAM, Workplace

from vmharness.host import proc

NOBODY = 65534
CHECKOUT = Path(__file__).resolve().parents[2]


@contextmanager
def ordinary_workplace(folder: Path) -> Iterator[Workplace]:
    """A workplace of an ordinary user with a home, a cache and a temporary folder of its own.

    Where the tests run as root it is elsewhere than ``folder``, since pytest keeps its folders from other users, and
    it has a copy of the program, since the checkout may lie where others cannot read.
    """
    if os.getuid() != 0:
        yield Workplace(folder=folder, environment=_environment(folder))
        return
    with tempfile.TemporaryDirectory(prefix="vmharness-test-", dir="/var/tmp") as name:
        top = Path(name)
        top.chmod(0o755)
        work = top / "work"
        work.mkdir()
        environment = {**_environment(work), "PYTHONPATH": str(_program(top / "program"))}
        os.chown(work, NOBODY, NOBODY)
        user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
        python = top / "program" / "bin" / "python3"
        yield Workplace(folder=work, command=(*user, str(python), *PROGRAM[1:]), environment=environment)


def _environment(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}


def _program(target: Path) -> Path:
    """A copy of vmharness and of all that it needs, which everybody can read; gives the folder for PYTHONPATH."""
    packages = target / "packages"
    for folder in ("vmharness", "guest-scripts", "firmware"):
        shutil.copytree(CHECKOUT / folder, packages / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for distribution in _needed("vmharness"):
        for file in distribution.files or ():
            if file.parts[0] != ".." and file.suffix != ".pyc" and not file.name.endswith(".pth"):
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    programs = target / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    for script in importlib.metadata.entry_points(group="console_scripts", name="virt-fw-vars"):
        call = f"import sys\nfrom {script.module} import {script.attr}\nsys.exit({script.attr}())\n"
        (programs / script.name).write_text(f"#!{programs}/python3\n{call}")
        (programs / script.name).chmod(0o755)
    proc.run(["chmod", "-R", "a+rX", target], doing="opening the copy of the program to everybody")
    return packages


def _needed(name: str) -> list[importlib.metadata.Distribution]:
    """Every distribution that ``name`` needs, as installed, without itself."""
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = [name]
    while todo:
        for wanted in importlib.metadata.requires(todo.pop()) or ():
            match = re.match(r"[\w.-]+", wanted)
            assert match is not None
            known = match[0].lower().replace("_", "-")
            if "extra ==" in wanted or known in found:
                continue
            try:
                found[known] = importlib.metadata.distribution(known)
            except importlib.metadata.PackageNotFoundError:
                continue  # for another Python or platform
            todo.append(known)
    return list(found.values())
