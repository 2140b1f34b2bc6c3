"""Fits the market's redemptions by mail to the published rates: raking, one margin after the other.

Expected rates are computed, not drawn: a household that gets n coupons, each redeemed with probability p_j, is a
redeemer with probability 1 - E prod (1 - p_j), the mean taken over occasions (Gauss-Hermite quadrature). Each round
moves the log-odds of a segment by the logarithm of published over simulated share (iterative proportional fitting,
Deming and Stephan 1940), the spread of occasions by what redemptions per redeemer ask for, and that of proneness by
what past redeemers do. Weather and season, which are assumed, are switched off.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from pprint import pprint

import numpy as np

from simulator.calibration import FITTED, CampaignEffects, RedemptionEffects, no_effects
from simulator.shoppers import Floats, Indices, Population
from simulator.targets import AFFINITY, CAMPAIGN_TYPES, CAMPAIGNS, PREVIOUS_REDEEMER, CampaignTarget, Rate
from simulator.world import World, make_world

FIT_SEED = 101
FIT_CUSTOMERS = 30_000
ROUNDS = 60
PACE = 0.5
# A published share of 0 of n households is taken for this share of one household in n. Of fewer households than
# LEAST_HOUSEHOLDS nothing is taken: they are held to be like the next segment.
OF_NONE = 0.3
LEAST_HOUSEHOLDS = 20
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
HABITS = tuple(AFFINITY)


@dataclass(frozen=True, slots=True)
class CampaignRates:
    """Simulated counterparts of a CampaignTarget; ``segments`` by what divides them, in the targets' order."""

    redeemers: float
    redemptions: float
    segments: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class MailRates:
    """Expected rates of a market's mail: by campaign, and per coupon of types B and C by habit and past redemption."""

    campaigns: Mapping[str, CampaignRates]
    by_habit: Floats
    by_previous: Floats


def mail_rates(world: World, effects: RedemptionEffects) -> MailRates:
    """What a mail campaign of each type would bring in a market.

    Args:
        world: A market made with ``placement="mail"`` and without effects of weather and season.
        effects: The effects to judge.
    """
    people, habits = world.population, world.population.habits(world.shelf.category.tolist())
    neutral = world.moments(np.arange(people.size), np.zeros(people.size, dtype=np.int64))
    rates: dict[str, CampaignRates] = {}
    chances: dict[str, Floats] = {}
    redeems: dict[str, Floats] = {}
    for number, kind in enumerate(CAMPAIGN_TYPES):
        campaigns = np.full(world.shelf.category.size, number)
        static = effects.by_mail(people, campaigns, habits)
        target = CAMPAIGNS[kind]
        times = target.offers / campaigns.size
        chances[kind], redeems[kind] = np.zeros(static.shape), np.zeros(people.size)
        for node, share in zip(NODES, NODE_WEIGHTS / NODE_WEIGHTS.sum(), strict=True):
            occasion = replace(world, static=static + effects.campaigns[kind].occasion * node)
            given = occasion.truth(neutral).redemptions
            chances[kind] += share * given
            redeems[kind] += share * (1.0 - np.exp(times * np.log1p(-given).sum(axis=1)))
        weight = targeting(people, target)
        rates[kind] = CampaignRates(
            float(weight @ redeems[kind]),
            float(weight @ chances[kind].sum(axis=1)) * times,
            {name: _by(index, len(target.margins()[name]), weight, redeems[kind])
             for name, index in _segments(people).items()},
        )  # fmt: skip
    return MailRates(rates, _by_habit(people, habits, chances), _by_previous(people, chances, redeems["A"]))


def targeting(people: Population, target: CampaignTarget) -> Floats:
    """How likely each customer is the one that a campaign targeted, shape (customers,); sums to 1, without bots."""
    published = np.array([rate.n for rate in target.by_spend.values()], dtype=np.float64)
    human = ~people.is_bot
    counts = np.bincount(people.spending[human], minlength=4)
    return np.asarray(np.where(human, (published / published.sum() / counts)[people.spending], 0.0))


