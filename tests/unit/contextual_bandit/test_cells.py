"""Cells: what is usual among customers like one, measured, shrunk, and blended into the customer's own history."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.cells import (
    LEAST_CUSTOMERS,
    MOST_CATEGORIES,
    MOST_FEATURES,
    MOST_USED,
    MOST_VALUES,
    CellCustomer,
    CellFeature,
    Cells,
    decode_cells,
    fit_cells,
)
from contextual_bandit.history import HALF_LIVES_DAYS, Affinities
from contextual_bandit.profile import Activity, Population, Profile, day_of
from contextual_bandit.season import SEASONS
from contextual_bandit.types import Features

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
YEAR = tuple(range(363, -1, -1))


def shopper(demographics: Features, days: dict[str, Iterable[int]], *, southern: bool = False) -> CellCustomer:
    """A customer who bought each category so many days ago."""
    profile = Profile()
    for category, ages in days.items():
        for age in ages:
            at = NOW - timedelta(days=age)
            profile.apply(Activity(f"{category}-{age}", "c", "purchase", at, category, None, 5.0))
    return CellCustomer(profile, demographics, southern)


def families(number: int) -> list[CellCustomer]:
    """Half of them with children, who buy toys four times as often; all buy bread alike, weekly for a year."""
    found = [
        shopper({"kids": kids}, {"bread": YEAR[::7], "toys": YEAR[:: 14 if kids else 56]}) for kids in (True, False)
    ]
    return found * (number // 2)


# What is known of nobody


@pytest.mark.parametrize("cells", [Cells(), decode_cells(b""), fit_cells([], NOW)])
def test_cells_that_know_nothing_give_the_populations_rate(cells: Cells) -> None:
    assert cells.rate({"kids": True}, "winter", "toys", 0.3) == 0.3
    assert cells.features == ()


def test_an_unknown_customer_category_value_or_season_has_the_populations_rate() -> None:
    cells = fit_cells(families(200), NOW)
    assert [feature.name for feature in cells.features] == ["kids"]
    assert cells.rate({}, "monsoon", "toys", 0.3) == 0.3
    assert cells.rate({"shoe_size": "43"}, "monsoon", "toys", 0.3) == 0.3
    assert cells.rate({"kids": "perhaps"}, "monsoon", "toys", 0.3) == 0.3
    assert cells.rate({"kids": True}, "monsoon", "garden", 0.3) == 0.3


# What the customers show


def test_a_cell_has_the_rate_of_its_customers() -> None:
    cells = fit_cells(families(2000), NOW)
    # 26 and 6.5 purchase days a year: 1.6 and 0.4 times the mean, of 1000 customers each shrunk by a twentieth.
    assert cells.rate({"kids": True}, "monsoon", "toys", 1.0) == pytest.approx(1.6, abs=0.06)
    assert cells.rate({"kids": False}, "monsoon", "toys", 1.0) == pytest.approx(0.4, abs=0.06)
    assert cells.rate({"kids": True}, "monsoon", "bread", 1.0) == pytest.approx(1.0, abs=0.01)


def test_the_fewer_customers_the_nearer_to_the_population() -> None:
    rates = [
        fit_cells(families(number), NOW).rate({"kids": True}, "monsoon", "toys", 1.0) for number in (40, 200, 2000)
    ]
    assert 1.0 < rates[0] < 1.2 < rates[1] < 1.5 < rates[2] < 1.6


def test_few_purchases_say_little_however_many_customers() -> None:
    """Three people with children bought a boat, nobody else did."""
    boats = [shopper({"kids": True}, {"boats": [30]}) for _ in range(3)]
    assert 1.0 < fit_cells(families(1000) + boats, NOW).rate({"kids": True}, "monsoon", "boats", 1.0) < 1.1


def test_those_who_state_a_feature_may_differ_from_those_who_do_not() -> None:
    others = [shopper({}, {"bread": YEAR[::28]})] * 1000
    cells = fit_cells(families(1000) + others, NOW)
    # 52 purchase days a year against 32.5 of all.
    assert cells.rate({"kids": True}, "monsoon", "bread", 1.0) == pytest.approx(1.6, abs=0.05)
    assert cells.rate({}, "monsoon", "bread", 1.0) == 1.0


def test_two_names_of_one_thing_do_not_count_twice() -> None:
    plain = fit_cells(families(2000), NOW)
    twice = fit_cells(
        [CellCustomer(c.profile, {**c.demographics, "children": c.demographics["kids"]}) for c in families(2000)], NOW
    )
    assert [feature.name for feature in twice.features] == ["children", "kids"]
    once, both = ({"kids": True}, {"kids": True, "children": True})
    ratio = twice.rate(both, "monsoon", "toys", 1.0) / plain.rate(once, "monsoon", "toys", 1.0)
    # Counted as independent they would give 1.6; a root each gives 1.6 to the power of 0.41.
    assert 1.0 < ratio < 1.25


# Which features make cells


def test_a_feature_that_explains_nothing_makes_no_cells() -> None:
    customers = [
        CellCustomer(c.profile, {**c.demographics, "coin": "heads" if index // 2 % 2 else "tails"})
        for index, c in enumerate(families(400))
    ]
    assert [feature.name for feature in fit_cells(customers, NOW).features] == ["kids"]


def test_numbers_rare_values_and_many_values_make_no_cells() -> None:
    customers = []
    for index, customer in enumerate(families(400)):
        kids = customer.demographics["kids"]
        extra: Features = {
            "household_size": 4.0 if kids else 1.0,
            "street": f"{kids}-{index % (MOST_VALUES + 1)}",
            "alone": "yes" if index == 0 else "no",
        }
        customers.append(CellCustomer(customer.profile, {**customer.demographics, **extra}))
    assert [feature.name for feature in fit_cells(customers, NOW).features] == ["kids"]


def test_a_value_of_few_customers_is_left_out() -> None:
    few = [shopper({"kids": "many"}, {"toys": YEAR[::2]}) for _ in range(LEAST_CUSTOMERS - 1)]
    words = [CellCustomer(c.profile, {"kids": str(c.demographics["kids"])}) for c in families(400)]
    (feature,) = fit_cells(words + few, NOW).features
    assert set(feature.values) == {"True", "False"}


def test_what_a_fit_holds_is_bounded() -> None:
    names = [f"feature-{number:03d}" for number in range(MOST_FEATURES + 5)]
    customers = []
    for index, customer in enumerate(families(60)):
        answer = "yes" if customer.demographics["kids"] else "no"
        many = {f"category-{index}-{number}": [number] for number in range(50)}
        seen = shopper({}, {"toys": YEAR[:: 14 if answer == "yes" else 56], **many})
        customers.append(CellCustomer(seen.profile, dict.fromkeys(names, answer)))
    cells = fit_cells(customers, NOW)
    assert len(cells.features) <= MOST_USED
    assert {feature.name for feature in cells.features} <= set(names[:MOST_FEATURES])
    categories = {name for feature in cells.features for ratios in feature.values.values() for name in ratios}
    assert 0 < len(categories) <= MOST_CATEGORIES


# Seasons


def seasonal(number: int, *, southern: bool = False) -> list[CellCustomer]:
    """All year bread weekly; ice daily from June to August."""
    summer = [age for age in YEAR if (NOW - timedelta(days=age)).month in (6, 7, 8)]
    return [shopper({}, {"bread": YEAR[::7], "ice": summer}, southern=southern)] * number


def test_a_season_changes_what_is_bought() -> None:
    cells = fit_cells(seasonal(300), NOW)
    rates = {season: cells.rate({}, season, "ice", 1.0) for season in SEASONS}
    assert max(rates, key=lambda season: rates[season]) == "summer"
    assert rates["summer"] > 1.25
    assert max(rates["winter"], rates["spring"], rates["autumn"]) < 0.5
    assert cells.rate({}, "winter", "bread", 1.0) > 1.5 > 0.7 > cells.rate({}, "summer", "bread", 1.0)


def test_on_the_southern_half_the_same_months_are_winter() -> None:
    cells = fit_cells(seasonal(300, southern=True), NOW)
    assert cells.rate({}, "winter", "ice", 1.0) > 1.25 > 0.5 > cells.rate({}, "summer", "ice", 1.0)


def test_a_busy_season_changes_nothing_between_categories() -> None:
    ages = [age for age in YEAR if (NOW - timedelta(days=age)).month == 12 or age % 7 == 0]
    cells = fit_cells([shopper({}, {"bread": ages, "milk": ages})] * 200, NOW)
    for season in SEASONS:
        assert cells.rate({}, season, "bread", 1.0) == pytest.approx(1.0, abs=0.001)


def test_a_season_never_seen_changes_nothing() -> None:
    cells = fit_cells([shopper({}, {"bread": range(0, 50, 7), "ice": range(30)})] * 300, NOW)
    assert cells.rate({}, "summer", "ice", 0.3) == 0.3


# Point in time


def test_purchases_after_the_moment_are_not_seen() -> None:
    late = [shopper({"kids": False}, {"toys": range(-60, -1)})] * 100
    assert fit_cells([*families(200), *late], NOW).encode() == fit_cells(families(200), NOW).encode()


def test_customers_without_purchases_change_nothing() -> None:
    idle = [CellCustomer(None, {"kids": True}), CellCustomer(Profile(), {"kids": False})] * 50
    assert fit_cells([*families(200), *idle], NOW).encode() == fit_cells(families(200), NOW).encode()


# The stored form


def test_cells_come_back_equal() -> None:
    cells = fit_cells(families(200), NOW)
    again = decode_cells(cells.encode())
    assert (again.features, again.seasons) == (cells.features, cells.seasons)
    assert orjson.loads(cells.encode())["v"] == 1
    for kids in (True, False):
        assert again.rate({"kids": kids}, "winter", "toys", 0.7) == cells.rate({"kids": kids}, "winter", "toys", 0.7)


ratios = st.dictionaries(st.sampled_from(["bread", "toys"]), st.floats(0.0001, 1000.0))


@given(ratios, ratios, ratios, st.floats(0.0, 7.0))
def test_rates_are_finite_and_not_negative(
    stated: dict[str, float], values: dict[str, float], season: dict[str, float], usual: float
) -> None:
    features = [CellFeature(name, stated, {"yes": values}) for name in ("a", "b", "c")]
    cells = Cells(features, {"winter": season})
    for demographics in ({}, {"a": "yes"}, {"a": "yes", "b": "yes", "c": "yes"}):
        for category in ("bread", "toys", "garden"):
            rate = cells.rate(demographics, "winter", category, usual)
            assert 0.0 <= rate < 1e13
            assert rate == cells.of(demographics, "winter")(category, usual)


# Blending


def usual_of(customers: list[CellCustomer]) -> Population:
    population = Population()
    for customer in customers:
        profile = customer.profile
        assert profile is not None
        for category, history in profile.categories.items():
            for age in history.ages(day_of(NOW.timestamp())):
                population.add_day(category, day_of(NOW.timestamp()) - age)
        population.move_first(None, profile.first_purchase_day)
    return population


def test_a_customer_without_history_gets_the_rates_of_the_cell() -> None:
    customers = families(2000)
    cells, population = fit_cells(customers, NOW), usual_of(customers)
    found = {}
    for name, demographics in {"kids": {"kids": True}, "none": {"kids": False}, "unknown": {}}.items():
        prior = cells.prior(population, demographics, "monsoon", NOW)
        affinity = Affinities(None, prior, NOW).of("toys")
        assert {affinity[half_life] for half_life in HALF_LIVES_DAYS} == {round(52.0 * prior("toys"), 2)}
        found[name] = float(affinity["r16"])
    # 26, 6.5 and 16.25 purchase days a year, but for shrinkage.
    assert found["kids"] == pytest.approx(26.0, rel=0.1)
    assert found["none"] == pytest.approx(6.5, rel=0.15)
    assert found["unknown"] == pytest.approx(16.25, rel=0.1)


def test_the_cell_gives_way_as_history_grows() -> None:
    customers = families(2000)
    cells, population = fit_cells(customers, NOW), usual_of(customers)
    prior = cells.prior(population, {"kids": True}, "spring", NOW)
    # Someone with children who buys bread weekly, and never a toy.
    seen = [
        float(Affinities(shopper({}, {"bread": range(0, days, 7)}).profile, prior, NOW).of("toys")["r52"])
        for days in (1, 29, 113, 365)
    ]
    assert seen[0] == pytest.approx(52.0 * prior("toys"), abs=0.01)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < 0.15 * seen[0]
