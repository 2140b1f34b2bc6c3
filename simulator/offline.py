"""A loop on a simulated market without servers: the decide and learn path of the service, one process, no waiting.

For tests and studies of policies. Outcomes are known ``lag`` decisions later, and nobody tires of an offer: the truth
of all visits is then known before the first decision, and the same for every policy.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from contextual_bandit.actions import action_of, no_offer, offer_features
from contextual_bandit.context import Known, build_context
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.policy import Policy
from contextual_bandit.season import Region
from contextual_bandit.slots import lessons, use_of
from contextual_bandit.types import Action, Context, CustomerRecord, Decision, LoggedInteraction, Offer
from contextual_bandit.weather import Observation
from simulator.climate import Weather
from simulator.responses import Responses, draw_responses
from simulator.shelf import MarketOffer
from simulator.shoppers import Floats, Indices
from simulator.world import Moments, Objective, Truth, World

# The world's days are wet or dry; the service's features want millimetres.
WET_MM = {"rain": 6.0, "snow": 6.0}
# Money per visit that rewards lie between (clipped beyond, which hardly happens), and clicks.
REWARD_RANGES: dict[Objective, tuple[float, float]] = {"clicks": (0.0, 1.0), "margin": (-2.0, 14.0)}
COUNTRY = "US"
AFFINITY = "r16"


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Visits in order of time with what is true of them; ``seconds`` since the market's start, shape (rows,)."""

    customer: Indices
    seconds: Indices
    moments: Moments
    truth: Truth

    @property
    def size(self) -> int:
        """Number of visits."""
        return self.customer.size


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a policy did at each visit, shape (rows,).

    ``expected`` is the true expected reward of the offer that was served, ``value`` that of the distribution it was
    drawn from, ``reward`` what came in.
    """

    chosen: Indices
    propensity: Floats
    expected: Floats
    value: Floats
    reward: Floats
    decisions: tuple[Decision, ...]


def draw_visits(world: World, count: int, seed: int, first_day: float = 0.0, last_day: float | None = None) -> Visits:
    """Visits by humans, spread evenly over days of the market.

    Args:
        world: The market.
        count: How many.
        seed: Where chance comes from.
        first_day: Earliest day since the market's start.
        last_day: Day before which they end; by default the market's last.
    """
    generator = np.random.default_rng([world.seed, 7, seed])
    weight = np.where(world.population.is_bot, 0.0, world.population.visit_weight)
    customer = generator.choice(weight.size, count, p=weight / weight.sum())
    end = world.days if last_day is None else last_day
    seconds = np.sort(generator.integers(int(first_day * 86400), int(end * 86400), count))
    moments = world.moments(customer, seconds)
    return Visits(customer, seconds, moments, world.truth(moments))


def market_loop(world: World, **changes: object) -> LoopConfig:
    """The settings of a market's loop, with changes."""
    low, high = REWARD_RANGES[world.objective]
    loop = LoopConfig(f"market-{world.seed}", reward=RewardDefinition(low=low, high=high))
    return replace(loop, **changes)  # type: ignore[arg-type]


