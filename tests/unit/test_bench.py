"""The benchmarks' own arithmetic and table: what is printed is what was measured, and a missed mark is shown."""

import io
import json
import os
import resource
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench import images, libguestfs, run
from bench.archive import Archive
from bench.builds import PHASE
from bench.context import Context, Skip
from bench.figures import AtMost, Figure, Of, Result, Verdict, cells, compared, table, to_data
from bench.measure import Sample, Stopwatch, interleave, timed
from bench.picture import draw
from bench.population import measure_many_bytes, measure_many_entries
from bench.trees import make_archive, make_tree
from vmharness.model.hardware import Accelerator


def figure(samples: tuple[float, ...], reference: tuple[float, ...] = (), wanted: AtMost | None = None) -> Figure:
    """A figure in seconds."""
    return Figure(
        what="ours", unit="s", samples=samples, reference="theirs", reference_samples=reference, wanted=wanted
    )


def test_value_and_reference_are_medians() -> None:
    """One round that went astray changes neither side."""
    taken = figure((2.0, 90.0, 1.0), (4.0, 0.1, 5.0))
    assert (taken.value, taken.reference_value, taken.ratio) == (2.0, 4.0, 0.5)


def test_figure_without_reference_has_no_ratio() -> None:
    """Where nothing is compared there is no ratio, and where nothing is wanted no verdict."""
    taken = figure((2.0,))
    assert (taken.reference_value, taken.ratio, taken.verdict) == (None, None, Verdict.OPEN)


@pytest.mark.parametrize(
    ("wanted", "verdict"),
    [
        (AtMost(limit=0.5, of=Of.RATIO), Verdict.MET),
        (AtMost(limit=0.49, of=Of.RATIO), Verdict.MISSED),
        (AtMost(limit=2.0, of=Of.VALUE), Verdict.MET),
        (AtMost(limit=1.99, of=Of.VALUE), Verdict.MISSED),
    ],
)
def test_verdict_is_on_what_is_marked(wanted: AtMost, verdict: Verdict) -> None:
    """A mark on the ratio looks at the ratio, one on the value at the value; reaching it exactly is enough."""
    assert figure((2.0,), (4.0,), wanted).verdict is verdict


def test_mark_on_a_missing_ratio_is_missed() -> None:
    """Without a reference, a mark on the ratio never passes for met."""
    assert figure((2.0,), (), AtMost(limit=9.0, of=Of.RATIO)).verdict is Verdict.MISSED


def test_comparison_has_a_line_for_cpu_and_one_for_the_clock() -> None:
    """Both kinds of time are taken from the right field, in the order of the rounds, under the same mark."""
    mine, theirs = [Sample(wall=3.0, cpu=1.0), Sample(wall=4.0, cpu=2.0)], [Sample(wall=6.0, cpu=5.0)]
    cpu, wall = compared("ours", mine, "theirs", theirs, at_most=0.7)
    assert (cpu.unit, cpu.samples, cpu.reference_samples) == ("s CPU", (1.0, 2.0), (5.0,))
    assert (wall.unit, wall.samples, wall.reference_samples) == ("s", (3.0, 4.0), (6.0,))
    assert cpu.wanted == wall.wanted == AtMost(limit=0.7, of=Of.RATIO)


