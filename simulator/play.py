"""Plays a simulated market against a running service, over HTTP and faster than real time, as a shop would.

Simulated time passes in slices of an hour, all of whose messages may be in flight together. The loop's grace is as
long, so that a message that overtakes another inside its slice closes no decision too early. A customer's own visits
follow each other. Reference values are moment by moment: each moment's recent exposures are those that the served
offers made.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.calls import ATTEMPTS, Caller, CallRefused
from simulator.world import Customer, Exposures, Moment, World

SLICE = timedelta(hours=1)
DAY = timedelta(days=1)
WAIT_SECONDS = 86400.0
EXPORT_SECONDS = 6 * 3600.0
DOUBLED_SHARE = 0.05
ORGANIC_PURCHASE_SHARE = 0.25
PURCHASE_AFTER_CLICK_SHARE = 0.4
MOST_ACTIVITIES = 5000
ASSUMED = ("weather effects", "season effects")
# Relative number of visits in each hour of the (UTC) day.
HOURS = np.array([1, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 10, 12, 13, 12, 9, 5, 2], dtype=np.float64)


class NothingServed(ValueError):
    """A run without decisions has no values."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One customer's visit; ``number`` counts all visits from 0 and names the decision."""

    number: int
    customer: Customer
    at: datetime


@dataclass(frozen=True, slots=True)
class Served:
    """One decision and its truth: expected reward of every offer at that moment, and which one was served."""

    at: datetime
    chosen: int
    truth: NDArray[np.float64]
    clicked: bool
    in_time: bool


@dataclass(order=True, slots=True)
class Due:
    """An outcome on its way to the shop."""

    at: datetime
    decision_id: str
    doubled: bool = field(compare=False)


@dataclass(slots=True)
class Played:
    """What was sent and what came back; ``served`` by visit number."""

    served: dict[int, Served] = field(default_factory=dict)
    outcomes: int = 0
    repeated: int = 0
    late: int = 0
    activities: int = 0


