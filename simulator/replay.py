"""Published baskets replayed against a running service over HTTP: decisions, rewards and activity, week by week."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from simulator.baskets import Baskets, Ints, Plan, Purchases, week_start
from simulator.calls import Caller
from simulator.households import ASSUMED_REGION, REGION

BURN_IN_WEEKS = 2
IN_FLIGHT = 32
ACTIVITY_BATCH = 2000
PRECOMPUTE_WEEKS = 4
TIME_ZONE = "America/New_York"
# Chosen on this data with seeds 1 to 3, confirmed on seeds 4 to 6: docs/decisions/0004-learning-setting.md.
ARGUMENTS = (
    "--cb_explore_adf --squarecb --cb_type mtr --gamma_scale 1000 --gamma_exponent 0.5 --adaptive --invariant"
    " -l 0.0005 -q DA -q SA"
)
LOOP_SETTINGS: dict[str, Any] = {
    "arguments": ARGUMENTS,
    "exploration_floor": 0.02,
    "reward": {"wait_seconds": 8 * 86400.0, "aggregation": "earliest", "default": 0.0},
    "export_frequency_seconds": 600.0,
    "clock": "simulated",
    "close_on_final": True,
    "time_zone": TIME_ZONE,
    "region": ASSUMED_REGION,
}


class NotApplied(RuntimeError):
    """The learner did not keep up."""


@dataclass(slots=True)
class Record:
    """What the driver saw, in the plan's order."""

    chosen: list[str] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    rank_seconds: list[float] = field(default_factory=list)


