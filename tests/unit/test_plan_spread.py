"""Dividing a disk by weights and within limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.sizes import MIB
from vmharness.plan.spread import Item, spread

sizes = st.integers(0, 200).map(lambda count: count * MIB)
weights = st.integers(0, 1_000_000)


@st.composite
def items(draw: st.DrawFn) -> Item:
    """Any partition's limits."""
    least, padding = draw(sizes), draw(sizes)
    more = draw(st.none() | sizes)
    more_padding = draw(st.none() | sizes)
    return Item(
        least=least,
        most=None if more is None else least + more,
        weight=draw(weights),
        padding_least=padding,
        padding_most=None if more_padding is None else padding + more_padding,
        padding_weight=draw(weights),
    )


@given(wanted=st.lists(items(), min_size=1, max_size=8), spare=sizes)
def test_limits_hold_and_nothing_is_given_twice(wanted: list[Item], spare: int) -> None:
    """Whatever the weights, every size is aligned and within its limits, and all together are within the room."""
    room = sum(item.least + item.padding_least for item in wanted) + spare
    found = spread(wanted, room)
    for item, (size, padding) in zip(wanted, found, strict=True):
        assert size % MIB == padding % MIB == 0
        assert item.least <= size <= (size if item.most is None else item.most)
        assert item.padding_least <= padding <= (padding if item.padding_most is None else item.padding_most)
    assert sum(map(sum, found)) <= room


@given(spare=sizes, many=st.integers(1, 8))
def test_all_room_is_given_where_someone_may_have_it(spare: int, many: int) -> None:
    """Without greatest sizes nothing is left but what rounding leaves to nobody."""
    found = spread([Item(least=MIB, weight=weight + 1) for weight in range(many)], many * MIB + spare)
    assert sum(map(sum, found)) == many * MIB + spare


@pytest.mark.parametrize(
    ("wanted", "room", "found"),
    [
        # the manual's own example: of four bytes three go to home and one to swap
        ([Item(least=10, weight=1000), Item(least=64, most=1024, weight=333)], 400, [(300, 0), (100, 0)]),
        ([Item(least=10, weight=1000), Item(least=64, most=1024, weight=333)], 200, [(136, 0), (64, 0)]),
        ([Item(least=10, weight=1000), Item(least=64, most=1024, weight=333)], 8000, [(6976, 0), (1024, 0)]),
        ([Item(least=10, weight=1000, padding_weight=1000), Item(least=5, most=5)], 105, [(50, 50), (5, 0)]),
        ([Item(least=10), Item(least=20)], 100, [(10, 0), (20, 0)]),
    ],
)
def test_shares(wanted: list[Item], room: int, found: list[tuple[int, int]]) -> None:
    """Shares go by weight; what a limit takes or leaves is divided among the others (all sizes in MiB)."""

    def scaled(item: Item) -> Item:
        return Item(
            least=item.least * MIB,
            most=None if item.most is None else item.most * MIB,
            weight=item.weight,
            padding_weight=item.padding_weight,
        )

    assert spread([scaled(item) for item in wanted], room * MIB) == [(a * MIB, b * MIB) for a, b in found]
