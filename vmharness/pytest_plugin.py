"""The pytest plugin: images built once for all tests, a machine for each test, and evidence when one fails.

Heavy fixtures give *state*, never a running machine: a state is a value that any number of tests fork. See
``docs/testing-boot.md``.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from vmharness.errors import QemuError, VmharnessError
from vmharness.flows import build as building
from vmharness.flows.prepare import Options
from vmharness.host import accelerator as accelerators
from vmharness.host import tty
from vmharness.model.hardware import AcceleratorVerdict, Bus
from vmharness.model.outcome import Died
from vmharness.model.sizes import parse_size
from vmharness.testing import budget, evidence, state
from vmharness.testing.hardware import Hardware
from vmharness.testing.machine import Machine
from vmharness.testing.state import BootState

_MACHINES = pytest.StashKey[list[Machine]]()
_INFRASTRUCTURE = pytest.StashKey[bool]()

MachineFactory = Callable[..., Machine]
"""Makes a machine: ``vm_factory(state, hardware=...)``; without a state it boots the test's image."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``vmharness``."""
    group = parser.getgroup("vmharness", "booting images")
    group.addoption("--vmharness-image", metavar="FILE", help="image definition, or a build's output, that is tested")
    group.addoption("--vmharness-firmware", metavar="LIST", default="ovmf", help="firmwares to test: ovmf,bios,...")
    group.addoption("--vmharness-bus", metavar="LIST", default="virtio", help="buses to test: virtio,nvme,ahci,...")
    group.addoption("--vmharness-accel", default="auto", choices=("auto", "kvm", "tcg"), help="accelerator")
    group.addoption("--vmharness-time-scale", type=float, default=1.0, help="factor on every deadline of the machines")
    group.addoption("--vmharness-memory", metavar="SIZE", help="memory for all machines of all workers together")
    group.addoption("--vmharness-artefacts", metavar="DIR", help="folder for the evidence of failed tests")
    group.addoption("--vmharness-keep", action="store_true", help="keep the machines' run directories, always")
    group.addoption("--vmharness-hold", action="store_true", help="pause a failed machine and let a person look at it")
    parser.addini("vmharness_image", "image definition, or a build's output, that is tested", type="string")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "image(path): the image definition, or output folder, that the test boots")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which accelerator runs the guests, and why, where an image is to be booted."""
    if not (config.getoption("--vmharness-image") or config.getini("vmharness_image")):
        return None  # vmharness is installed, but these may be anybody's tests
    return f"vmharness accelerator: {accelerators.choose(config.getoption('--vmharness-accel')).reason}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that take ``firmware`` or ``bus`` once for each that was asked for."""
    for name in ("firmware", "bus"):
        if name in metafunc.fixturenames and not _given(metafunc, name):
            words = metafunc.config.getoption(f"--vmharness-{name}").split(",")
            metafunc.parametrize(name, words, indirect=True)


@pytest.fixture(scope="session")
def accelerator(request: pytest.FixtureRequest) -> AcceleratorVerdict:
    """The accelerator that runs the guests, and why."""
    return accelerators.choose(request.config.getoption("--vmharness-accel"))


@pytest.fixture
def firmware(request: pytest.FixtureRequest) -> str:
    """The firmware of the test's machines: a parameter, one of ``--vmharness-firmware``."""
    return str(request.param)


@pytest.fixture
def bus(request: pytest.FixtureRequest) -> Bus:
    """The bus of the disk: a parameter, one of ``--vmharness-bus``."""
    return Bus(request.param)


@pytest.fixture
def boot_state(request: pytest.FixtureRequest) -> BootState:
    """The state that the test's image boots from; built once for all tests and workers of this run.

    The image is the marker ``image``'s, or that of ``--vmharness-image`` or of the setting ``vmharness_image``.
    """
    return _state_of(_image(request), request.config)


@pytest.fixture
def installed(request: pytest.FixtureRequest, boot_state: BootState) -> BootState:
    """The state after the image's first boot to a login and an orderly end; made once for all tests and workers."""
    return _booted_once(boot_state, _image(request), request.config)


@pytest.fixture
def vm_factory(request: pytest.FixtureRequest) -> Iterator[MachineFactory]:
    """Makes machines for a test, not started; each ends with the test. Its evidence is kept if the test fails."""
    config, node = request.config, request.node
    machines = node.stash.setdefault(_MACHINES, [])
    with ExitStack() as ending:

        def make(boot: BootState | None = None, hardware: Hardware | None = None, **options: Any) -> Machine:
            chosen = hardware or Hardware(accelerator=config.getoption("--vmharness-accel"))
            ending.enter_context(budget.reserved(_shared(config) / "memory", chosen.memory, _budget(config)))
            start = boot if boot is not None else request.getfixturevalue("boot_state")
            machine = Machine(start, chosen, name=node.name, **options)
            machine.time_scale *= config.getoption("--vmharness-time-scale")
            machine.keep = config.getoption("--vmharness-keep")
            machines.append(machine)
            return ending.enter_context(machine)

        yield make


