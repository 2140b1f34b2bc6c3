"""Tests of simulator.world: equal seeds give equal markets, and the truth is what it says it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from simulator.world import (
    ASSUMED_BAND_EFFECTS,
    ASSUMED_CONDITION_EFFECTS,
    ASSUMED_SEASON_EFFECTS,
    CATEGORIES,
    START,
    Customer,
    Exposures,
    Moment,
    Weather,
    World,
    make_world,
)

YEAR = 366


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, customers=300, days=YEAR)


def _moments(world: World, count: int) -> list[tuple[Customer, Moment]]:
    generator = np.random.default_rng(11)
    pairs = []
    for _ in range(count):
        customer = world.customers[generator.integers(len(world.customers))]
        at = world.start + timedelta(days=float(generator.random() * (YEAR - 1)))
        pairs.append((customer, world.moment(customer, at)))
    return pairs


def _indifferent(world: World) -> Customer:
    """A customer without tastes, so that only the moment and the offers differ."""
    return replace(world.customers[0], tastes=(0.0,) * len(CATEGORIES), discount_sensitivity=0.0)


def test_equal_seeds_give_equal_markets(world: World) -> None:
    assert make_world(3, customers=300, days=YEAR) == world
    assert make_world(4, customers=300, days=YEAR).customers[0].tastes != world.customers[0].tastes
    # More customers or days leave the first ones as they are.
    larger = make_world(3, customers=310, days=YEAR)
    assert larger.customers[:300] == world.customers
    assert larger.weather == world.weather


def test_equal_generators_draw_equal_responses(world: World) -> None:
    customer, moment = _moments(world, 1)[0]
    draws = [
        [world.respond(customer, moment, offer, np.random.default_rng(5)) for offer in world.offers] for _ in range(2)
    ]
    assert draws[0] == draws[1]


def test_probabilities_lie_strictly_between_0_and_1(world: World) -> None:
    for customer, moment in _moments(world, 300):
        expected = world.expected_rewards(customer, moment)
        assert expected.shape == (len(world.offers),)
        assert ((expected > 0.0) & (expected < 1.0)).all()


def test_best_offer_has_the_highest_expected_reward(world: World) -> None:
    for customer, moment in _moments(world, 100):
        best = world.expected_reward(customer, moment, world.best_offer(customer, moment))
        assert best == max(world.expected_reward(customer, moment, offer) for offer in world.offers)


def test_weather_changes_the_best_offer(world: World) -> None:
    customer = _indifferent(world)
    at = START + timedelta(days=280)
    days = {"rain": Weather(16.0, "rain"), "hot": Weather(31.0, "cloudy"), "cold": Weather(2.0, "cloudy")}
    best = {name: world.best_offer(customer, Moment(at, weather)).category for name, weather in days.items()}
    assert best == {"rain": "rainwear", "hot": "ice_cream", "cold": "soup"}


def test_season_changes_the_best_offer(world: World) -> None:
    customer, weather = _indifferent(world), Weather(16.0, "cloudy")
    best = {month: world.best_offer(customer, Moment(START.replace(month=month), weather)).category for month in (1, 4)}
    assert best[4] == "garden"
    assert best[1] != "garden"


def test_assumed_effects_speak_only_of_known_categories(world: World) -> None:
    for table in (ASSUMED_BAND_EFFECTS, ASSUMED_CONDITION_EFFECTS, ASSUMED_SEASON_EFFECTS):
        for effects in table.values():
            assert effects.keys() <= set(CATEGORIES)
    seen = {weather for series in world.weather.values() for weather in series}
    assert {weather.band for weather in seen} == ASSUMED_BAND_EFFECTS.keys()
    assert {weather.condition for weather in seen} == ASSUMED_CONDITION_EFFECTS.keys()


def test_clicks_come_as_often_as_expected(world: World) -> None:
    generator = np.random.default_rng(17)
    expected, clicked = [], []
    for customer, moment in _moments(world, 20_000):
        offer = world.offers[generator.integers(len(world.offers))]
        expected.append(world.expected_reward(customer, moment, offer))
        clicked.append(world.respond(customer, moment, offer, generator).clicked)
    truth = np.array(expected)
    # Four standard errors of the sum, in all and in each quarter of the offers by how promising they are.
    for part in [np.arange(truth.size), *np.array_split(truth.argsort(), 4)]:
        error = float(np.sqrt((truth[part] * (1.0 - truth[part])).sum()))
        assert abs(np.array(clicked)[part].sum() - truth[part].sum()) < 4.0 * error


def test_a_market_is_neither_hopeless_nor_trivial(world: World) -> None:
    truth = np.stack([world.expected_rewards(customer, moment) for customer, moment in _moments(world, 4000)])
    uniform, best_fixed, optimal = truth.mean(), truth.mean(axis=0).max(), truth.max(axis=1).mean()
    assert 0.02 < uniform < 0.15
    assert 1.1 * uniform < best_fixed < 0.8 * optimal
    assert optimal < 0.5


def test_tastes_follow_demographics(world: World) -> None:
    garden = CATEGORIES.index("garden")
    means = {
        band: np.mean([customer.tastes[garden] for customer in world.customers if customer.age_band == band])
        for band in ("18-34", "55+")
    }
    assert means["55+"] > means["18-34"] + 0.8


def test_delays_run_from_seconds_to_days(world: World) -> None:
    customer, moment = _moments(world, 1)[0]
    generator = np.random.default_rng(23)
    delays = [world.respond(customer, moment, world.offers[0], generator).delay_seconds for _ in range(5000)]
    assert min(delays) < 10.0
    assert 700.0 < float(np.median(delays)) < 1100.0
    assert 0.005 < np.mean(np.array(delays) > 86400.0) < 0.05


def test_exposures_tire_and_fade(world: World) -> None:
    exposures = Exposures()
    customer, offer = world.customers[0], world.offers[0]
    at = START + timedelta(days=100)
    assert exposures.of(customer.customer_id, at) == {}
    exposures.add(customer.customer_id, offer.offer_id, at)
    exposures.add(customer.customer_id, offer.offer_id, at + timedelta(days=1))
    later = at + timedelta(days=2)
    shown = exposures.of(customer.customer_id, later)
    assert shown == {offer.offer_id: pytest.approx(0.75)}
    fresh, tired = world.moment(customer, later), world.moment(customer, later, shown)
    assert world.expected_reward(customer, tired, offer) < world.expected_reward(customer, fresh, offer)
    assert world.expected_reward(customer, tired, world.offers[1]) == world.expected_reward(
        customer, fresh, world.offers[1]
    )


def test_moments_outside_the_market_are_refused(world: World) -> None:
    for days in (-1, YEAR):
        with pytest.raises(ValueError, match="the market lasts"):
            world.moment(world.customers[0], START + timedelta(days=days))