def fit(world: World, rounds: int = ROUNDS, start: RedemptionEffects | None = None) -> RedemptionEffects:
    """Effects under which a market's mail is taken as published.

    Args:
        world: As for ``mail_rates``.
        rounds: How often every margin is met in turn.
        start: Effects to begin with; by default none.
    """
    effects = start or no_effects()
    habit_targets = np.array([rate.share for rate in AFFINITY.values()])
    for _ in range(rounds):
        found = mail_rates(world, effects)
        steps = PACE * np.log(habit_targets / found.by_habit)
        habits = np.array(effects.habits) + steps
        apart = (PREVIOUS_REDEEMER[True].share / PREVIOUS_REDEEMER[False].share) / (
            found.by_previous[1] / found.by_previous[0]
        )
        effects = RedemptionEffects(
            {kind: _moved(effects.campaigns[kind], CAMPAIGNS[kind], found.campaigns[kind]) for kind in CAMPAIGN_TYPES},
            (0.0, float(habits[1] - habits[0]), float(habits[2] - habits[0])),
            float(np.clip(effects.proneness + PACE * np.log(apart), 0.05, 3.0)),
        )
    return effects


def _moved(effects: CampaignEffects, target: CampaignTarget, found: CampaignRates) -> CampaignEffects:
    per_redeemer = (target.redemptions / target.redeemers) / (found.redemptions / found.redeemers)
    moved = {
        name: _recentred(
            np.array(getattr(effects, f"by_{name}"))
            + PACE * np.log(_aims(rates) / found.segments[name])
        )
        for name, rates in target.margins().items()
    }  # fmt: skip
    return CampaignEffects(
        effects.intercept + PACE * log(target.redeemers / found.redeemers),
        min(max(effects.occasion + PACE * log(per_redeemer), 0.05), 4.0),
        moved["spend"],
        moved["income"],
        moved["kids"],
    )


def _recentred(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(values - values.mean(), -3.0, 3.0))


def _aims(rates: Mapping[str, Rate]) -> Floats:
    """The shares to meet; a segment of too few households is taken for the next one that has enough."""
    aims: list[float] = []
    last = 0.0
    for rate in reversed(list(rates.values())):
        last = max(rate.share, OF_NONE / rate.n) if rate.n >= LEAST_HOUSEHOLDS else last
        aims.append(last)
    return np.array(aims[::-1])


def _segments(people: Population) -> dict[str, Indices]:
    return {"spend": people.spending, "income": people.income, "kids": people.kids}


def _by(index: Indices, size: int, weight: Floats, value: Floats) -> Floats:
    """Weighted mean by segment, shape (size,)."""
    return np.asarray(np.bincount(index, weight * value, size) / np.bincount(index, weight, size))


def _by_habit(people: Population, habits: Indices, chances: Mapping[str, Floats]) -> Floats:
    redeemed, sent = np.zeros(len(HABITS)), np.zeros(len(HABITS))
    for kind in ("B", "C"):
        target = CAMPAIGNS[kind]
        weight = np.broadcast_to(
            target.targeted * target.offers * targeting(people, target)[:, np.newaxis], habits.shape
        )
        redeemed += np.bincount(habits.ravel(), (weight * chances[kind]).ravel(), len(HABITS))
        sent += np.bincount(habits.ravel(), weight.ravel(), len(HABITS))
    return redeemed / sent


def _by_previous(people: Population, chances: Mapping[str, Floats], redeemed_before: Floats) -> Floats:
    """Rate per coupon of types B and C of those who did not and did redeem in a campaign of type A before."""
    rows = []
    for before in (1.0 - redeemed_before, redeemed_before):
        redeemed, sent = 0.0, 0.0
        for kind in ("B", "C"):
            target = CAMPAIGNS[kind]
            weight = target.targeted * target.offers * targeting(people, target) * before
            redeemed += float(weight @ chances[kind].mean(axis=1))
            sent += float(weight.sum())
        rows.append(redeemed / sent)
    assert len(rows) == len(PREVIOUS_REDEEMER)
    return np.array(rows)


def mail_market(seed: int, customers: int) -> World:
    """A market without weather and season, whose offers come by mail."""
    return make_world(seed, customers, 1, weather_effect=0.0, season_effect=0.0, placement="mail")


if __name__ == "__main__":
    pprint(fit(mail_market(FIT_SEED, FIT_CUSTOMERS), start=FITTED), stream=sys.stdout, width=116)
