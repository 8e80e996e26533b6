"""The project's sessions: ``nox`` lists and runs them, each in a virtual environment of its own.

``./dev test`` and its like run the same sessions in ``.venv`` (``nox --no-venv``), which has everything already.
"""

from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "docs", "tests"]
nox.options.reuse_venv = "yes"

PROJECT = nox.project.load_toml("pyproject.toml")


def needs(session: nox.Session, group: str) -> None:
    """Install the package and one of its dependency groups, unless the session runs in an environment that has them."""
    if session.venv_backend != "none":
        session.install("--editable", ".", *nox.project.dependency_groups(PROJECT, group))


def guest_scripts() -> list[str]:
    """Every script that runs in a guest, by its path."""
    files = sorted(Path("guest-scripts").rglob("[!.]*"))
    return [str(path) for path in files if path.is_file() and path.suffix in {"", ".sh"}]


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests that start no guest; with arguments, pytest with these."""
    needs(session, "test")
    session.run("pytest", *(session.posargs or ["--numprocesses=2", "--dist=worksteal", "tests/unit", "tests/fake"]))


@nox.session
def vm(session: nox.Session) -> None:
    """Run the tests that boot real guests (slow)."""
    needs(session, "test")
    # two guests at a time, whatever the host has: each wants a processor and up to 1 GiB of memory
    session.run("pytest", *(session.posargs or ["--numprocesses=2", "--dist=loadfile", "tests/vm"]))


@nox.session
def behaviours(session: nox.Session) -> None:
    """Run the tests of how bootloaders and firmware behave (slow), and print how long each took."""
    needs(session, "test")
    default = ["--numprocesses=2", "--dist=loadfile", "--durations=0", "tests/behaviours"]
    session.run("pytest", *(session.posargs or default))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, layers and shell scripts."""
    needs(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    examples = ("examples/oci/make-image", "examples/files/finish.sh", "examples/debian-installer/fetch")
    session.run("shellcheck", "dev", ".ci/run", *examples, external=True)
    session.run("shellcheck", "--shell=sh", *guest_scripts(), external=True)  # busybox' shell: hold it to POSIX


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    needs(session, "types")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the documents' links lead somewhere and that their examples are valid."""
    needs(session, "test")
    session.run("pytest", *(session.posargs or ["tests/docs"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, and print a table with ratios."""
    needs(session, "test")
    session.run("python", "bench/run.py", *session.posargs)
