"""The benchmarks' own arithmetic and table: what is printed is what was measured, and a missed mark is shown."""

import io
import json
import os
import resource
import tarfile
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench import run
from bench.figures import AtMost, Figure, Of, Result, Verdict, cells, compared, table, to_data
from bench.measure import Sample, Stopwatch, interleave, timed
from bench.trees import make_archive, make_tree


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
