"""Tests of simulator.fitting: raking brings a market closer to the published rates, and its sums are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulator.calibration import FITTED, no_effects
from simulator.fitting import MailRates, fit, mail_market, mail_rates, targeting
from simulator.targets import AFFINITY, CAMPAIGN_TYPES, CAMPAIGNS
from simulator.world import World


@pytest.fixture(scope="module")
def market() -> World:
    return mail_market(7, 1500)


def _worst(found: MailRates) -> float:
    """The largest factor between simulated and published rates, of campaigns and habits."""
    pairs = [(found.campaigns[kind].redeemers, CAMPAIGNS[kind].redeemers) for kind in CAMPAIGN_TYPES]
    pairs += [(found.campaigns[kind].redemptions, CAMPAIGNS[kind].redemptions) for kind in CAMPAIGN_TYPES]
    pairs += list(zip(found.by_habit.tolist(), [rate.share for rate in AFFINITY.values()], strict=True))
    return max(max(simulated / published, published / simulated) for simulated, published in pairs)


def test_fitting_approaches_the_published_rates(market: World) -> None:
    before, after = (_worst(mail_rates(market, effects)) for effects in (no_effects(), fit(market, rounds=12)))
    assert before > 2.0
    assert after < 0.5 * before
    assert after < 1.35


def test_fitted_effects_stay_where_they_are(market: World) -> None:
    moved = fit(market, rounds=1, start=FITTED)
    for kind in CAMPAIGN_TYPES:
        assert moved.campaigns[kind].intercept == pytest.approx(FITTED.campaigns[kind].intercept, abs=0.5)


def test_without_occasions_redeemers_are_those_of_independent_coupons(market: World) -> None:
    """One household at a time: 1 - (1 - p)^n, averaged over those that were targeted."""
    plain = replace(
        FITTED, campaigns={kind: replace(effects, occasion=0.0) for kind, effects in FITTED.campaigns.items()}
    )  # fmt: skip
    found, people = mail_rates(market, plain), market.population
    habits = people.habits(market.shelf.category.tolist())
    static = plain.by_mail(people, np.zeros(len(market.offers), dtype=np.int64), habits)
    everybody = market.moments(np.arange(people.size), np.zeros(people.size, dtype=np.int64))
    chance = replace(market, static=static).truth(everybody).redemptions
    times = CAMPAIGNS["A"].offers / len(market.offers)
    redeems = [1.0 - float(np.prod((1.0 - row) ** times)) for row in chance]
    expected = float(targeting(people, CAMPAIGNS["A"]) @ np.array(redeems))
    assert found.campaigns["A"].redeemers == pytest.approx(expected, rel=1e-9)


def test_targeting_follows_spending_and_leaves_bots_out(market: World) -> None:
    people = market.population
    for target in CAMPAIGNS.values():
        chance = targeting(people, target)
        assert chance.sum() == pytest.approx(1.0)
        assert not chance[people.is_bot].any()
        by_quartile = np.bincount(people.spending, chance)
        published = np.array([rate.n for rate in target.by_spend.values()])
        assert by_quartile == pytest.approx(published / published.sum())
