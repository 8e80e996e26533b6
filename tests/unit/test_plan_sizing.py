"""How large a root filesystem must be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some

from vmharness.model.results import TreeMeasure
from vmharness.model.sizes import GIB, MIB
from vmharness.plan.sizing import geometry, journal_blocks, required_size, root_inodes, root_size, root_within

MEASURES = some.builds(
    TreeMeasure,
    data_blocks=some.integers(0, 5_000_000),
    inodes=some.integers(1, 300_000),
    directory_blocks=some.integers(1, 50_000),
    extra_blocks=some.integers(0, 50_000),
)
EMPTY = TreeMeasure(data_blocks=0, inodes=1, directory_blocks=1, extra_blocks=0)


@settings(deadline=None)
@given(MEASURES, some.integers(0, 8 * GIB))
def test_more_never_needs_less(measure: TreeMeasure, additional: int) -> None:
    """Sizes are whole MiB, grow with the tree and with the wanted space, and leave room for both."""
    found = root_size(measure, additional)
    assert found.size % MIB == 0
    assert found.size >= measure.data_blocks * 4096 + additional
    assert found.inodes > measure.inodes
    assert root_size(measure + EMPTY, additional).size >= found.size
    assert root_size(measure, additional + MIB).size >= found.size


@settings(deadline=None)
@given(MEASURES)
def test_the_required_size_leaves_nothing_over(measure: TreeMeasure) -> None:
    """What is required is what a filesystem without additional space has."""
    assert required_size(measure) == root_size(measure, 0).size


@settings(deadline=None)
@given(MEASURES, some.sampled_from([0, MIB, GIB]), some.integers(0, GIB))
def test_more_room_never_refuses_what_less_holds(measure: TreeMeasure, additional: int, more: int) -> None:
    """In any room that is large enough there is a filesystem: nearly as large, made whole, with inodes for the tree."""
    required = root_size(measure, additional)
    assert root_within(measure, additional, required.size) == required
    found = root_within(measure, additional, required.size + more)
    assert required.size <= found.size <= required.size + more
    assert geometry(found.size // 4096, found.inodes).blocks == found.size // 4096
    assert found.inodes > measure.inodes


def test_a_small_last_group_is_left_out() -> None:
    """A filesystem of one block group and 1 MiB would lose the 1 MiB: it is not made so large."""
    assert geometry(32768 + 256, 8192).blocks == 32768
    assert root_within(EMPTY, 0, 129 * MIB).size == 128 * MIB
    assert root_within(EMPTY, 0, 160 * MIB).size == 160 * MIB


def test_inodes_follow_the_size() -> None:
    """A large filesystem has inodes to spare, one for each 16 KiB, besides the tree's."""
    assert root_inodes(EMPTY, GIB) - root_inodes(EMPTY, 0) == GIB // 16384


def test_the_journal_grows_in_steps() -> None:
    """4 MiB for the smallest, 1 GiB for the largest."""
    assert [journal_blocks(size) * 4096 // MIB for size in (16 * MIB, GIB, 4 * GIB, 200 * GIB)] == [4, 32, 64, 1024]
