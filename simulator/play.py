"""Plays a simulated market against a running service, over HTTP and faster than real time, as a shop would.

Simulated time passes in slices of an hour, all of whose messages may be in flight together. The loop's grace is as
long, so that a message that overtakes another inside its slice closes no decision too early. A customer's own visits
follow each other. With an ablation every visit is ranked in two loops: one sees the weather and the season, the other
does not. Both have the same customers, moments and luck, each its own exposures; profiles come from the first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.loops import BaselineSetting
from contextual_bandit.types import Action, Context
from simulator.assumed import CATEGORIES
from simulator.calls import ATTEMPTS, Caller, CallRefused
from simulator.messages import (
    GRACE_SECONDS,
    WAIT_DAYS,
    WEATHER_AND_SEASON,
    Due,
    customer_body,
    loop_settings,
    offer_body,
    outcomes,
    region_body,
    region_name,
    session,
)
from simulator.responses import Responses, draw_responses
from simulator.shoppers import Floats
from simulator.traffic import Visit, plan_visits
from simulator.world import DAY, Exposures, Truth, World

SLICE = timedelta(hours=1)
BELOW_THE_FOLD_SHARE = 0.25
SEEN_SHARE = 0.7
REPEATED_SHARE = 0.01
PRECOMPUTE_DAYS = 7
MOST_ACTIVITIES = 5000
# The campaign manager knows what a customer bought; a purchase counts half as much every 16 weeks.
MANAGER_HALF_LIFE_DAYS = 112.0


@dataclass(frozen=True, slots=True)
class Served:
    """One decision and its truth: expected reward of every offer at that moment, and which one was served.

    ``manager`` are the probabilities that the campaign manager's policy would have given, None in the ablation.
    """

    at: datetime
    is_bot: bool
    is_seen: bool
    chosen: int
    truth: Floats
    manager: Floats | None
    reward: float


@dataclass(slots=True)
class Contender:
    """A loop that every visit is ranked in, and what was served; ``hidden`` namespaces are kept from its policy."""

    loop: str
    hidden: str = ""
    exposures: Exposures = field(default_factory=Exposures)
    served: dict[int, Served] = field(default_factory=dict)


@dataclass(slots=True)
class Sent:
    """Counts of what was sent."""

    outcomes: int = 0
    doubled: int = 0
    late: int = 0
    never: int = 0
    activations: int = 0
    unseen: int = 0
    repeated_ranks: int = 0
    activities: int = 0


class Market:
    """One run of a world against one service."""

    def __init__(
        self, caller: Caller, world: World, *, days: int, visits_per_day: float, ablation: bool = True
    ) -> None:
        name = f"simulated-market-{world.seed}"
        self.contenders = [Contender(name)]
        if ablation:
            self.contenders.append(Contender(f"{name}-without-weather-and-season", WEATHER_AND_SEASON))
        self.sent = Sent()
        self._world = world
        self._days = days
        self._visits_per_day = visits_per_day
        self._caller = caller
        self._due: list[Due] = []
        self._activities: list[dict[str, Any]] = []
        self._position = {offer.offer_id: index for index, offer in enumerate(world.offers)}
        self._manager = Manager(world)

    async def run(self, progress: Callable[[float], None]) -> list[dict[str, Any]]:
        """Set the shop up, play all days, and return where each loop then stands.

        Args:
            progress: Called as simulated time passes, with the number of days played.

        Raises:
            CallRefused: the service refused a call, stayed away, or has played this market before.
        """
        await self._open_shop()
        for day, visits in enumerate(plan_visits(self._world, self._days, self._visits_per_day)):
            await self._greet(day)
            if day % PRECOMPUTE_DAYS == PRECOMPUTE_DAYS - 1:
                await self._precompute()
            for hour in range(24):
                start = self._world.start + day * DAY + hour * SLICE
                await self._play_slice(start, [visit for visit in visits if visit.at.hour == hour])
                progress(day + (hour + 1) / 24)
            await self._tick(self._world.start + (day + 1) * DAY)
        await self._drain()
        return [
            dict((await self._caller.call("GET", f"/v1/loops/{contender.loop}"))["status"])
            for contender in self.contenders
        ]

    async def _open_shop(self) -> None:
        listed = await self._caller.call("GET", "/v1/loops")
        played = {loop["loop"] for loop in listed["loops"]} & {contender.loop for contender in self.contenders}
        if played:
            raise CallRefused(f"loop {min(played)!r} has been played here before; take another seed")
        for region in self._world.regions:
            await self._caller.call("PUT", f"/v1/regions/{region_name(region, self._world.seed)}", region_body())
        for offer in self._world.offers:
            await self._caller.call("PUT", f"/v1/offers/{offer.offer_id}", offer_body(offer, self._world.start))
        for contender in self.contenders:
            settings = loop_settings(self._world.objective, hidden=contender.hidden)
            await self._caller.call("PUT", f"/v1/loops/{contender.loop}", settings)

    async def _greet(self, day: int) -> None:
        """Customers who join on a day are made known."""
        await self._caller.together(
            self._caller.call("PUT", f"/v1/customers/{customer.customer_id}", customer_body(customer, self._world.seed))
            for customer in self._world.customers
            if day - 1 < customer.joined_day <= day
        )

    async def _precompute(self) -> None:
        """What the scheduled job does: affinities of the population."""
        answer = await self._caller.call("POST", "/v1/jobs?wait=done", {"kind": "precompute"})
        if answer["state"] == "failed":
            raise CallRefused(f"the job precompute failed: {answer['error']}")

    async def _play_slice(self, start: datetime, visits: Sequence[Visit]) -> None:
        by_customer: dict[str, list[Visit]] = {}
        for visit in visits:
            by_customer.setdefault(visit.customer.customer_id, []).append(visit)
        await self._caller.together(self._visit_all(own) for own in by_customer.values())
        await self._send_due(start + SLICE)
        await self._send_activities()

    async def _visit_all(self, visits: Sequence[Visit]) -> None:
        for visit in visits:
            for contender in self.contenders:
                await self._visit(visit, contender)

    async def _visit(self, visit: Visit, contender: Contender) -> None:
        world, customer = self._world, visit.customer
        generator = np.random.default_rng([world.seed, 11, visit.number])
        below, seen, again = generator.random(3)
        is_deferred = bool(below < BELOW_THE_FOLD_SHARE)
        is_seen = not is_deferred or bool(seen < SEEN_SHARE)
        moment = world.moment(customer, visit.at, contender.exposures.of(customer.customer_id, visit.at))
        moments = world.single(customer, moment)
        truth = world.truth(moments)
        chosen, decision_id = await self._rank(visit, contender, is_deferred, bool(again < REPEATED_SHARE))
        offer = world.offers[chosen]
        found = draw_responses(world, moments, truth, np.array([chosen]), generator, is_seen=is_seen)
        if is_deferred:
            await self._activate(contender, decision_id, visit.at, is_seen)
        self._keep(visit, contender, is_seen, chosen, truth, found)
        viewed = [CATEGORIES[index] for index in _browse(world, visit, generator)]
        if is_seen:
            contender.exposures.add(customer.customer_id, offer.offer_id, visit.at)
            for due in outcomes(world, (contender.loop, decision_id), visit.at, offer, found, generator, visit.number):
                heapq.heappush(self._due, due)
        if contender is self.contenders[0]:
            shown = offer if is_seen else None
            self._activities += session(decision_id, customer, visit.at, viewed, shown, found)
            self._manager.learn(customer.number, visit.at, found, offer.category if is_seen else None)

    async def _rank(self, visit: Visit, contender: Contender, is_deferred: bool, is_repeated: bool) -> tuple[int, str]:
        """Index of the offer to show, and the decision's id; some calls are made twice, as after a time-out."""
        decision_id = f"{contender.loop}-{visit.number}"
        body = {
            "loop": contender.loop,
            "decision_id": decision_id,
            "customer_id": visit.customer.customer_id,
            "occurred_at": visit.at.isoformat(),
            "context": {"weather": self._world.weather_at(visit.customer.region, visit.at).features},
            "candidates": list(self._position),
            "defer_activation": is_deferred,
        }
        answer = await self._caller.call("POST", "/v1/rank", body)
        if is_repeated:
            self.sent.repeated_ranks += 1
            again = await self._caller.call("POST", "/v1/rank", body)
            if again["offer_id"] != answer["offer_id"]:
                raise CallRefused(f"decision {decision_id!r} was answered with two offers")
        return self._position[answer["offer_id"]], decision_id

    async def _activate(self, contender: Contender, decision_id: str, at: datetime, is_seen: bool) -> None:
        """Tell the service that a banner below the fold was seen; of one that was not, it hears nothing."""
        if not is_seen:
            self.sent.unseen += 1
            return
        body = {"loop": contender.loop, "decision_id": decision_id, "occurred_at": at.isoformat()}
        await self._caller.call("POST", "/v1/activate", body)
        self.sent.activations += 1

    def _keep(
        self, visit: Visit, contender: Contender, is_seen: bool, chosen: int, truth: Truth, found: Responses
    ) -> None:
        rewards = truth.reward(self._world.objective)[0]
        manager = None
        if contender is self.contenders[0]:
            manager = self._manager.probabilities(visit.customer.number, visit.at, truth.is_available[0])
        contender.served[visit.number] = Served(
            visit.at, visit.customer.is_bot, is_seen, chosen, rewards, manager,
            float(found.reward(self._world.objective)[0]),
        )  # fmt: skip

    async def _send_due(self, until: datetime) -> None:
        """Send the activations and outcomes that arrive before a moment; some twice, as shops' retries do."""
        sends: list[Coroutine[Any, Any, Any]] = []
        while self._due and self._due[0].at < until:
            due = heapq.heappop(self._due)
            self.sent.outcomes += 1
            self.sent.late += due.is_late
            self.sent.doubled += due.doubled
            sends.extend(self._caller.call("POST", "/v1/reward", due.body) for _ in range(1 + due.doubled))
        await self._caller.together(sends)

    async def _send_activities(self) -> None:
        while self._activities:
            batch, self._activities = self._activities[:MOST_ACTIVITIES], self._activities[MOST_ACTIVITIES:]
            await self._caller.call("POST", "/v1/activity", {"activities": batch})
            self.sent.activities += len(batch)

    async def _tick(self, at: datetime) -> None:
        for contender in self.contenders:
            for _ in range(ATTEMPTS):
                path = f"/v1/loops/{contender.loop}/ticks?wait=applied"
                if (await self._caller.call("POST", path, {"occurred_at": at.isoformat()}))["applied"]:
                    break
            else:
                raise CallRefused(f"the learner has not passed {at.isoformat()} in {ATTEMPTS} waits; is it running?")

    async def _drain(self) -> None:
        """Let time pass until the last decision has closed; what would arrive later than that is not sent."""
        end = self._world.start + self._days * DAY
        last = end + timedelta(days=WAIT_DAYS, seconds=GRACE_SECONDS) + SLICE
        while self._due and self._due[0].at < last:
            await self._send_due(end + ((self._due[0].at - end) // SLICE + 1) * SLICE)
        self.sent.never = len(self._due)
        await self._tick(last + SLICE)


class Manager:
    """What the campaign manager would offer: the category that the customer bought most lately, else the first offer.

    The policy is the product's own baseline, its affinities what the market's customers bought.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._bought = np.zeros((world.population.size, len(CATEGORIES)))
        self._policy = BaselinePolicy(BaselineSetting(affinity="r16"))

    def probabilities(self, customer: int, at: datetime, available: np.ndarray[Any, np.dtype[np.bool_]]) -> Floats:
        """Probability of every offer, shape (offers,)."""
        counts = self._bought[customer] / self._growth(at)
        open_to = [index for index in np.flatnonzero(available) if not self._world.offers[index].is_none]
        actions = [
            Action(self._world.offers[index].offer_id, {}, {"r16": float(counts[self._world.shelf.category[index]])})
            for index in open_to
        ]
        given = np.zeros(len(self._world.offers))
        given[open_to] = self._policy.distribution(Context({}), actions)
        return given

    def learn(self, customer: int, at: datetime, found: Responses, offered: str | None) -> None:
        """Take note of a visit's purchases; ``offered`` is the category of an offer that was redeemed, if one was."""
        bought = found.organic[0].astype(np.float64)
        if offered in CATEGORIES and found.redeemed[0]:
            bought[CATEGORIES.index(offered)] += 1.0
        self._bought[customer] += bought * self._growth(at)

    def _growth(self, at: datetime) -> float:
        """Later purchases weigh more, instead of earlier ones less."""
        return float(2.0 ** ((at - self._world.start) / DAY / MANAGER_HALF_LIFE_DAYS))


def _browse(world: World, visit: Visit, generator: np.random.Generator) -> list[int]:
    """Categories that the customer looks at, by taste; bots look at many."""
    taste = world.population.taste[visit.customer.number]
    weights = np.ones(taste.size) if visit.customer.is_bot else np.exp(taste)
    count = 20 if visit.customer.is_bot else int(generator.integers(1, 4))
    return [int(index) for index in generator.choice(taste.size, count, p=weights / weights.sum())]