def test_contenders_take_turns() -> None:
    """Every contender runs once a round, and the order is turned round each time."""
    order: list[str] = []

    def contender(name: str) -> Sample:
        order.append(name)
        return Sample(wall=float(len(order)), cpu=0.0)

    taken = interleave({name: lambda name=name: contender(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert [sample.wall for sample in taken["b"]] == [2.0, 5.0, 8.0]


def test_time_counts_the_programs_that_were_run() -> None:
    """A sample has the CPU of ended children, too."""

    def work() -> None:
        child = os.posix_spawn("/bin/sh", ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"], {})
        os.waitpid(child, 0)

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    sample = timed(work)
    assert sample.cpu >= resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before > 0


def test_stopped_clock_stands_still() -> None:
    """What happens after the clock was stopped is not on it."""
    watch = Stopwatch()
    watch.stop()
    first = watch.sample()
    threading.Event().wait(0.01)
    assert watch.sample().wall == first.wall


def test_table_shows_a_missed_mark() -> None:
    """A line has value, reference, ratio, mark and verdict, and a missed one says so."""
    line = cells(figure((3.0,), (2.0,), AtMost(limit=1.2, of=Of.RATIO)))
    assert line == ("ours", "theirs", "3.00 s", "2.00 s", "1.50", "≤ 1.2", "missed")


def test_table_names_the_unit_of_a_mark_on_the_value() -> None:
    """A limit that is not a ratio has its unit; megabytes have no decimals."""
    taken = Figure(what="memory", unit="MB", samples=(61.4,), wanted=AtMost(limit=150, of=Of.VALUE))
    assert cells(taken) == ("memory", "", "61 MB", "", "", "≤ 150 MB", "met")


def test_table_is_markdown() -> None:
    """The printed table can be taken into a document as it is: a heading, a rule, and a line for each figure."""
    printed = io.StringIO()
    shown = table([Result(name="one", figures=(figure((3.0,)),)), Result(name="two", figures=(figure((4.0,)),))])
    Console(file=printed, width=200).print(shown)
    lines = [line for line in printed.getvalue().splitlines() if line.strip()]
    assert lines[0].startswith("| what")
    assert set(lines[1]) == set("|-")
    assert ["3.00 s" in lines[2], "4.00 s" in lines[3], len(lines)] == [True, True, 4]


def test_json_has_samples_medians_and_verdicts() -> None:
    """What is written for programs can be read back, with everything that the table has."""
    result = Result(name="one", figures=(figure((3.0, 1.0, 2.0), (4.0,), AtMost(limit=0.4, of=Of.RATIO)),), others=0.5)
    data, skipped = json.loads(json.dumps(to_data([result, Result(name="two", skipped="not here")])))
    (line,) = data["figures"]
    assert (data["name"], data["others"], data["skipped"]) == ("one", 0.5, "")
    assert (skipped["figures"], skipped["skipped"]) == ([], "not here")
    assert (line["samples"], line["value"], line["ratio"]) == ([3.0, 1.0, 2.0], 2.0, 0.5)
    assert (line["wanted"], line["verdict"]) == ({"limit": 0.4, "of": "ratio"}, "missed")


def test_generated_tree_is_the_same_each_time(tmp_path: Path) -> None:
    """The tree has the number of entries and about the data that were asked for, and comes out alike twice."""
    found = []
    for name in ("first", "second"):
        make_tree(tmp_path / name, entries=300, data=1_000_000)
        paths = sorted((tmp_path / name).rglob("*"))
        found.append(
            [(str(path.relative_to(tmp_path / name)), path.lstat().st_size) for path in paths if not path.is_dir()]
        )
        assert len(paths) == 300
    assert found[0] == found[1]
    assert 0.9e6 < sum(size for _, size in found[0]) < 1.1e6


def test_generated_archive_is_a_tar(tmp_path: Path) -> None:
    """The archive is one that others read, with the number of entries that was asked for."""
    make_archive(tmp_path / "tree.tar", entries=250)
    with tarfile.open(tmp_path / "tree.tar") as archive:
        members = archive.getmembers()
        content = archive.extractfile("folder-200/file-249")
        assert content is not None
        assert len(content.read()) == 200
    assert [len(members), sum(member.isdir() for member in members)] == [250, 3]


def test_unknown_benchmark_is_refused() -> None:
    """A name that there is not is an error that lists those there are, before anything is measured."""
    done = CliRunner().invoke(run.main, ["--only", "startup,nonsense"])
    assert done.exit_code == 2
    assert "unknown: nonsense; there are startup, appliance" in done.output


def test_archive_of_one_folder(tmp_path: Path) -> None:
    """All entries can be asked for in one folder: itself, and the files in it."""
    make_archive(tmp_path / "tree.tar", entries=250, per_folder=250)
    with tarfile.open(tmp_path / "tree.tar") as archive:
        assert [member.name for member in archive if member.isdir()] == ["folder-0"]


def test_large_file_is_written_whole(tmp_path: Path) -> None:
    """A file longer than what is written at once has its length and no zeros instead of data."""
    make_tree(tmp_path / "tree", entries=3, data=5_000_000)
    contents = [path.read_bytes() for path in (tmp_path / "tree").rglob("file-*") if path.is_file()]
    assert 4.9e6 < sum(map(len, contents)) <= 5e6
    assert all(bytes(64) not in content for content in contents)


def phase(name: str, seconds: float) -> Figure:
    """One phase of a build."""
    return Figure(what=f"{PHASE}{name}", unit="s", samples=(seconds,))


def test_picture_has_a_bar_for_each_phase() -> None:
    """Bars are as long as the phases took, on one scale for all builds; other figures and benchmarks are left out."""
    data = to_data(
        [
            Result(name="startup", figures=(phase("not a build", 9.0),)),
            Result(name="minimal", figures=(figure((8.0,)), phase("mount & <graft>", 1.0))),
            Result(name="debian", figures=(phase("make", 4.0), phase("verify", 2.0))),
        ]
    )
    page = ET.fromstring(draw(data, "a machine"))  # noqa: S314 -- our own
    name = "{http://www.w3.org/2000/svg}"
    widths = [float(bar.attrib["width"]) for bar in page.iter(f"{name}rect") if "class" not in bar.attrib]
    assert widths == pytest.approx([widths[1] / 4, widths[1], widths[1] / 2], abs=0.1)
    texts = [text.text for text in page.iter(f"{name}text")]
    assert {"mount & <graft>", "make", "verify", "4.00"} <= set(texts)
    assert "not a build" not in texts
    assert "The Debian example, from its cached tree: 6.0 s" in texts


def test_picture_of_nothing_is_a_picture() -> None:
    """A run without builds draws an empty page rather than failing."""
    assert ET.fromstring(draw([], "a machine")).attrib["role"] == "img"  # noqa: S314 -- our own


def context(tmp_path: Path, **changes: bool) -> Context:
    """What a benchmark is given."""
    chosen = {"full": False, "large": False, **changes}
    return Context(rounds=1, scratch=tmp_path, accelerator=Accelerator.TCG, say=lambda _line: None, **chosen)


@pytest.mark.parametrize("measure", [measure_many_bytes, measure_many_entries])
def test_large_trees_are_only_made_when_asked_for(
    measure: Callable[[Context], tuple[Figure, ...]], tmp_path: Path
) -> None:
    """Without the option nothing is written, and the reason names the option."""
    with pytest.raises(Skip, match="--large"):
        measure(context(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "name", "usable"),
    [
        ("", "mkosi 26: not installed", False),
        ("mkosi 14", "mkosi 26: 14 is installed", False),
        ("mkosi 26.1", "mkosi 26.1", True),
        ("mkosi 27~devel", "mkosi 27~devel", True),
    ],
)
def test_row_of_a_peer_says_what_is_missing(
    said: str, name: str, usable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that is missing or too old is named as such and not run, and its row has no verdict."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if said:
        (folder / "mkosi").write_text(f"#!/bin/sh\necho '{said}'\n")
        (folder / "mkosi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    archive = Archive(path=tmp_path / "tar", tree=tmp_path, kernel=Path("boot/k"), initrd=Path("boot/i"))
    assert libguestfs.version() is None
    peers = {peer.name: peer.build is not None for peer in images.peers(context(tmp_path), archive)}
    assert peers == {"the floor without a guest": True, name: usable, "guestfish with bootctl: not installed": False}
    assert (tmp_path / "mkosi" / "mkosi.conf").exists() is usable
    ours = (Sample(wall=2.0, cpu=1.0),)
    verdicts = [line.verdict for line in images.against("ours", ours, name, (), 0.75)]
    assert verdicts == [Verdict.OPEN, Verdict.OPEN]


def test_mark_of_a_peer_is_on_cpu_seconds() -> None:
    """Where a peer ran, the mark judges CPU seconds, and the clock has none."""
    ours, theirs = (Sample(wall=9.0, cpu=3.0),), (Sample(wall=1.0, cpu=3.0),)
    cpu, wall = images.against("ours", ours, "theirs", theirs, 0.75)
    assert (cpu.verdict, wall.verdict) == (Verdict.MISSED, Verdict.OPEN)