class Market:
    """One run of a world against one service."""

    def __init__(self, caller: Caller, world: World, *, days: int, visits_per_day: float) -> None:
        self.loop = f"simulated-market-{world.seed}"
        self.played = Played()
        self._world = world
        self._days = days
        self._visits_per_day = visits_per_day
        self._caller = caller
        self._exposures = Exposures()
        self._due: list[Due] = []
        self._activities: list[dict[str, Any]] = []
        self._position = {offer.offer_id: index for index, offer in enumerate(world.offers)}

    async def run(self, progress: Callable[[int], None]) -> dict[str, Any]:
        """Set the shop up, play all days, and return where the loop then stands.

        Args:
            progress: Called after each simulated day with the number of days played.

        Raises:
            CallRefused: the service refused a call, stayed away, or has played this market before.
        """
        await self._open_shop()
        for day, visits in enumerate(self._plan()):
            for hour in range(24):
                await self._play_slice(
                    self._world.start + day * DAY + hour * SLICE, [visit for visit in visits if visit.at.hour == hour]
                )
            await self._tick(self._world.start + (day + 1) * DAY)
            progress(day + 1)
        await self._drain()
        return dict((await self._caller.call("GET", f"/v1/loops/{self.loop}"))["status"])

    async def _open_shop(self) -> None:
        listed = await self._caller.call("GET", "/v1/loops")
        if any(loop["loop"] == self.loop for loop in listed["loops"]):
            raise CallRefused(f"loop {self.loop!r} has been played here before; take another seed")
        settings = {
            "clock": "simulated",
            "reward": {"wait_seconds": WAIT_SECONDS},
            "grace_seconds": SLICE.total_seconds(),
            "export_frequency_seconds": EXPORT_SECONDS,
        }
        await self._caller.call("PUT", f"/v1/loops/{self.loop}", settings)
        for offer in self._world.offers:
            body = {"category": offer.category, "features": offer.features}
            await self._caller.call("PUT", f"/v1/offers/{offer.offer_id}", body)
        await self._caller.together(
            self._caller.call("PUT", f"/v1/customers/{customer.customer_id}", {"demographics": customer.demographics})
            for customer in self._world.customers
        )

    def _plan(self) -> Iterable[list[Visit]]:
        """Each day's visits in order of time: a Poisson number, customers by how much they visit."""
        weights = np.array([customer.visit_weight for customer in self._world.customers])
        number = 0
        for day in range(self._days):
            generator = np.random.default_rng([self._world.seed, 10, day])
            count = int(generator.poisson(self._visits_per_day))
            who = generator.choice(weights.size, size=count, p=weights / weights.sum())
            hours = generator.choice(24, size=count, p=HOURS / HOURS.sum()) + generator.random(count)
            visits = []
            for hour, index in sorted(zip(hours.tolist(), who.tolist(), strict=True)):
                at = self._world.start + day * DAY + timedelta(seconds=int(hour * 3600))
                visits.append(Visit(number, self._world.customers[index], at))
                number += 1
            yield visits

    async def _play_slice(self, start: datetime, visits: Sequence[Visit]) -> None:
        by_customer: dict[str, list[Visit]] = {}
        for visit in visits:
            by_customer.setdefault(visit.customer.customer_id, []).append(visit)
        await self._caller.together(self._visit_all(own) for own in by_customer.values())
        await self._send_due(start + SLICE)
        await self._send_activities()

    async def _visit_all(self, visits: Sequence[Visit]) -> None:
        for visit in visits:
            await self._visit(visit)

    async def _visit(self, visit: Visit) -> None:
        world, customer = self._world, visit.customer
        generator = np.random.default_rng([world.seed, 11, visit.number])
        moment = world.moment(customer, visit.at, self._exposures.of(customer.customer_id, visit.at))
        decision_id = f"{self.loop}-{visit.number}"
        answer = await self._caller.call(
            "POST",
            "/v1/rank",
            {
                "loop": self.loop,
                "decision_id": decision_id,
                "customer_id": customer.customer_id,
                "occurred_at": visit.at.isoformat(),
                "context": {"weather": moment.weather.features, "shop": {"region": customer.region}},
                "candidates": list(self._position),
            },
        )
        chosen = self._position[answer["offer_id"]]
        offer = world.offers[chosen]
        self._exposures.add(customer.customer_id, offer.offer_id, visit.at)
        response = world.respond(customer, moment, offer, generator)
        in_time = response.delay_seconds <= WAIT_SECONDS
        truth = world.expected_rewards(customer, moment)
        self.played.served[visit.number] = Served(visit.at, chosen, truth, response.clicked, in_time)
        doubled = bool(generator.random() < DOUBLED_SHARE)
        if response.clicked:
            heard_at = visit.at + timedelta(seconds=response.delay_seconds)
            heapq.heappush(self._due, Due(heard_at, decision_id, doubled))
            self._note(visit, "click", offer.category, offer.offer_id)
        self._browse(visit, moment, generator)
        if response.clicked and generator.random() < PURCHASE_AFTER_CLICK_SHARE:
            self._note(visit, "purchase", offer.category, offer.offer_id, offer.price * (1.0 - offer.discount))

    def _browse(self, visit: Visit, moment: Moment, generator: np.random.Generator) -> None:
        for category in self._world.browse(visit.customer, generator, int(generator.integers(1, 4))):
            self._note(visit, "view", category)
        if generator.random() < ORGANIC_PURCHASE_SHARE:
            bought = self._world.browse(visit.customer, generator, 1)[0]
            self._note(visit, "purchase", bought, amount=float(generator.uniform(2.0, 20.0)))

    def _note(
        self, visit: Visit, kind: str, category: str, offer_id: str | None = None, amount: float | None = None
    ) -> None:
        entry: dict[str, Any] = {
            "activity_id": f"{self.loop}-{visit.number}-{kind}-{category}-{len(self._activities)}",
            "customer_id": visit.customer.customer_id,
            "kind": kind,
            "occurred_at": visit.at.isoformat(),
            "category": category,
        }
        if offer_id is not None:
            entry["offer_id"] = offer_id
        if amount is not None:
            entry["amount"] = round(amount, 2)
        self._activities.append(entry)

    async def _send_due(self, until: datetime) -> None:
        """Send the outcomes that arrive before a moment; some twice, as shops' retries do."""
        sends: list[Coroutine[Any, Any, Any]] = []
        while self._due and self._due[0].at < until:
            due = heapq.heappop(self._due)
            body = {
                "loop": self.loop,
                "decision_id": due.decision_id,
                "value": 1.0,
                "outcome_id": f"{due.decision_id}-click",
                "occurred_at": due.at.isoformat(),
            }
            served = self.played.served[int(due.decision_id.rpartition("-")[2])]
            self.played.outcomes += 1
            self.played.late += not served.in_time
            self.played.repeated += due.doubled
            sends.extend(self._caller.call("POST", "/v1/reward", body) for _ in range(1 + due.doubled))
        await self._caller.together(sends)

    async def _send_activities(self, query: str = "") -> None:
        while self._activities:
            batch, self._activities = self._activities[:MOST_ACTIVITIES], self._activities[MOST_ACTIVITIES:]
            await self._caller.call("POST", f"/v1/activity{query}", {"activities": batch})
            self.played.activities += len(batch)

    async def _tick(self, at: datetime) -> None:
        for _ in range(ATTEMPTS):
            answer = await self._caller.call(
                "POST", f"/v1/loops/{self.loop}/ticks?wait=applied", {"occurred_at": at.isoformat()}
            )
            if answer["applied"]:
                return
        raise CallRefused(f"the learner has not passed {at.isoformat()} in {ATTEMPTS} waits; is it running?")

    async def _drain(self) -> None:
        """Let time pass until the last decision has closed and the last outcome, however late, has arrived."""
        end = self._world.start + self._days * DAY
        last = end + timedelta(seconds=WAIT_SECONDS) + 2 * SLICE
        while self._due:
            next_slice = end + ((self._due[0].at - end) // SLICE + 1) * SLICE
            await self._send_due(next_slice)
            last = max(last, next_slice)
        await self._tick(last)


@dataclass(frozen=True, slots=True)
class Series:
    """Expected value under the truth per decision, in order of time, of what was served and of what could have been."""

    at: tuple[datetime, ...]
    served: NDArray[np.float64]
    optimal: NDArray[np.float64]
    uniform: NDArray[np.float64]
    best_fixed: NDArray[np.float64]
    best_fixed_offer: int


def make_series(played: Played) -> Series:
    """Score a run; the best fixed offer is known only in hindsight.

    Raises:
        NothingServed: the run had no visit.
    """
    rows = [played.served[number] for number in sorted(played.served)]
    if not rows:
        raise NothingServed("no customer came; more days or a higher rate are needed")
    truth = np.stack([row.truth for row in rows])
    served = truth[np.arange(len(rows)), [row.chosen for row in rows]]
    best = int(truth.mean(axis=0).argmax())
    return Series(
        tuple(row.at for row in rows), served, truth.max(axis=1), truth.mean(axis=1), truth[:, best], best
    )  # fmt: skip


def summarize(
    world: World, market: Market, series: Series, status: Mapping[str, Any], started: float
) -> dict[str, Any]:
    """The run's figures; values are means per decision.

    Args:
        world: The market's truth.
        market: The run.
        series: Its decisions, scored.
        status: Where the service says the loop stands.
        started: ``time.monotonic()`` at the start.
    """
    played = market.played
    days = np.array([(at - world.start) // DAY for at in series.at])
    lost = np.bincount(days, weights=series.optimal - series.served)
    half = slice(series.served.size // 2, None)
    rows = played.served.values()
    return {
        "loop": market.loop,
        "seed": world.seed,
        "customers": len(world.customers),
        "offers": len(world.offers),
        "start": world.start.isoformat(),
        "assumed": list(ASSUMED),
        "decisions": len(rows),
        "interactions": status["interactions"],
        "open": status["open"],
        "duplicated": status["duplicated"],
        "snapshots": status["snapshots"],
        "clicks": sum(row.clicked for row in rows),
        "outcomes_repeated": played.repeated,
        "outcomes_late": played.late,
        "activities": played.activities,
        "mean_reward": sum(row.clicked and row.in_time for row in rows) / len(rows),
        "value": {
            name: float(values.mean())
            for name, values in (
                ("served", series.served),
                ("served_last_half", series.served[half]),
                ("optimal", series.optimal),
                ("optimal_last_half", series.optimal[half]),
                ("uniform", series.uniform),
                ("uniform_last_half", series.uniform[half]),
                ("best_fixed", series.best_fixed),
                ("best_fixed_last_half", series.best_fixed[half]),
            )
        },
        "best_fixed_offer": world.offers[series.best_fixed_offer].offer_id,
        "regret": float(lost.sum()),
        "regret_per_day": [round(float(value), 4) for value in lost],
        "seconds": round(time.monotonic() - started, 1),
    }
