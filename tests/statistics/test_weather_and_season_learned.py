"""Weather and season are learned from a simulated market whose truth is known.

A year that no policy has seen is judged by its true expected rewards. The effects are assumed, as the market says.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from contextual_bandit.actions import action_of, no_offer, offer_features
from contextual_bandit.context import Known, build_context
from contextual_bandit.decide import Choice, ServingPolicy, decide
from contextual_bandit.decide import Moment as Request
from contextual_bandit.loops import LoopConfig
from contextual_bandit.season import Region as Place
from contextual_bandit.types import Context, CustomerRecord, Decision, LoggedInteraction, Offer
from contextual_bandit.vowpal import VowpalPolicy
from contextual_bandit.weather import Observation
from simulator.world import START, Customer, Weather, World, make_world

SEEDS = (1, 2, 3)
DECISIONS = 12_000
CUSTOMERS = 400
# Learned from 2024 and 2025, judged in 2026, of which nothing was learned.
LEARNED_DAYS, ALL_DAYS = 366 + 365, 366 + 365 + 365
JUDGED_MOMENTS = 1500
LOOP = LoopConfig("market")
# The world's days are wet or dry; the service's features want millimetres.
WET_MM = {"rain": 6.0, "snow": 6.0}


class Shop:
    """A market and a policy that learned from two years in it, without the namespaces ``hidden`` from it."""

    def __init__(self, world: World, hidden: str) -> None:
        self.world = world
        self._hidden = hidden
        self.policy = VowpalPolicy(LOOP.setting)
        offers = [Offer(one.offer_id, one.category, discount=one.discount, price=one.price) for one in world.offers]
        self._actions = [action_of(offer, offer_features(offer), {}, LOOP.promoted_tag) for offer in offers]
        self._learn()

    def decide(self, name: str, customer: Customer, at: datetime, weather: Weather) -> Decision:
        context = self._context(customer, at, weather)
        request = Request(name, customer.customer_id, at, at, False, "")
        choice = Choice(context, self._actions, (), no_offer())
        return decide(LOOP, ServingPolicy(self.policy, "policy", "snapshot"), request, choice)

    def probabilities(self, customer: Customer, at: datetime, weather: Weather) -> NDArray[np.float64]:
        """Served probability of each offer of the world."""
        distribution = self.decide("judged", customer, at, weather).slots[0].distribution
        assert distribution is not None
        return np.array(distribution.served)

    def value(self) -> NDArray[np.float64]:
        """True expected reward at each judged moment; shops of one seed are judged at the same ones."""
        values = []
        for customer, at in judged_moments(self.world):
            moment = self.world.moment(customer, at)
            given = self.probabilities(customer, at, moment.weather)
            values.append(float(given @ self.world.expected_rewards(customer, moment)))
        return np.array(values)

    def _learn(self) -> None:
        """Visits spread over the two years; which are the same, and as lucky, for all shops of one seed."""
        generator = np.random.default_rng([self.world.seed, 100])
        who = generator.integers(0, len(self.world.customers), DECISIONS)
        seconds = np.sort(generator.integers(0, LEARNED_DAYS * 86400, DECISIONS))
        clicks = generator.random((DECISIONS, 1)) < self.world.truth(self.world.moments(who, seconds)).reward("clicks")
        for number in range(DECISIONS):
            customer, at = self.world.customers[who[number]], START + timedelta(seconds=int(seconds[number]))
            weather = self.world.weather_at(customer.region, at)
            decision = self.decide(f"{self.world.seed}-{number}", customer, at, weather)
            reward = float(clicks[number, decision.slots[0].chosen])
            self.policy.learn([LoggedInteraction(number + 1, decision, reward, "learn", at)])

    def _context(self, customer: Customer, at: datetime, weather: Weather) -> Context:
        known = Known(
            record=CustomerRecord({"age_band": customer.age_band, "household": str(customer.household_size)}),
            region_name=customer.region,
            region=Place(customer.region, "UTC", "US"),
            weather=Observation(weather.celsius, WET_MM.get(weather.condition, 0.0), weather.condition),
            weather_source="table",
        )
        context, _ = build_context(LOOP, at, known, {})
        return Context({name: given for name, given in context.namespaces.items() if name not in self._hidden})


def judged_moments(world: World, count: int = JUDGED_MOMENTS) -> list[tuple[Customer, datetime]]:
    generator = np.random.default_rng([world.seed, 101])
    who = generator.integers(0, len(world.customers), count)
    seconds = generator.integers(LEARNED_DAYS * 86400, ALL_DAYS * 86400, count)
    return [(world.customers[one], START + timedelta(seconds=int(at))) for one, at in zip(who, seconds, strict=True)]


def gain(seeing: Shop, blind: Shop) -> tuple[float, float]:
    """What a policy earns more than one that is blind to something: mean reward, standard error."""
    apart = seeing.value() - blind.value()
    return float(apart.mean()), float(apart.std() / len(apart) ** 0.5)


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param, CUSTOMERS, ALL_DAYS)


def test_the_effect_of_weather_is_learned(world: World) -> None:
    # Without an effect of the season, which the weather would tell something of.
    only_weather = replace(world, season_effect=0.0)
    shop = Shop(only_weather, "S")
    mean, error = gain(shop, Shop(only_weather, "SW"))
    assert mean > 4.0 * error > 0.0
    assert share(shop, "rainwear", condition="rain") > share(shop, "rainwear", condition="clear") + 0.05


def test_the_effect_of_the_season_is_learned() -> None:
    moved = []
    for seed in SEEDS:
        # Twice as large as assumed: a season comes twice in the two years, and luck with its clicks moves the value too.
        only_season = replace(make_world(seed, CUSTOMERS, ALL_DAYS), weather_effect=0.0, season_effect=2.0)
        shop = Shop(only_season, "W")
        mean, error = gain(shop, Shop(only_season, "WS"))
        assert mean > 4.0 * error > 0.0
        moved.append(share(shop, "garden", month=4) - share(shop, "garden", month=1))
    # How far one market's probabilities move is luck too: in the mean by a tenth, in each as far as by the weather.
    assert np.mean(moved) > 0.1, moved
    assert min(moved) > 0.05, moved


def share(shop: Shop, category: str, *, month: int = 10, condition: str = "cloudy") -> float:
    """Mean probability of a category's offers at 11 degrees in a month, over customers."""
    of_category = [index for index, offer in enumerate(shop.world.offers) if offer.category == category]
    weather = Weather(11.0, condition)
    shares = [
        shop.probabilities(customer, at.replace(month=month, day=15), weather)[of_category].sum()
        for customer, at in judged_moments(shop.world, 200)
    ]
    return float(np.mean(shares))
