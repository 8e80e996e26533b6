"""Identifiers from a seed."""

from uuid import uuid5

from attrs import asdict
from hypothesis import given
from hypothesis import strategies as st

from vmharness.plan.identity import NAMESPACE, derive


def test_rule_is_the_documented_one() -> None:
    """Anyone can recompute an identifier: version 5, our namespace, label and seed with a colon between."""
    identifiers = derive("debian")
    assert identifiers.root_guid == uuid5(NAMESPACE, "root-partition:debian")
    assert identifiers.volume_id == int(str(uuid5(NAMESPACE, "esp-volume-id:debian"))[:8], 16)


def test_values_stay() -> None:
    """The derivation is part of the format: an image built next year from the same seed has the same identifiers."""
    identifiers = derive("debian")
    assert str(identifiers.disk_guid) == "dbddbaf0-c046-54cd-a438-05cfde65fcfb"
    assert str(identifiers.root_uuid) == "04a49cc0-7557-51ed-822b-0f1b4daa7daa"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_identifier_is_used_twice(seed: str) -> None:
    """Whatever the seed, all identifiers differ from each other, and from those of another seed."""
    mine = list(asdict(derive(seed)).values())
    others = list(asdict(derive(seed + "x")).values())
    assert len({*mine, *others}) == len(mine) + len(others)


def test_volume_id_fits_fat() -> None:
    """The volume id is a 32-bit number."""
    assert 0 <= derive("x").volume_id < 2**32
