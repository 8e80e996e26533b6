"""Identifiers from a seed."""

from uuid import UUID, uuid5

from attrs import asdict
from hypothesis import given
from hypothesis import strategies as st

from vmharness.model.image import GivenIdentifiers
from vmharness.plan.identity import NAMESPACE, derive


def test_rule_is_the_documented_one() -> None:
    """Anyone can recompute an identifier: version 5, our namespace, label and seed with a colon between."""
    identifiers = derive("debian")
    assert identifiers.root_guid == uuid5(NAMESPACE, "root-partition:debian")
    assert identifiers.esp_volume_id == int(str(uuid5(NAMESPACE, "esp-volume-id:debian"))[:8], 16)


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
    """Volume ids and the signature of an MBR are 32-bit numbers, and not the zero that means none."""
    identifiers = derive("x")
    for number in (identifiers.esp_volume_id, identifiers.boot_volume_id, identifiers.disk_signature):
        assert 0 < number < 2**32


def test_given_identifiers_stand() -> None:
    """What the user gives is taken as it is, and the others stay those of the seed."""
    given_ones = GivenIdentifiers(root_partition_guid=UUID(int=7), disk_signature=3, root_hash_seed=UUID(int=8))
    mine, derived = derive("x", given_ones), derive("x")
    assert (mine.root_guid, mine.disk_signature, mine.hash_seed) == (UUID(int=7), 3, UUID(int=8))
    assert (mine.disk_guid, mine.root_uuid, mine.esp_volume_id) == (
        derived.disk_guid,
        derived.root_uuid,
        derived.esp_volume_id,
    )
