"""What is read again and has not changed stays the very same object, so that what was made of it is kept."""

from __future__ import annotations

from dataclasses import replace

from contextual_bandit.similarity import Similarity
from contextual_bandit.types import Offer
from decision_service.held import Catalogue, Precomputed, make_catalogue, same_where_equal

OFFERS = [Offer("o1", "a"), Offer("o2", "b")]


def test_an_unchanged_catalogue_is_the_one_from_before() -> None:
    first = make_catalogue(1, OFFERS, Catalogue())
    assert make_catalogue(1, [replace(offer) for offer in OFFERS], first) is first
    for version, offers in ((2, OFFERS), (1, OFFERS[:1]), (1, [OFFERS[0], replace(OFFERS[1], price=2.0)])):
        changed = make_catalogue(version, offers, first)
        assert changed is not first
        assert list(changed.offers.values()) == offers


def test_unchanged_values_are_those_from_before() -> None:
    first = Precomputed().with_value("similarity", Similarity({"a": {"b": 0.5}}).encode())
    assert first.with_value("similarity", Similarity({"a": {"b": 0.5}}).encode()) is first
    assert first.with_value("similarity", Similarity().encode()).similarity == Similarity()


def test_equal_records_are_those_from_before() -> None:
    before = {"o1": OFFERS[0], "o2": OFFERS[1], "o3": OFFERS[0]}
    found = same_where_equal(before, {"o1": replace(OFFERS[0]), "o2": replace(OFFERS[1], price=2.0), "o4": OFFERS[1]})
    assert found["o1"] is before["o1"]
    assert found["o2"].price == 2.0
    assert list(found) == ["o1", "o2", "o4"]
