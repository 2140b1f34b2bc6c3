"""The simulated market takes coupons as the published households did: every rate within a factor 1.35, on fresh seeds."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.calibration import FITTED
from simulator.fitting import FIT_SEED, LEAST_HOUSEHOLDS, MailRates, mail_market, mail_rates
from simulator.targets import (
    AFFINITY,
    CAMPAIGN_TYPES,
    CAMPAIGNS,
    PER_OFFER,
    PREVIOUS_REDEEMER,
    WITHIN,
)

SEEDS = (201, 202)
CUSTOMERS = 20_000

CELLS = [
    (kind, name, segment)
    for kind in CAMPAIGN_TYPES
    for name, rates in CAMPAIGNS[kind].margins().items()
    for segment in rates
]


@pytest.fixture(scope="module", params=SEEDS)
def found(request: pytest.FixtureRequest) -> MailRates:
    assert request.param != FIT_SEED
    return mail_rates(mail_market(request.param, CUSTOMERS), FITTED)


def _hold(simulated: float, published: float, what: str) -> None:
    factor = max(simulated / published, published / simulated)
    assert factor <= WITHIN, f"{what}: simulated {simulated:.5f}, published {published:.5f}, factor {factor:.2f}"


@pytest.mark.parametrize("kind", CAMPAIGN_TYPES)
def test_campaigns_bring_as_many_redeemers_and_redemptions(found: MailRates, kind: str) -> None:
    target, simulated = CAMPAIGNS[kind], found.campaigns[kind]
    _hold(simulated.redeemers, target.redeemers, "redeemers")
    _hold(simulated.redemptions, target.redemptions, "redemptions")
    _hold(simulated.redemptions / target.offers, PER_OFFER[kind], "redemptions per coupon")


@pytest.mark.parametrize(("kind", "name", "segment"), CELLS)
def test_segments_redeem_as_published(found: MailRates, kind: str, name: str, segment: str) -> None:
    rates = CAMPAIGNS[kind].margins()[name]
    simulated = float(found.campaigns[kind].segments[name][list(rates).index(segment)])
    published = rates[segment]
    if published.share == 0.0:
        # None of n: with 95 % confidence below 3 / n (Hanley and Lippman-Hand 1983).
        assert simulated <= 3.0 / published.n
    elif published.n >= LEAST_HOUSEHOLDS:
        _hold(simulated, published.share, segment)
    else:
        # One redeemer of so few says next to nothing: two standard errors around it.
        assert abs(simulated - published.share) <= 2.0 * (published.share / published.n) ** 0.5


def test_most_segments_say_something() -> None:
    telling = [CAMPAIGNS[kind].margins()[name][segment] for kind, name, segment in CELLS]
    assert sum(rate.n >= LEAST_HOUSEHOLDS and rate.share > 0.0 for rate in telling) >= len(telling) - 4


def test_habits_count_as_published(found: MailRates) -> None:
    for simulated, (name, published) in zip(found.by_habit, AFFINITY.items(), strict=True):
        _hold(float(simulated), published.share, name)


def test_past_redeemers_redeem_as_published(found: MailRates) -> None:
    for simulated, (before, published) in zip(found.by_previous, PREVIOUS_REDEEMER.items(), strict=True):
        _hold(float(simulated), published.share, f"redeemed before: {before}")


def test_another_market_is_not_as_published() -> None:
    """The checks above can fail: nobody is told apart by habits here."""
    effects = type(FITTED)(FITTED.campaigns, (0.0, 0.0, 0.0), FITTED.proneness)
    rates = mail_rates(mail_market(SEEDS[0], 3000), effects).by_habit
    published = np.array([rate.share for rate in AFFINITY.values()])
    assert (np.maximum(rates / published, published / rates) > WITHIN).any()