class Driver:
    """Drives one loop of a service as a shop would; many calls are in flight at once.

    With ``baseline``, category indices of shape (household, week), the loop is an apprentice: every call names that
    offer first, which is then served, and the loop's model learns to choose the same.
    """

    def __init__(
        self, caller: Caller, baskets: Baskets, plan: Plan, loop: str, demographics: Mapping[str, Mapping[str, str]],
        baseline: Ints | None = None,
    ) -> None:  # fmt: skip
        self._caller = caller
        self._baskets = baskets
        self._plan = plan
        self._loop = loop
        self._demographics = demographics
        self._baseline = baseline
        self.offers = offer_ids(baskets.categories)
        self.record = Record()

    async def set_up(self) -> None:
        """Create the region, the catalogue, the loop and the customers whose demographics are known."""
        await self._caller.call("PUT", f"/v1/regions/{ASSUMED_REGION}", REGION)
        for offer_id, category in zip(self.offers, self._baskets.categories, strict=True):
            await self._caller.call("PUT", f"/v1/offers/{offer_id}", {"category": category})
        mode = "online" if self._baseline is None else "apprentice"
        await self._caller.call("PUT", f"/v1/loops/{self._loop}", {**LOOP_SETTINGS, "learning_mode": mode})
        await self._caller.together(
            [
                self._caller.call("PUT", f"/v1/customers/{customer_id}", {"demographics": features})
                for customer_id, features in self._demographics.items()
            ]
        )

    async def run(self, advance: Callable[[int], None]) -> None:
        """Burn-in, then every week: decisions at its start, rewards at its end, then everybody's purchases.

        Args:
            advance: told how many decisions were made since it was last called.
        """
        for week in range(1, BURN_IN_WEEKS + 1):
            await self._send_activity(self._baskets.purchases[week - 1])
        last_week = self._baskets.bought.shape[1]
        for week in range(BURN_IN_WEEKS + 1, last_week + 1):
            await self._tick(week_start(week))
            if (week - BURN_IN_WEEKS) % PRECOMPUTE_WEEKS == 1:
                await self._precompute()
            rows = np.flatnonzero(self._plan.week == week)
            answers = await self._caller.together([self._decide(week, int(self._plan.household[row])) for row in rows])
            rewards = [self._reward(week, int(self._plan.household[row]), answer)
                       for row, answer in zip(rows, answers, strict=True)]  # fmt: skip
            ended = week_start(week) + timedelta(days=7, hours=-1)
            await self._caller.together(
                [
                    self._send_reward(answer["decision_id"], reward, ended)
                    for answer, reward in zip(answers, rewards, strict=True)
                ]
            )
            self.record.chosen.extend(answer["offer_id"] for answer in answers)
            self.record.rewards.extend(rewards)
            await self._send_activity(self._baskets.purchases[week - 1])
            advance(len(rows))
        await self._tick(week_start(last_week) + timedelta(days=7))

    async def _precompute(self) -> None:
        """What the scheduled job does: population affinities per demographic cell and season, similarities."""
        answer = await self._caller.call("POST", "/v1/jobs?wait=done", {"kind": "precompute"})
        if answer["state"] != "done":
            raise NotApplied(f"the job precompute is {answer['state']}: {answer['error']}")

    async def status(self) -> dict[str, Any]:
        """Where the loop stands."""
        answer = await self._caller.call("GET", f"/v1/loops/{self._loop}")
        status: dict[str, Any] = answer["status"]
        return status

    def decision_id(self, week: int, household: int) -> str:
        """The id under which a household's decision of a week is made."""
        return f"w{week}-h{self._baskets.household_ids[household]}"

    async def _decide(self, week: int, household: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "loop": self._loop,
            "decision_id": self.decision_id(week, household),
            "customer_id": f"h{self._baskets.household_ids[household]}",
            "occurred_at": week_start(week).isoformat(),
        }
        if self._baseline is not None:
            first = self.offers[self._baseline[household, week - 1]]
            order = sorted(self.offers, key=lambda offer_id: offer_id != first)
            body["candidates"] = [{"offer_id": offer_id} for offer_id in order]
        answer, seconds = await self._caller.timed_call("POST", "/v1/rank", body)
        self.record.rank_seconds.append(seconds)
        return dict(answer)

    def _reward(self, week: int, household: int, answer: dict[str, Any]) -> float:
        return float(self._baskets.bought[household, week - 1, self.offers.index(answer["offer_id"])])

    async def _send_reward(self, decision_id: str, reward: float, at: datetime) -> None:
        body = {
            "loop": self._loop,
            "decision_id": decision_id,
            "value": reward,
            "outcome_id": f"{decision_id}-week",
            "occurred_at": at.isoformat(),
            "final": True,
        }
        await self._caller.call("POST", "/v1/reward", body)

    async def _send_activity(self, purchases: Purchases) -> None:
        activities = [
            {
                "customer_id": f"h{household}",
                "kind": "purchase",
                "occurred_at": at.astype("datetime64[us]").item().replace(tzinfo=UTC).isoformat(),
                "category": self._baskets.categories[category],
                "amount": max(float(amount), 0.0),
                "activity_id": f"b{basket}-{category}",
            }
            for household, category, at, amount, basket in zip(
                purchases.household_id, purchases.category, purchases.occurred_at, purchases.sales_value,
                purchases.basket_id, strict=True,
            )
        ]  # fmt: skip
        for start in range(0, len(activities), ACTIVITY_BATCH):
            body = {"activities": activities[start : start + ACTIVITY_BATCH]}
            answer = await self._caller.call("POST", "/v1/activity?wait=applied", body)
            if not answer["applied"]:
                raise NotApplied("activity was not applied within the time that calls may wait")

    async def _tick(self, at: datetime) -> None:
        answer = await self._caller.call(
            "POST", f"/v1/loops/{self._loop}/ticks?wait=applied", {"occurred_at": at.isoformat()}
        )
        if not answer["applied"]:
            raise NotApplied("the learner did not keep up with the tick")


def offer_ids(categories: Sequence[str]) -> list[str]:
    """An id for each category's offer: its name in lower case with dashes.

    >>> offer_ids(["FRZN ICE", "VEGETABLES - ALL OTHERS"])
    ['frzn-ice', 'vegetables-all-others']
    """
    return ["-".join("".join(c if c.isalnum() else " " for c in name.lower()).split()) for name in categories]
