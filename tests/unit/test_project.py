"""The project as a whole: its packages, and the list of what it needs from the system."""

import os
import stat
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from vmharness.host import proc


def build(what: str, source: Path, into: Path) -> Path:
    """Build the wheel or the source distribution of ``source``, and return the file."""
    argv = [sys.executable, "-m", "hatchling", "build", "--target", what, "--directory", str(into)]
    subprocess.run(argv, cwd=source, check=True, capture_output=True)
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build("wheel", checkout, tmp_path_factory.mktemp("wheel"))


def data_files(top: Path) -> dict[str, tuple[bytes, bool]]:
    """The files under ``top``'s data folders by path: content, and whether it may be executed."""
    return {
        str(path.relative_to(top)): (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        for folder in ("guest-scripts", "firmware")
        for path in (top / folder).rglob("*")
        if path.is_file()
    }


def wheel_files(wheel: Path) -> dict[str, tuple[bytes, bool]]:
    """The same for what a wheel holds in its data folder."""
    prefix = "vmharness/_data/"
    with zipfile.ZipFile(wheel) as archive:
        return {
            member.filename.removeprefix(prefix): (
                archive.read(member),
                bool(member.external_attr >> 16 & stat.S_IXUSR),
            )
            for member in archive.infolist()
            if member.filename.startswith(prefix)
        }


def test_wheel_holds_scripts_and_descriptors(checkout: Path, wheel: Path) -> None:
    """Every guest script and firmware descriptor is in the wheel, byte by byte, and executable where it was."""
    expected = data_files(checkout)
    assert any(name.startswith("guest-scripts/") and executable for name, (_, executable) in expected.items())
    assert wheel_files(wheel) == expected


def test_wheel_holds_the_whole_package(checkout: Path, wheel: Path) -> None:
    """Every file of the package is in the wheel, those that are not Python included."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {path for path in (checkout / "vmharness").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {str(path.relative_to(checkout)) for path in files} <= names


def test_source_distribution_makes_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    """The source distribution has all that the wheel is made of."""
    sources = build("sdist", checkout, tmp_path / "sdist")
    subprocess.run(["tar", "-xf", sources, "-C", tmp_path], check=True)
    again = build("wheel", tmp_path / sources.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {item.filename: item.CRC for item in first.infolist()} == {
            item.filename: item.CRC for item in second.infolist()
        }


def test_installed_wheel_finds_its_data(wheel: Path, tmp_path: Path) -> None:
    """Installed from the wheel, away from the checkout, vmharness runs and finds its guest scripts."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    argv = [sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(argv, check=True, capture_output=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    # The dependencies come from the environment that runs the tests; an editable vmharness there is not seen this way.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    code = (
        "import os, vmharness; from vmharness.host.data import data_directory;"
        "print(vmharness.__file__); print(os.access(data_directory('guest-scripts') / 'agent', os.X_OK));"
        "print(data_directory('firmware'))"
    )
    argv = [str(python), "-I", "-c", code]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    assert said[0].startswith(str(packages))
    assert said[1] == "True"
    assert said[2].startswith(str(packages))
    for command in ([environment / "bin" / "vmharness"], [python, "-m", "vmharness"]):
        done = subprocess.run([*command, "--help"], check=True, capture_output=True, text=True, cwd=tmp_path)
        assert "build" in done.stdout


def listed_packages(checkout: Path) -> dict[str, str]:
    """The system packages of ``packages.txt`` and a program of each."""
    lines = (line.partition("#")[0].split() for line in (checkout / "packages.txt").read_text().splitlines())
    return {name.lstrip("+"): program for name, program in filter(None, lines)}


def test_an_answer_waits_for_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    """What "up to date" needs, in a pipe, brings neither the machine's libraries (asyncio, pexpect) nor rich."""
    program = "import sys, vmharness.cli.progress, vmharness.flows.build; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path)
    modules = said.stdout.split()
    assert "vmharness.flows.uptodate" in modules
    assert not {"asyncio", "pexpect", "qemu", "rich", "importlib.metadata"} & set(modules)


def test_missing_programs_name_a_listed_package(checkout: Path) -> None:
    """The package that an error tells people to install is one that ``./dev`` installs, so the two lists agree."""
    named = {package for package in proc._PACKAGES.values() if not package.startswith("the Python package")}
    on_every_debian = {"apt", "dpkg", "gzip", "util-linux"}
    assert named <= set(listed_packages(checkout)) | on_every_debian


def test_listed_programs_are_there(checkout: Path) -> None:
    """Each package of the list brings the program that stands beside it: after set-up all of them are found."""
    programs = {program for program in listed_packages(checkout).values() if program != "-"}
    assert {program for program in programs if proc.find(program) is None} == set()


def test_list_brings_no_kernel_and_no_boot_loader(checkout: Path) -> None:
    """Nothing that would change how the user's own machine boots is in the list."""
    unwanted = ("linux-image", "linux-base", "systemd-boot", "grub", "shim", "initramfs", "dracut", "busybox")
    text = (checkout / "packages.txt").read_text()
    installed = {line.split()[0] for line in text.splitlines() if line.strip() and line[0] not in "#+"}
    assert [name for name in sorted(installed) if name.startswith(unwanted)] == []


class TestDev:
    """``./dev`` on this machine, which is set up already or has no apt."""

    @pytest.fixture
    def bare_path(self, tmp_path: Path) -> dict[str, str]:
        """An environment whose PATH holds what ``./dev`` itself needs and nothing else: a system without apt."""
        folder = tmp_path / "bin"
        folder.mkdir()
        for program in ("sh", "readlink", "dirname", "id", "sed", "cat", "env"):
            found = proc.require(program)
            (folder / program).symlink_to(found)
        return {**os.environ, "PATH": str(folder)}

    def test_names_what_is_missing_without_apt(self, checkout: Path, bare_path: dict[str, str]) -> None:
        """Without apt it names the missing programs and stops with status 3, before it makes anything."""
        done = subprocess.run([checkout / "dev", "setup"], env=bare_path, check=False, capture_output=True, text=True)
        assert done.returncode == 3
        assert "no apt" in done.stderr
        assert "mmdebstrap (Debian: mmdebstrap)" in done.stderr
        assert "busybox (Debian: busybox-static)" in done.stderr

    def test_helps_from_anywhere(self, checkout: Path, tmp_path: Path) -> None:
        """Through a symlink in a folder with a blank, from another folder, it still finds its checkout."""
        folder = tmp_path / "other folder"
        folder.mkdir()
        (folder / "dev").symlink_to(checkout / "dev")
        done = subprocess.run(["./dev", "help"], cwd=folder, check=True, capture_output=True, text=True)
        assert done.stdout.startswith("usage: ./dev VERB")
