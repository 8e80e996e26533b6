"""Packages and the appliance's kernel, from a real apt with a package archive of our own: no network, no privilege."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from vmharness.errors import HostError, SpecError
from vmharness.host import kernel, packages, proc

CLOUD = "linux-image-cloud-amd64"


@frozen
class Archive:
    """A package archive in a folder, and the apt that knows only it."""

    folder: Path

    def add(self, name: str, version: str, files: dict[str, bytes], depends: str = "") -> None:
        """Put a package into the archive; it counts after :meth:`update`."""
        tree = self.folder / "trees" / f"{name}-{version}"
        control = {"Package": name, "Version": version, "Architecture": "amd64", "Description": "test"}
        control |= {"Maintainer": "Test <test@example.org>"} | ({"Depends": depends} if depends else {})
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
        archive = self.folder / "repository" / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, archive], check=True, capture_output=True)
        about = {
            "Filename": f"./{archive.name}",
            "Size": str(archive.stat().st_size),
            "SHA256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        }
        with (self.folder / "repository/Packages").open("a") as index:
            index.write("".join(f"{key}: {value}\n" for key, value in {**control, **about}.items()) + "\n")

    def update(self) -> None:
        """Let apt read the archive's index."""
        subprocess.run(["apt-get", "update"], check=True, capture_output=True)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An empty archive; apt and the cache are this test's own."""
    for folder in ("repository", "state/lists/partial", "apt-cache/archives/partial", "trees"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "state/status").touch()
    (tmp_path / "repository/Packages").touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{tmp_path}/repository ./\n")
    settings = {
        "Dir::State": tmp_path / "state",
        "Dir::State::status": tmp_path / "state/status",
        "Dir::Cache": tmp_path / "apt-cache",
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "root",
        "Acquire::http::Proxy": "DIRECT",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Archive(tmp_path)


@pytest.fixture
def without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Hide all programs but the ones named."""

    def hide(*kept: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in kept:
            (folder / name).symlink_to(shutil.which(name) or name)
        monkeypatch.setattr(proc, "environment", lambda extra=None: {**os.environ, "PATH": str(folder)})

    return hide


def bz_image(version: str) -> bytes:
    """The head of a bzImage of that version."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    text = f"{version} (builder@host) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


def add_kernel(archive: Archive, abi: str, *, library: str = "lib") -> str:
    """Put a cloud kernel and the meta package that names it into the archive."""
    version = f"{abi}-cloud-amd64"
    files = {
        f"boot/vmlinuz-{version}": bz_image(version),
        f"{library}/modules/{version}/kernel/fs/fat.ko": b"module",
    }
    archive.add(f"linux-image-{version}", f"{abi}.1", files)
    archive.add(CLOUD, f"{abi}.1", {}, depends=f"linux-image-{version} (= {abi}.1)")
    archive.update()
    return version


def test_packages_are_unpacked_without_being_installed(archive: Archive) -> None:
    """Several packages end in one tree; the folder holds no archives any more."""
    archive.add("hello", "1:1.0-1", {"usr/share/hello/file": b"hi"})
    archive.add("world", "2", {"usr/share/world/file": b"all"})
    archive.update()
    tree = packages.unpack(["world", "hello"])
    assert (tree / "usr/share/hello/file").read_bytes() == b"hi"
    assert (tree / "usr/share/world/file").read_bytes() == b"all"
    assert not list(tree.parent.rglob("*.deb"))
    assert "hello_1%3a1.0-1_amd64.deb" in (tree.parent / "packages").read_text()


def test_unpacked_packages_need_no_apt_again(archive: Archive, without_programs: Callable[..., None]) -> None:
    """What was unpacked once is found without apt, without lists, in any order of the names."""
    archive.add("hello", "1", {"file": b"hi"})
    archive.add("world", "1", {"other": b"hi"})
    archive.update()
    first = packages.unpack(["hello", "world"])
    without_programs()
    assert packages.unpack(["world", "hello", "hello"]) == first


def test_dependencies_that_are_not_installed_come_along(
    archive: Archive, without_programs: Callable[..., None]
) -> None:
    """With ``dependencies``, what a package needs and this host lacks is unpacked with it, once and for all."""
    archive.add("tool", "1", {"usr/sbin/tool": b"program"}, depends="libtool")
    archive.add("libtool", "2", {"usr/lib/libtool.so.2": b"library"})
    archive.add("bystander", "1", {"usr/lib/bystander": b"nothing"})
    archive.update()
    tree = packages.unpack(["tool"], dependencies=True)
    assert {path.name for path in tree.rglob("*") if path.is_file()} == {"tool", "libtool.so.2"}
    assert packages.cached(["tool"]) is None
    without_programs()
    assert packages.unpack(["tool"], dependencies=True) == tree


def test_an_unknown_package_is_refused(archive: Archive) -> None:
    """The words of apt are shown, with the usual cause, and nothing stays in the cache."""
    with pytest.raises(HostError, match="Unable to locate package nonesuch") as refusal:
        packages.unpack(["nonesuch"], otherwise="or do without")
    assert refusal.value.hint is not None
    assert "apt-get update" in refusal.value.hint
    assert refusal.value.hint.endswith("; or do without")
    assert packages.cached(["nonesuch"]) is None


def test_a_host_without_apt_is_told_what_to_do(archive: Archive, without_programs: Callable[..., None]) -> None:
    """Where there is no apt, the hint is the caller's other way."""
    without_programs()
    with pytest.raises(HostError, match="no apt") as refusal:
        packages.unpack(["hello"], otherwise="give it by path")
    assert refusal.value.hint == "give it by path"


def test_an_archive_out_of_reach_is_a_matter_of_the_network(archive: Archive) -> None:
    """When apt cannot connect, the hint speaks of the network, and no half entry is left."""
    archive.add("hello", "1", {"file": b"hi"})
    archive.update()
    listed = next((archive.folder / "state/lists").glob("*_Packages"))
    listed.rename(listed.with_name("127.0.0.1:1_repository_._Packages"))
    (archive.folder / "sources.list").write_text("deb [trusted=yes] http://127.0.0.1:1/repository ./\n")
    with pytest.raises(HostError, match="cannot download") as refusal:
        packages.unpack(["hello"])
    assert "network" in str(refusal.value.hint)
    entries = (archive.folder / "cache/vmharness/packages/hello").iterdir()
    assert [entry for entry in entries if entry.is_dir()] == []
    assert packages.cached(["hello"]) is None


@pytest.mark.parametrize("library", ["lib", "usr/lib"])
def test_the_cloud_kernel_is_what_the_meta_package_depends_on(archive: Archive, library: str) -> None:
    """The kernel comes with its image, its modules (also below /usr, as in Debian 13) and its version."""
    version = add_kernel(archive, "6.1.0-7", library=library)
    found = kernel.appliance_kernel()
    assert found.version == version
    assert kernel.image_version(found.image) == version
    assert (found.modules / "kernel/fs/fat.ko").read_bytes() == b"module"


def test_the_newest_cached_kernel_is_used_offline(archive: Archive, without_programs: Callable[..., None]) -> None:
    """With kernels in the cache no program is run, and 6.1.0-10 is newer than 6.1.0-9."""
    for abi in ("6.1.0-10", "6.1.0-9"):
        packages.unpack([f"linux-image-{add_kernel(archive, abi)}"])
    without_programs()
    assert kernel.appliance_kernel().version == "6.1.0-10-cloud-amd64"


def test_lists_without_a_cloud_kernel_are_named(archive: Archive) -> None:
    """Where apt does not know the cloud kernel, both ways out are in the hint."""
    archive.update()
    with pytest.raises(HostError, match=CLOUD) as refusal:
        kernel.appliance_kernel()
    assert refusal.value.hint is not None
    assert "apt-get update" in refusal.value.hint
    assert "--kernel" in refusal.value.hint


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    """A kernel image and the folder ``lib/modules`` that holds its modules."""
    image = tmp_path / "vmlinuz"
    image.write_bytes(bz_image("5.10.0-test"))
    (tmp_path / "modules/5.10.0-test/kernel").mkdir(parents=True)
    return image, tmp_path / "modules"


def test_a_kernel_given_by_path_is_taken(given: tuple[Path, Path]) -> None:
    """``lib/modules`` and ``lib/modules/VERSION`` are the same where there is one version."""
    image, modules = given
    found = kernel.appliance_kernel(image, modules)
    assert (found.image, found.modules, found.version) == (image, modules / "5.10.0-test", "5.10.0-test")
    assert kernel.appliance_kernel(image, modules / "5.10.0-test") == found


def test_kernel_and_modules_must_belong_together(given: tuple[Path, Path]) -> None:
    """Modules of another version are refused, with both versions in the sentence."""
    image, modules = given
    image.write_bytes(bz_image("6.6.6-other"))
    with pytest.raises(SpecError, match=r"6\.6\.6-other.*5\.10\.0-test"):
        kernel.appliance_kernel(image, modules)


def test_a_wrong_kernel_is_refused(given: tuple[Path, Path], tmp_path: Path) -> None:
    """One of the two missing, a file that is no kernel, one that is not there, folders without modules or with two."""
    image, modules = given
    with pytest.raises(SpecError, match="go together"):
        kernel.appliance_kernel(image, None)
    with pytest.raises(SpecError, match="No such file"):
        kernel.appliance_kernel(tmp_path / "absent", modules)
    with pytest.raises(SpecError, match="no kernel's modules"):
        kernel.appliance_kernel(image, tmp_path / "absent")
    (modules / "5.10.0-more/kernel").mkdir(parents=True)
    with pytest.raises(SpecError, match="2 kernels' modules"):
        kernel.appliance_kernel(image, modules)
    image.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(SpecError, match="not a Linux kernel"):
        kernel.appliance_kernel(image, modules / "5.10.0-test")