class OfflineLoop:
    """One loop of a market and its policy; namespaces whose letters are ``hidden`` are kept from the policy.

    Of a customer with an offer everybody knows what was bought within 90 days, as the affinity AFFINITY: 0 nothing of
    it, 1 the category, 2 the very product.
    """

    def __init__(self, world: World, policy: Policy, loop: LoopConfig | None = None, *, hidden: str = "") -> None:
        self.world = world
        self.policy = policy
        self.loop = loop or market_loop(world)
        self._hidden = hidden
        self._bought = world.population.habits(world.shelf.category.tolist())
        self.actions = [_action(offer) for offer in world.offers]
        self._sequence = 0

    def play(self, visits: Visits, seed: int, *, lag: int = 0, learn: bool = True) -> Run:
        """Decide at every visit and, ``lag`` decisions later, learn of what came.

        Args:
            visits: The visits, in order of time.
            seed: Luck of what customers do; equal seeds give loops of one market equal luck.
            lag: Decisions between a decision and its reward.
            learn: Whether the policy learns.
        """
        size = visits.size
        truth = visits.truth.reward(self.world.objective)
        chosen = np.zeros(size, dtype=np.int64)
        propensity, value, reward = np.zeros(size), np.zeros(size), np.zeros(size)
        decisions: list[Decision] = []
        waiting: deque[tuple[int, Decision]] = deque()
        luck = _Luck(self.world, visits, seed)
        for row in range(size):
            decision, available = self.decide(visits, row, f"s{seed}-{row}")
            slot = decision.slots[0]
            assert slot.distribution is not None
            assert slot.propensity is not None
            chosen[row], propensity[row] = available[slot.chosen], slot.propensity
            value[row] = float(np.dot(slot.distribution.served, truth[row, available]))
            reward[row] = luck.reward(row, int(chosen[row]))
            decisions.append(decision)
            waiting.append((row, decision))
            if learn and len(waiting) > lag:
                self._learn(*waiting[0], float(reward[waiting[0][0]]))
                waiting.popleft()
        return Run(chosen, propensity, truth[np.arange(size), chosen], value, reward, tuple(decisions))

    def decide(self, visits: Visits, row: int, decision_id: str) -> tuple[Decision, Indices]:
        """The decision of one visit, and the offers' indices in the order of its actions."""
        customer = int(visits.customer[row])
        at = self.world.start + timedelta(seconds=int(visits.seconds[row]))
        available = np.flatnonzero(visits.truth.is_available[row])
        name = self.world.customers[customer].customer_id
        moment = Moment(decision_id, name, at, at, deferred=False, request_hash="")
        choice = Choice(self.context(customer, at), self.actions_of(customer, available), (), no_offer())
        return decide(self.loop, ServingPolicy(self.policy, "policy", "snapshot"), moment, choice), available

    def actions_of(self, number: int, available: Indices) -> list[Action]:
        """The offers as a policy sees them for one customer, in the order of their indices."""
        actions = []
        for index in available.tolist():
            known = {} if self.world.offers[index].is_none else {AFFINITY: float(self._bought[number, index])}
            actions.append(replace(self.actions[index], affinity=known))
        return actions

    def context(self, number: int, at: datetime) -> Context:
        """What the policy knows of a customer and a moment."""
        customer = self.world.customers[number]
        known = Known(
            record=CustomerRecord(customer.demographics),
            region_name=customer.region,
            region=Region(customer.region, "UTC", COUNTRY),
            weather=_observation(self.world.weather_at(customer.region, at)),
            weather_source="table",
        )
        context, _ = build_context(self.loop, at, known, {})
        return Context({name: given for name, given in context.namespaces.items() if name not in self._hidden})

    def _learn(self, row: int, decision: Decision, reward: float) -> None:
        self._sequence += 1
        definition = self.loop.reward
        clipped = min(max(reward, definition.low), definition.high)
        one = LoggedInteraction(self._sequence, decision, clipped, use_of(decision), decision.decided_at)
        self.policy.learn(list(lessons(one, definition.low, definition.high)))


class _Luck:
    """Responses of all visits to each offer that was asked for, drawn in one go."""

    def __init__(self, world: World, visits: Visits, seed: int) -> None:
        self._world = world
        self._visits = visits
        self._seed = seed
        self._drawn: dict[int, Floats] = {}

    def reward(self, row: int, offer: int) -> float:
        if offer not in self._drawn:
            everybody = np.full(self._visits.size, offer)
            self._drawn[offer] = self._responses(everybody).reward(self._world.objective)
        return float(self._drawn[offer][row])

    def _responses(self, chosen: Indices) -> Responses:
        generator = np.random.default_rng([self._world.seed, 8, self._seed])
        return draw_responses(self._world, self._visits.moments, self._visits.truth, chosen, generator)


def _action(offer: MarketOffer) -> Action:
    if offer.is_none:
        return replace(no_offer(), offer_id=offer.offer_id)
    listed = Offer(
        offer.offer_id, offer.category, features=offer.features, type="percentage", discount=offer.discount,
        price=offer.price, margin=offer.margin, cost=offer.cost,
    )  # fmt: skip
    return action_of(listed, offer_features(listed), {}, "promoted")


def _observation(weather: Weather) -> Observation:
    return Observation(weather.celsius, WET_MM.get(weather.condition, 0.0), weather.condition)
