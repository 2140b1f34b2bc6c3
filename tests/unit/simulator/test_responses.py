"""Tests of simulator.responses, delays and drift: what customers do, when it is heard of, and how it changes."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.delays import SESSION_SHARE, click_delays, mail_delays, purchase_delays, reporting_delays, return_delays
from simulator.drift import Drift
from simulator.responses import Responses, draw_responses
from simulator.targets import CAMPAIGN_TYPES, CAMPAIGNS, DELAY_LEVELS
from simulator.world import Moments, World, make_world

ROWS = 20_000


@pytest.fixture(scope="module")
def shop() -> World:
    return make_world(3, 500, 366, objective="margin")


@pytest.fixture(scope="module")
def visits(shop: World) -> Moments:
    generator = np.random.default_rng(1)
    return shop.moments(generator.integers(0, 500, ROWS), generator.integers(0, 366 * 86400, ROWS))


def _show(shop: World, visits: Moments, offer: int, seed: int = 5, *, is_seen: bool = True) -> Responses:
    chosen = np.full(ROWS, offer)
    return draw_responses(shop, visits, shop.truth(visits), chosen, np.random.default_rng(seed), is_seen=is_seen)


def test_each_step_of_the_funnel_follows_the_one_before(shop: World, visits: Moments) -> None:
    found = _show(shop, visits, 0)
    assert found.clicked.sum() > found.carted.sum() > found.redeemed.sum() > found.returned.sum() > 0
    assert (found.clicked | ~found.carted).all()
    assert (found.carted | ~found.redeemed).all()
    assert (found.redeemed | ~found.returned).all()
    assert (found.organic | ~found.organic_returned).all()


def test_equal_luck_buys_the_same_of_own_accord(shop: World, visits: Moments) -> None:
    none = len(shop.offers) - 1
    with_offer, without = _show(shop, visits, 0), _show(shop, visits, none)
    category = shop.shelf.category[0]
    others = np.arange(with_offer.organic.shape[1]) != category
    assert (with_offer.organic[:, others] == without.organic[:, others]).all()
    # In the offer's own category a redemption stands for the purchase that would have been.
    bought = with_offer.organic[:, category] | with_offer.redeemed
    assert (bought | ~without.organic[:, category]).all()
    assert bought.sum() > without.organic[:, category].sum()
    assert _show(shop, visits, none, seed=6).organic.sum() != without.organic.sum()


def test_what_nobody_saw_is_as_good_as_nothing(shop: World, visits: Moments) -> None:
    unseen, none = _show(shop, visits, 0, is_seen=False), _show(shop, visits, len(shop.offers) - 1)
    assert not unseen.clicked.any()
    assert (unseen.organic == none.organic).all()
    assert (unseen.earned == none.earned).all()


def test_bots_click_and_buy_nothing(shop: World, visits: Moments) -> None:
    found, bots = _show(shop, visits, 0), shop.population.is_bot[visits.customer]
    assert 0.3 < found.clicked[bots].mean() < 0.4
    assert not found.redeemed[bots].any()
    assert not found.organic[bots].any()


def test_delays_by_mail_are_as_published() -> None:
    luck = np.random.default_rng(2).random(200_000)
    for number, kind in enumerate(CAMPAIGN_TYPES):
        found = np.quantile(mail_delays(np.full(luck.size, number), luck), DELAY_LEVELS)
        assert found == pytest.approx(CAMPAIGNS[kind].delay_days, rel=0.05)


def test_delays_run_from_seconds_to_weeks() -> None:
    generator = np.random.default_rng(3)
    clicks = click_delays(generator.standard_normal(20_000))
    assert np.quantile(clicks, 0.01) < 2.0
    assert 35.0 < np.median(clicks) < 45.0
    kinds = generator.integers(0, 3, 20_000)
    bought = purchase_delays(kinds, generator.random(20_000), generator.standard_normal(20_000))
    assert np.mean(bought < 86400.0) == pytest.approx(SESSION_SHARE, abs=0.03)
    assert np.quantile(bought, 0.99) > 40 * 86400.0
    assert bought.min() > 0.0
    returns = return_delays(generator.standard_normal(20_000)) / 86400.0
    assert 8.0 < np.median(returns) < 10.0
    reports = reporting_delays(generator.random(20_000), generator.standard_normal(20_000))
    assert 0.9 < np.mean(reports == 0.0) < 0.94
    assert reports.max() > 3 * 86400.0


def test_tastes_turn_into_others_and_back() -> None:
    taste, other = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
    drift = Drift(turn_days=10.0)
    assert drift.tastes(taste, other, np.array([0.0])) == pytest.approx(taste)
    assert drift.tastes(taste, other, np.array([10.0])) == pytest.approx(other)
    assert drift.tastes(taste, other, np.array([40.0])) == pytest.approx(taste)
    assert Drift().tastes(taste, other, np.array([10.0])) is taste


def test_a_shift_takes_from_what_was_wanted_most() -> None:
    given = Drift(shift_day=3.0, shift=2.0).popularity(np.array([0.1, 5.0, -1.0, 2.0]), np.array([2.9, 3.0]))
    assert np.asarray(given).tolist() == [[0.0] * 4, [2.0, -2.0, 2.0, -2.0]]


@pytest.mark.parametrize("drift", [{"turn_days": 0.0}, {"turn_days": -1.0}, {"shift_day": -0.5}])
def test_impossible_changes_are_refused(drift: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(drift.values())))):
        Drift(**drift)
