"""How large a root filesystem must be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from vmharness.model.results import TreeMeasure
from vmharness.model.sizes import GIB, MIB
from vmharness.plan.sizing import journal_blocks, required_size, root_inodes, root_size

MEASURES = some.builds(
    TreeMeasure,
    data_blocks=some.integers(0, 5_000_000),
    inodes=some.integers(1, 300_000),
    directory_blocks=some.integers(1, 50_000),
    extra_blocks=some.integers(0, 50_000),
)
EMPTY = TreeMeasure(data_blocks=0, inodes=1, directory_blocks=1, extra_blocks=0)


@given(MEASURES, some.integers(0, 8 * GIB))
def test_more_never_needs_less(measure: TreeMeasure, additional: int) -> None:
    """Sizes are whole MiB, grow with the tree and with the wanted space, and leave room for both."""
    found = root_size(measure, additional)
    assert found.size % MIB == 0
    assert found.size >= measure.data_blocks * 4096 + additional
    assert found.inodes > measure.inodes
    assert root_size(measure + EMPTY, additional).size >= found.size
    assert root_size(measure, additional + MIB).size >= found.size


@given(MEASURES)
def test_the_required_size_leaves_nothing_over(measure: TreeMeasure) -> None:
    """What is required is what a filesystem without additional space has."""
    assert required_size(measure) == root_size(measure, 0).size


def test_inodes_follow_the_size() -> None:
    """A large filesystem has inodes to spare, one for each 16 KiB, besides the tree's."""
    assert root_inodes(EMPTY, GIB) - root_inodes(EMPTY, 0) == GIB // 16384


def test_the_journal_grows_in_steps() -> None:
    """4 MiB for the smallest, 1 GiB for the largest."""
    assert [journal_blocks(size) * 4096 // MIB for size in (16 * MIB, GIB, 4 * GIB, 200 * GIB)] == [4, 32, 64, 1024]
