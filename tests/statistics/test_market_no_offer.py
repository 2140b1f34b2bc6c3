"""Offering nothing is learned for sure buyers when rewards are what is left: margin less discount and contact cost."""

from __future__ import annotations

import numpy as np
import pytest

from contextual_bandit.vowpal import VowpalPolicy
from simulator.offline import OfflineLoop, Run, Visits, draw_visits, market_loop
from simulator.shelf import draw_offers
from simulator.shoppers import Flags
from simulator.world import World, make_world

SEEDS = (1, 2, 3)
CUSTOMERS = 400
DAYS = 366
DECISIONS = 14_000
CATEGORIES = ("ice_cream", "coffee", "snacks", "beauty", "bakery")
# Few features and small, steady steps: what an offer adds is a tenth of the noise of what customers buy anyway, and
# with the default setting so many decisions do not suffice.
ARGUMENTS = (
    "--cb_explore_adf --squarecb --cb_type mtr --gamma_scale 100 --gamma_exponent 0.5 --adaptive --power_t 0"
    " -l 0.0005 -q DO"
)


class Sold:
    """A market of five offers and the offer of nothing, and what was learned in it."""

    def __init__(self, seed: int) -> None:
        offers = [
            offer for offer in draw_offers(seed, with_none=True)
            if offer.is_none or (offer.campaign_type == "A" and offer.category in CATEGORIES)
        ]  # fmt: skip
        self.world: World = make_world(seed, CUSTOMERS, DAYS, objective="margin", offers=offers)
        self.visits: Visits = draw_visits(self.world, DECISIONS, 1)
        loop = market_loop(self.world, arguments=ARGUMENTS)
        policy = VowpalPolicy(loop.setting)
        self.run: Run = OfflineLoop(self.world, policy, loop).play(self.visits, 1)
        policy.close()
        late = np.arange(DECISIONS) >= DECISIONS // 2
        sure = self.world.population.is_sure[self.visits.customer]
        self.sure, self.others = late & sure, late & ~sure

    def share_of_nothing(self, rows: Flags) -> float:
        return float(np.mean(self.run.chosen[rows] == len(self.world.offers) - 1))

    def gain(self, rows: Flags) -> float:
        """Expected money per visit that the served offers add to what customers buy anyway."""
        return float((self.run.value - self.visits.truth.base)[rows].mean())

    def gain_of_always_offering(self, rows: Flags) -> float:
        """The same of an even draw from the offers, nothing left out."""
        return float(self.visits.truth.gain[rows][:, :-1].mean())


@pytest.fixture(scope="module")
def sold() -> list[Sold]:
    return [Sold(seed) for seed in SEEDS]


def test_nothing_is_the_best_offer_for_sure_buyers(sold: list[Sold]) -> None:
    for market in sold:
        best = market.visits.truth.reward("margin").argmax(axis=1)
        assert np.mean(best[market.sure] == len(market.world.offers) - 1) > 0.9
        assert np.mean(best[market.others] == len(market.world.offers) - 1) < 0.5


def test_sure_buyers_are_mostly_offered_nothing(sold: list[Sold]) -> None:
    shares = [market.share_of_nothing(market.sure) for market in sold]
    # One of six offers would be nothing by chance.
    assert min(shares) > 0.6, shares
    assert np.mean(shares) > 0.75, shares


def test_others_are_offered_something_more_often(sold: list[Sold]) -> None:
    apart = [market.share_of_nothing(market.sure) - market.share_of_nothing(market.others) for market in sold]
    assert min(apart) > 0.05, apart
    assert np.mean(apart) > 0.2, apart


def test_the_money_is_saved(sold: list[Sold]) -> None:
    """Sure buyers lose less than a third of what offers at random lose on them; all together bring more than nothing."""
    for market in sold:
        assert market.gain_of_always_offering(market.sure) < -0.1
        assert market.gain(market.sure) > market.gain_of_always_offering(market.sure) / 3.0
        everybody = market.sure | market.others
        assert market.gain_of_always_offering(everybody) < 0.0
        assert market.gain(everybody) > 0.0
        assert market.gain(market.others) > 0.0