@pytest.fixture
def vm(vm_factory: MachineFactory) -> Machine:
    """A machine that boots a fork of the test's image; not started."""
    return vm_factory()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect the evidence of a failed test while its machines are still there."""
    report = yield
    if call.when == "call" and report.failed and call.excinfo is not None:
        verdict = str(call.excinfo.value).split("\n", 1)[0] or call.excinfo.typename
        for machine in item.stash.get(_MACHINES, []):
            machine.keep = True
            folder = _artefacts(item, machine)
            report.sections += evidence.collect(machine, folder, verdict)
            if item.config.getoption("--vmharness-hold"):
                _hold(item.config, machine)
    if call.excinfo is not None and _is_infrastructure(call.excinfo.value):
        item.stash[_INFRASTRUCTURE] = True
        report.sections.append(("vmharness", "QEMU failed, not the guest: an infrastructure failure"))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test once more when QEMU itself failed and not the guest; the first run is told of in the report."""
    if "vm_factory" not in getattr(item, "fixturenames", ()):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if item.stash.get(_INFRASTRUCTURE, False):
        item.stash[_INFRASTRUCTURE] = False
        item.stash[_MACHINES] = []
        item._initrequest()  # type: ignore[attr-defined]  # noqa: SLF001 -- fixtures are made anew; none is public
        first = next(report for report in reports if report.failed)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            report.sections.append(("vmharness: retried, since QEMU had failed", first.longreprtext))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _given(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether the test itself says which values the parameter has."""
    return any(name in marker.args[0] for marker in metafunc.definition.iter_markers("parametrize"))


def _image(request: pytest.FixtureRequest) -> Path:
    marker = request.node.get_closest_marker("image")
    named = marker.args[0] if marker else request.config.getoption("--vmharness-image")
    if named is not None:
        beside = request.path.parent / named if marker else Path(named)
        return beside.absolute()
    configured = request.config.getini("vmharness_image")
    if not configured:
        raise pytest.UsageError("no image to boot: mark the test with image(PATH), or give --vmharness-image")
    return Path(request.config.rootpath / configured)


def _shared(config: pytest.Config) -> Path:
    """A folder that all workers of this run share, and nobody else."""
    base = Path(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]  # noqa: SLF001 -- none is public
    folder = (base.parent if hasattr(config, "workerinput") else base) / "vmharness"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _turn(folder: Path, name: str) -> Iterator[Path]:
    """A folder that one worker at a time works in."""
    with (folder / f"{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / name


def _name_of(image: Path) -> str:
    return f"{image.stem[:16]}-{hashlib.sha256(os.fsencode(image)).hexdigest()[:8]}"


def _state_of(image: Path, config: pytest.Config) -> BootState:
    """The state of an output folder, or of a definition that is built unless its image is up to date."""
    if (image / "manifest.json").is_file():
        return BootState.of(image)
    with _turn(_shared(config), _name_of(image)) as output:
        building.build(image, output, Options(accel=config.getoption("--vmharness-accel")))
    return BootState.of(output)


def _booted_once(boot: BootState, image: Path, config: pytest.Config) -> BootState:
    with _turn(_shared(config), f"{_name_of(image)}-installed") as folder:
        if not folder.is_dir():
            aside = folder.with_suffix(".making")
            aside.mkdir()
            private = state.fork(boot, aside)
            with Machine(private, Hardware(accelerator=config.getoption("--vmharness-accel")), persist=True) as machine:
                machine.start()
                machine.expect_boot("login")
                machine.power_button()
                machine.expect_off()
            aside.rename(folder)
    return state.moved(boot, folder)


def _budget(config: pytest.Config) -> int:
    chosen = config.getoption("--vmharness-memory")
    return parse_size(chosen) if chosen else budget.available()


def _artefacts(item: pytest.Item, machine: Machine) -> Path:
    named = item.config.getoption("--vmharness-artefacts")
    base = Path(named) if named else machine.folder
    folder = base / "".join(letter if letter.isalnum() else "-" for letter in item.nodeid)[-80:] if named else base
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_infrastructure(error: BaseException) -> bool:
    """Whether QEMU, and not the guest, is at fault: it refused, or went away without the guest's doing."""
    if isinstance(error, QemuError):
        return True
    outcome = getattr(error, "outcome", None)
    return isinstance(outcome, Died) and outcome.reason.startswith("QEMU ")


def _hold(config: pytest.Config, machine: Machine) -> None:
    """Pause the machine and wait until the person has seen enough."""
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.suspend(in_=True)
    try:
        print(f"\n{machine.hold()}")  # noqa: T201 -- a person is asked
        while input("Enter goes on with the tests and ends the machine, c is its console: ").strip() == "c":
            _lend_console(machine)
    except EOFError:  # nobody is there, as under xdist
        print()  # noqa: T201 -- as above
    finally:
        capture.resume()


def _lend_console(machine: Machine) -> None:
    """Make the person's terminal the machine's console until Ctrl-] or the machine's end; otherwise it stands still."""
    print("Ctrl-] leaves the console")  # noqa: T201 -- a person is there
    with suppress(VmharnessError), tty.lent() as lent:
        machine.unpause()
        machine.log_out()
        machine.core.when_ended(lent.end)
        untap = machine.core.log.tap(tty.put)
        try:
            lent.run(machine.core.log.send)
        finally:
            untap()
            machine.pause()
    print()  # noqa: T201 -- as above
