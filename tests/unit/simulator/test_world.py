"""Tests of simulator.world: equal seeds give equal markets, and the truth is what it says it is."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from simulator.drift import Drift
from simulator.responses import draw_responses
from simulator.shelf import MarketOffer, draw_offers
from simulator.world import START, Customer, Exposures, Moment, Moments, Weather, World, make_world

YEAR = 366


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(3, customers=300, days=YEAR)


@pytest.fixture(scope="module")
def shop() -> World:
    """The same market when money is what counts."""
    return make_world(3, customers=300, days=YEAR, objective="margin")


def _visits(world: World, count: int) -> Moments:
    generator = np.random.default_rng(11)
    customers = generator.integers(0, len(world.customers), count)
    return world.moments(customers, generator.integers(0, YEAR * 86400, count))


def _moments(world: World, count: int) -> list[tuple[Customer, Moment]]:
    generator = np.random.default_rng(11)
    pairs = []
    for _ in range(count):
        customer = world.customers[generator.integers(len(world.customers))]
        pairs.append((customer, world.moment(customer, START + timedelta(days=float(generator.random() * YEAR)))))
    return pairs


def _human(world: World, *, is_sure: bool = False) -> Customer:
    people = world.population
    return world.customers[int(np.flatnonzero(~people.is_bot & (people.is_sure == is_sure))[0])]


def _bot(world: World) -> Customer:
    return world.customers[int(np.flatnonzero(world.population.is_bot)[0])]


def _category_at(world: World, weather: Weather, at_day: int) -> str:
    """The category whose offers gain most from a day, over all customers: mean log-odds against a mild autumn day."""
    usual, other = (
        np.mean([
            world.truth(world.single(customer, Moment(START + timedelta(days=day), sky))).interest[0]
            for customer in world.customers[:50]
        ], axis=0)
        for day, sky in ((280, Weather(16.0, "cloudy")), (at_day, weather))
    )  # fmt: skip
    return world.offers[int((other - usual).argmax())].category


def test_equal_seeds_give_equal_markets(world: World) -> None:
    same = make_world(3, customers=300, days=YEAR)
    visits = _visits(world, 200)
    assert same.customers == world.customers
    assert same.offers == world.offers
    assert same.weather == world.weather
    assert (same.truth(visits).gain == world.truth(visits).gain).all()
    assert make_world(4, customers=300, days=YEAR).customers != world.customers


def test_more_customers_or_days_leave_the_first_as_they_are(world: World) -> None:
    larger = make_world(3, customers=310, days=YEAR + 5)
    assert larger.customers[:300] == world.customers
    assert all(larger.weather[name][:YEAR] == days for name, days in world.weather.items())
    visits = _visits(world, 200)
    assert larger.truth(visits).clicks == pytest.approx(world.truth(visits).clicks, rel=1e-12)


def test_one_moment_is_a_row_of_many(world: World) -> None:
    for customer, moment in _moments(world, 20):
        seconds = np.array([int((moment.at - START).total_seconds())])
        row = world.truth(world.moments(np.array([customer.number]), seconds))
        assert world.expected_rewards(customer, moment) == pytest.approx(row.clicks[0], rel=1e-9)


def test_probabilities_lie_between_0_and_1(world: World) -> None:
    truth = world.truth(_visits(world, 2000))
    for chance in (truth.clicks, truth.redemptions, truth.organic):
        assert ((chance >= 0.0) & (chance < 1.0)).all()
    assert (truth.redemptions <= truth.clicks).all()


def test_best_offer_has_the_highest_expected_reward(world: World) -> None:
    for customer, moment in _moments(world, 30):
        best = world.expected_reward(customer, moment, world.best_offer(customer, moment))
        assert best == max(world.expected_reward(customer, moment, offer) for offer in world.offers)


@pytest.mark.parametrize(
    ("weather", "category"),
    [(Weather(16.0, "rain"), "rainwear"), (Weather(31.0, "cloudy"), "ice_cream"), (Weather(2.0, "cloudy"), "soup")],
)
def test_weather_changes_what_is_wanted(world: World, weather: Weather, category: str) -> None:
    assert _category_at(world, weather, 280) == category


def test_season_changes_what_is_wanted(world: World) -> None:
    assert _category_at(world, Weather(16.0, "cloudy"), 110) == "garden"


def test_without_effects_weather_and_season_do_not_matter() -> None:
    market = make_world(3, 50, YEAR, weather_effect=0.0, season_effect=0.0)
    customer = _human(market)
    summer, winter = Moment(START + timedelta(days=200), Weather(31.0, "clear")), Moment(START, Weather(-3.0, "snow"))
    assert market.expected_rewards(customer, summer) == pytest.approx(market.expected_rewards(customer, winter))


def test_everybody_buys_more_before_a_sale(world: World) -> None:
    customer, mild = _human(world), Weather(16.0, "cloudy")
    quiet = world.truth(world.single(customer, Moment(START + timedelta(days=285), mild)))
    # Singles' Day, 11 November, is one of the sales dates.
    sale = world.truth(world.single(customer, Moment(START + timedelta(days=315), mild)))
    assert (sale.organic > quiet.organic).all()
    assert (sale.clicks > quiet.clicks).all()


def test_what_comes_in_is_as_expected(world: World, shop: World) -> None:
    for market in (world, shop):
        visits = _visits(market, 60_000)
        truth, generator = market.truth(visits), np.random.default_rng(17)
        chosen = generator.integers(0, len(market.offers), 60_000)
        found = draw_responses(market, visits, truth, chosen, generator).reward(market.objective)
        expected = truth.reward(market.objective)[np.arange(chosen.size), chosen]
        # Four standard errors, in all and in each quarter by how promising the offers are.
        for part in [np.arange(chosen.size), *np.array_split(expected.argsort(), 4)]:
            apart = found[part] - expected[part]
            assert abs(apart.mean()) < 4.0 * apart.std() / part.size**0.5


def test_a_market_is_neither_hopeless_nor_trivial(world: World) -> None:
    truth = world.truth(_visits(world, 4000)).clicks
    uniform, best_fixed, optimal = truth.mean(), truth.mean(axis=0).max(), truth.max(axis=1).mean()
    assert 0.03 < uniform < 0.2
    assert 1.1 * uniform < best_fixed < 0.8 * optimal
    assert optimal < 0.7


def test_a_discount_on_sure_buyers_costs_money(shop: World) -> None:
    visits = _visits(shop, 4000)
    truth, people = shop.truth(visits), shop.population
    human = ~people.is_bot[visits.customer]
    sure = people.is_sure[visits.customer] & human
    offers = np.array([not offer.is_none for offer in shop.offers])
    assert truth.gain[sure][:, offers].mean() < 0.0
    assert truth.gain[sure].max(axis=1).mean() < 0.02
    assert truth.gain[human & ~sure].max(axis=1).mean() > 0.05
    assert truth.base[sure].mean() > 3.0 * truth.base[human & ~sure].mean()


def test_a_response_to_a_discount_grows_with_it() -> None:
    offers = [MarketOffer(f"coffee-{share}", "coffee", share, 9.0, 0.42) for share in (0.1, 0.2, 0.4)]
    market = make_world(5, 50, 1, offers=offers)
    # Only the habit of buying the very product tells these offers apart otherwise.
    people = market.population
    alike = np.ptp(people.habits(market.shelf.category.tolist()), axis=1) == 0
    customers = np.flatnonzero(alike & ~people.is_bot)
    chance = market.truth(market.moments(customers, np.zeros(customers.size, dtype=np.int64))).clicks
    assert (np.diff(chance, axis=1) > 0.0).all()


def test_a_higher_price_is_wanted_less() -> None:
    offers = [MarketOffer(f"coffee-{price}", "coffee", 0.2, price, 0.42) for price in (6.0, 9.0, 14.0)]
    market = make_world(5, 50, 1, offers=offers)
    people = market.population
    customers = np.flatnonzero(
        (np.ptp(people.habits(market.shelf.category.tolist()), axis=1) == 0) & ~people.is_bot
    )  # fmt: skip
    chance = market.truth(market.moments(customers, np.zeros(customers.size, dtype=np.int64))).clicks
    assert (np.diff(chance, axis=1) < 0.0).all()


def test_bots_click_whatever_it_is_and_never_buy(shop: World) -> None:
    bot = _bot(shop)
    truth = shop.truth(shop.single(bot, shop.moment(bot, START)))
    offers = np.array([not offer.is_none for offer in shop.offers])
    assert np.ptp(truth.clicks[0, offers]) == 0.0
    assert truth.clicks[0, 0] > 0.1
    assert not truth.redemptions.any()
    assert not truth.organic.any()
    assert (truth.gain[0, offers] < 0.0).all()


def test_offering_nothing_changes_nothing(shop: World) -> None:
    none = next(index for index, offer in enumerate(shop.offers) if offer.is_none)
    truth = shop.truth(_visits(shop, 100))
    assert not truth.gain[:, none].any()
    assert not truth.clicks[:, none].any()


def test_a_shift_turns_the_market_around() -> None:
    market = make_world(3, 200, 20, drift=Drift(shift_day=10.0), weather_effect=0.0, season_effect=0.0)
    customers = np.arange(200)
    before, at_once, later = (
        market.truth(market.moments(customers, np.full(200, seconds))).clicks
        for seconds in (10 * 86400 - 1, 10 * 86400, 19 * 86400)
    )
    best = int(before.mean(axis=0).argmax())
    assert at_once == pytest.approx(later)
    assert later[:, best].mean() < 0.6 * before[:, best].mean()
    assert later.mean(axis=0).argmax() != best


def test_offers_come_and_go() -> None:
    offers = draw_offers(3, newcomers=2, days=30.0)
    market = make_world(3, 20, 30, offers=offers)
    days = np.array([0.0, 10.0, 20.0, 29.9])
    there = market.truth(market.moments(np.arange(4), (days * 86400).astype(np.int64))).is_available
    assert there.sum(axis=1).tolist() == [20, 21, 21, 20]
    expected = market.expected_rewards(market.customers[0], market.moment(market.customers[0], START))
    assert np.isneginf(expected[[-2, -1]]).all()


def test_real_days_can_stand_in_for_generated_ones(world: World) -> None:
    days = tuple(Weather(20.0 + number, "clear") for number in range(5))
    market = make_world(3, 10, 5, weather={"coast": days})
    assert market.weather["coast"] == days
    assert market.weather["north"] == world.weather["north"][:5]
    customer = next(customer for customer in market.customers if customer.region == "coast")
    assert market.moment(customer, START + timedelta(days=2, hours=5)).weather == days[2]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"days": 0}, "got 0"), ({"customers": 0}, "got 0"), ({"weather": {"moon": ()}}, "moon"),
     ({"weather": {"coast": (Weather(1.0, "rain"),)}}, "1 days"), ({"offers": ()}, r"\[\]")],
)  # fmt: skip
def test_impossible_markets_are_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_world(**{"seed": 1, "customers": 10, "days": 3, **change})  # type: ignore[arg-type]


def test_moments_outside_the_market_are_refused(world: World) -> None:
    for days in (-1, YEAR):
        with pytest.raises(ValueError, match="the market lasts"):
            world.moment(world.customers[0], START + timedelta(days=days))
        with pytest.raises(ValueError, match="the market lasts"):
            world.moments(np.array([0]), np.array([days * 86400]))


def test_exposures_tire_and_fade(world: World) -> None:
    exposures = Exposures()
    customer, offer = _human(world), world.offers[0]
    at = START + timedelta(days=100)
    assert exposures.of(customer.customer_id, at) == {}
    exposures.add(customer.customer_id, offer.offer_id, at)
    exposures.add(customer.customer_id, offer.offer_id, at + timedelta(days=1))
    later = at + timedelta(days=2)
    shown = exposures.of(customer.customer_id, later)
    assert shown == {offer.offer_id: pytest.approx(0.75)}
    fresh, tired = world.moment(customer, later), world.moment(customer, later, shown)
    lost = world.expected_rewards(customer, tired) / world.expected_rewards(customer, fresh)
    assert (lost < 1.0).all()
    assert lost[0] < lost[1:].min()
