"""Similarity: the customer's purchases seen through what is bought together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.similarity import Similarity, decode_similarity

BREAKFAST = Similarity(
    {
        "milk": {"cereal": 0.8, "bread": 0.4},
        "cereal": {"milk": 0.8},
        "paint": {"brushes": 0.9},
    },
    {"offer-1": {"offer-2": 0.5}},
)


def test_affinity_is_the_weighted_mean_over_the_neighbours() -> None:
    assert BREAKFAST.affinity({"cereal": 3.0, "bread": 1.5}, "milk") == round((0.8 * 3.0 + 0.4 * 1.5) / 1.2, 3)


def test_a_neighbour_never_bought_counts_as_none() -> None:
    assert BREAKFAST.affinity({"cereal": 3.0}, "milk") == 2.0
    assert BREAKFAST.affinity({"bread": 3.0}, "milk") == 1.0


def test_the_category_itself_does_not_count() -> None:
    assert BREAKFAST.affinity({"milk": 9.0}, "milk") == 0.0
    own = Similarity({"milk": {"milk": 1.0, "cereal": 0.5}})
    assert own.affinity({"milk": 9.0, "cereal": 2.0}, "milk") == 2.0


@pytest.mark.parametrize("category", ["milk", "paint", "never heard of"])
def test_without_history_or_neighbours_it_is_zero(category: str) -> None:
    assert BREAKFAST.affinity({}, category) == 0.0
    assert Similarity().affinity({"cereal": 3.0}, category) == 0.0
    assert decode_similarity(b"").affinity({"cereal": 3.0}, category) == 0.0


def test_offers_have_neighbours_of_their_own() -> None:
    assert BREAKFAST.offer_affinity({"offer-2": 4.0}, "offer-1") == 4.0
    assert BREAKFAST.offer_affinity({"cereal": 4.0}, "milk") == 0.0


def test_neighbours_come_back_equal_and_in_order() -> None:
    again = decode_similarity(BREAKFAST.encode())
    assert again == BREAKFAST
    assert list(again.categories["milk"]) == ["cereal", "bread"]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.0001, 1.0)),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.0, 500.0)),
)
def test_it_lies_between_the_least_and_the_most_bought(near: dict[str, float], bought: dict[str, float]) -> None:
    found = Similarity({"x": near}).affinity(bought, "x")
    counted = [bought.get(item, 0.0) for item in near] or [0.0]
    assert min(counted) - 0.001 <= found <= max(counted) + 0.001
