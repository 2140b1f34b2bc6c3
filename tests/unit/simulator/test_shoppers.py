"""Tests of simulator.shoppers and simulator.shelf: who comes, and what there is to offer."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.assumed import CATEGORIES, GOLD_IF_SURE
from simulator.shelf import draw_offers
from simulator.shoppers import AGE_BANDS, LOYALTIES, draw_population
from simulator.targets import INCOMES

PEOPLE = draw_population(7, 20_000, 20, 4, days=30.0, late_share=0.2)


def test_tastes_follow_demographics() -> None:
    garden = PEOPLE.taste[:, CATEGORIES.index("garden")]
    assert garden[PEOPLE.age == AGE_BANDS.index("55+")].mean() > garden[PEOPLE.age == 0].mean() + 1.4


def test_shares_are_as_stated() -> None:
    habits = PEOPLE.habits([index % len(CATEGORIES) for index in range(20)])
    assert np.mean(habits == 0) == pytest.approx(0.455, abs=0.01)
    assert np.mean(habits == 2) == pytest.approx(0.545 * 0.174, abs=0.005)
    known = PEOPLE.income < len(INCOMES) - 1
    assert (np.diff([known[PEOPLE.spending == quartile].mean() for quartile in range(4)]) > 0.1).all()
    assert np.mean(PEOPLE.is_bot) == pytest.approx(0.02, abs=0.005)
    assert np.mean(PEOPLE.joined_day > 0.0) == pytest.approx(0.2, abs=0.01)
    assert PEOPLE.joined_day.max() < 30.0
    assert PEOPLE.sensitivity.mean() == pytest.approx(1.0, abs=0.02)


def test_habits_tell_of_tastes() -> None:
    bought = PEOPLE.bought_category
    assert PEOPLE.taste[bought].mean() > PEOPLE.taste[~bought].mean() + 0.3


def test_a_gold_card_tells_of_sure_buyers() -> None:
    gold = PEOPLE.loyalty == LOYALTIES.index("gold")
    assert gold[PEOPLE.is_sure].mean() == pytest.approx(GOLD_IF_SURE, abs=0.02)
    assert gold[~PEOPLE.is_sure].mean() < 0.1


def test_a_shop_knows_demographics_of_some_only() -> None:
    people = [PEOPLE.customer(number, "c", ("a", "b", "c", "d")) for number in range(200)]
    assert {frozenset(person.demographics) for person in people} == {
        frozenset({"loyalty"}), frozenset({"age_band", "household_size", "income", "kids", "loyalty"}),
    }  # fmt: skip
    assert all(person.income == "unknown" for person in people if not person.is_known)


@pytest.mark.parametrize(("customers", "offers"), [(0, 20), (10, 0), (10, 5000)])
def test_impossible_populations_are_refused(customers: int, offers: int) -> None:
    with pytest.raises(ValueError, match=r"got (0|5000)"):
        draw_population(1, customers, offers, 4)


def test_each_category_has_a_small_and_a_large_discount() -> None:
    offers = draw_offers(3)
    assert [offer.category for offer in offers] == [*CATEGORIES, *CATEGORIES]
    assert all(small.discount < large.discount for small, large in zip(offers[:10], offers[10:], strict=True))
    assert len({offer.offer_id for offer in offers}) == 20
    # A discount never eats the whole margin, or no offer could be worth anything.
    assert all(offer.discount < offer.margin for offer in offers)


def test_newcomers_replace_old_offers() -> None:
    offers = draw_offers(3, newcomers=3, days=40.0, with_none=True)
    assert len(offers) == 24
    assert [offer.first_day for offer in offers if offer.first_day] == [10.0, 20.0, 30.0]
    assert sorted(offer.last_day for offer in offers if np.isfinite(offer.last_day)) == [15.0, 25.0, 35.0]
    assert offers[-1].is_none


@pytest.mark.parametrize("arguments", [{"per_category": 0}, {"newcomers": 20}, {"newcomers": -1}])
def test_impossible_shelves_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="make no market"):
        draw_offers(1, **arguments)  # type: ignore[arg-type]
