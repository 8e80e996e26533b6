"""Dividing a disk among partitions and the free space between them, by weights and within limits (repart.d(5))."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, frozen

from vmharness.model.partitions import ALIGNMENT


@frozen(kw_only=True)
class Item:
    """A partition and the free space behind it: least and greatest sizes in bytes, whole multiples of the alignment.

    :param most: or None for no limit.
    """

    least: int
    most: int | None = None
    weight: int = 0
    padding_least: int = 0
    padding_most: int | None = None
    padding_weight: int = 0


@define
class _Span:
    least: int
    most: int | None
    weight: int
    size: int | None = None


def spread(items: Sequence[Item], room: int) -> list[tuple[int, int]]:
    """The size of each partition and of the free space behind it.

    Each gets its share of the room, by weight; where that is less or more than its limits allow, it gets the limit, and
    the others share what remains. What nothing may take stays free behind the last one.

    :param room: bytes, a multiple of the alignment; at least the sum of all least sizes.
    """
    spans = []
    for item in items:
        spans.append(_Span(item.least, item.most, item.weight))
        spans.append(_Span(item.padding_least, item.padding_most, item.padding_weight))
    # First those that must have more than their share, for they make all other shares smaller.
    while _settle(spans, room, too_small=True) or _settle(spans, room, too_small=False):
        pass
    free = [span for span in spans if span.size is None]
    left = room - sum(span.size for span in spans if span.size is not None)
    weight = sum(span.weight for span in free)
    for span in free:
        # of what is left now, so that rounding loses nothing
        share = left * span.weight // weight // ALIGNMENT * ALIGNMENT if weight else span.least
        span.size = share if span.most is None else min(share, span.most)
        left, weight = left - span.size, weight - span.weight
    sizes = [span.size or 0 for span in spans]
    return list(zip(sizes[::2], sizes[1::2], strict=True))


def _settle(spans: list[_Span], room: int, *, too_small: bool) -> bool:
    """Give their limit to those whose share is below it, or above it; say whether there were any."""
    free = [span for span in spans if span.size is None]
    left = room - sum(span.size for span in spans if span.size is not None)
    weight = sum(span.weight for span in free)
    settled = False
    for span in free:
        share = left * span.weight // weight // ALIGNMENT * ALIGNMENT if weight else 0
        if too_small and share <= span.least:
            span.size, settled = span.least, True
        elif not too_small and span.most is not None and share >= span.most:
            span.size, settled = span.most, True
    return settled
