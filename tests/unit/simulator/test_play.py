"""Tests of simulator.play and its messages against a service that is only pretended."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from simulator.calls import Caller, CallRefused
from simulator.drift import Drift
from simulator.messages import WAIT_DAYS, loop_settings, offer_body, outcomes
from simulator.play import Market
from simulator.responses import draw_responses
from simulator.shelf import draw_offers
from simulator.traffic import busyness, plan_visits
from simulator.world import DAY, START, Objective, World, make_world

DAYS = 3


class Pretended(Caller):
    """Answers as the service would, with the first candidate; keeps every call."""

    def __init__(self, played: str = "") -> None:
        super().__init__("http://nowhere.invalid", 1)
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self._played = played

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        self.calls.append((method, path, dict(body or {})))
        await asyncio.sleep(0)
        match (method, path.partition("?")[0].split("/")[2:]):
            case ("GET", ["loops"]):
                return {"loops": [{"loop": self._played}]}
            case ("GET", ["loops", _]):
                return {"status": {"interactions": 0}}
            case (_, ["rank"]):
                return {"offer_id": body["candidates"][0], "decision_id": body["decision_id"]}
            case (_, ["jobs"]):
                return {"state": "done", "error": None}
        return {"applied": True}

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for _, called, body in self.calls if called.startswith(path)]


def _world(objective: Objective = "clicks") -> World:
    offers = draw_offers(3, newcomers=1, days=DAYS, with_none=objective == "margin")
    return make_world(
        3, 60, DAYS, objective=objective, offers=offers, late_share=0.3, drift=Drift(shift_day=1.0)
    )  # fmt: skip


def _play(world: World, *, ablation: bool = True) -> tuple[Pretended, Market]:
    caller = Pretended()
    market = Market(caller, world, days=DAYS, visits_per_day=60.0, ablation=ablation)
    asyncio.run(market.run(lambda days: None))
    return caller, market


@pytest.fixture(scope="module")
def played() -> tuple[Pretended, Market]:
    return _play(_world())


def test_both_loops_rank_the_same_visits(played: tuple[Pretended, Market]) -> None:
    caller, market = played
    first, second = market.contenders
    assert first.served.keys() == second.served.keys()
    assert len(first.served) > 100
    ranks = {body["decision_id"]: body for body in caller.bodies("/v1/rank")}
    for number in first.served:
        one, other = (ranks[f"{contender.loop}-{number}"] for contender in (first, second))
        assert {**one, "loop": "", "decision_id": ""} == {**other, "loop": "", "decision_id": ""}
    settings = {path: body for _, path, body in caller.calls if "arguments" in body}
    assert "--ignore WS" not in settings[f"/v1/loops/{first.loop}"]["arguments"]
    assert settings[f"/v1/loops/{second.loop}"]["arguments"].endswith("--ignore WS")


def test_equal_luck_befalls_both_loops(played: tuple[Pretended, Market]) -> None:
    _, market = played
    first, second = market.contenders
    # The service that is pretended serves both the same, so that they are worth the same.
    for number, row in first.served.items():
        assert row.reward == second.served[number].reward
        assert row.truth == pytest.approx(second.served[number].truth)


def test_activation_is_sent_of_what_was_seen(played: tuple[Pretended, Market]) -> None:
    caller, market = played
    deferred = {body["decision_id"] for body in caller.bodies("/v1/rank") if body["defer_activation"]}
    activated = {body["decision_id"] for body in caller.bodies("/v1/activate")}
    assert activated < deferred
    assert market.sent.activations == len(activated)
    assert market.sent.unseen == len(deferred - activated)
    rewarded = {body["decision_id"] for body in caller.bodies("/v1/reward")}
    assert not rewarded & (deferred - activated)


def test_outcomes_come_late_and_twice(played: tuple[Pretended, Market]) -> None:
    caller, market = played
    sent = caller.bodies("/v1/reward")
    assert len(sent) == market.sent.outcomes + market.sent.doubled
    ids = Counter(body["outcome_id"] for body in sent)
    assert sum(count == 2 for count in ids.values()) == market.sent.doubled
    assert market.sent.doubled > 0
    at = {f"{contender.loop}-{number}": row.at for contender in market.contenders
          for number, row in contender.served.items()}  # fmt: skip
    delays = [datetime.fromisoformat(body["occurred_at"]) - at[body["decision_id"]] for body in sent]
    assert min(delays) < timedelta(seconds=10)
    assert max(delays) > timedelta(hours=1)


def test_messages_follow_simulated_time(played: tuple[Pretended, Market]) -> None:
    caller, _ = played
    hours: list[datetime] = []
    for _, path, body in caller.calls:
        if path.startswith(("/v1/rank", "/v1/reward")):
            hours.append(datetime.fromisoformat(body["occurred_at"]).replace(minute=0, second=0, microsecond=0))
    assert hours == sorted(hours)


def test_customers_are_known_from_the_day_they_join(played: tuple[Pretended, Market]) -> None:
    caller, _ = played
    known: set[str] = set()
    for _, path, body in caller.calls:
        if path.startswith("/v1/customers/"):
            known.add(path.rpartition("/")[2])
        elif path == "/v1/rank":
            assert body["customer_id"] in known
    assert 40 < len(known) <= 60


def test_profiles_hear_of_the_first_loop_only(played: tuple[Pretended, Market]) -> None:
    caller, market = played
    entries = [entry for body in caller.bodies("/v1/activity") for entry in body["activities"]]
    ids = [entry["activity_id"] for entry in entries]
    assert len(set(ids)) == len(ids) == market.sent.activities
    assert {entry["kind"] for entry in entries} >= {"view", "click"}
    assert all(entry["activity_id"].startswith(f"{market.contenders[0].loop}-") for entry in entries)
    assert not any("without" in entry["activity_id"] for entry in entries)


def test_equal_seeds_play_equal_markets(played: tuple[Pretended, Market]) -> None:
    assert _play(_world())[0].calls == played[0].calls


def test_money_is_told_in_full() -> None:
    caller, market = _play(_world("margin"), ablation=False)
    assert len(market.contenders) == 1
    kinds = Counter(body["kind"] for body in caller.bodies("/v1/reward"))
    assert kinds.keys() >= {"contact", "organic"}
    seen = sum(row.is_seen for row in market.contenders[0].served.values())
    assert kinds["contact"] >= seen


def test_a_market_is_not_played_twice() -> None:
    world = _world()
    caller = Pretended("simulated-market-3")
    with pytest.raises(CallRefused, match="take another seed"):
        asyncio.run(Market(caller, world, days=1, visits_per_day=5.0).run(lambda days: None))
    assert len(caller.calls) == 1


def test_outcomes_add_up_to_what_was_earned() -> None:
    world = make_world(3, 400, 10, objective="margin")
    kinds = loop_settings("margin")["reward"]["kinds"]
    visits = world.moments(np.arange(400), np.full(400, 86400))
    truth = world.truth(visits)
    told = 0
    for row in range(400):
        customer = world.customers[row]
        single = world.single(customer, world.moment(customer, START + DAY))
        chosen = int(truth.redemptions[row].argmax())
        offer = world.offers[chosen]
        found = draw_responses(world, single, world.truth(single), np.array([chosen]), np.random.default_rng(row))
        dues = outcomes(world, ("loop", "d"), START + DAY, offer, found, np.random.default_rng(row), row)
        total = 0.0
        for due in dues:
            kind = kinds[due.body["kind"]]
            worth = kind if isinstance(kind, float) else kind.get("worth", 1.0)
            amount = due.body.get("amount", 1.0)
            margin = isinstance(kind, dict) and kind.get("measure") == "margin"
            total += worth * amount * ((offer.margin - offer.discount) if margin else 1.0)
            assert due.is_late == (due.at - START - DAY > timedelta(days=WAIT_DAYS))
        assert total == pytest.approx(float(found.earned[0]), abs=1e-3)
        told += len(dues)
    assert told > 400


def test_offers_are_valid_when_the_market_has_them() -> None:
    newcomer = _world().offers[-1]
    assert offer_body(newcomer, START)["valid_from"] == (START + newcomer.first_day * DAY).isoformat()
    assert offer_body(_world("margin").offers[-1], START) == {"category": "none", "type": "none"}


def test_customers_come_as_baskets_were_published() -> None:
    world = make_world(3, 60, 28)
    days = list(plan_visits(world, 28, 400.0))
    hours = np.bincount([visit.at.hour for visits in days for visit in visits], minlength=24)
    assert hours.argmax() in (16, 17, 18)
    assert hours[3] < 0.1 * hours.max()
    numbers = [visit.number for visits in days for visit in visits]
    assert numbers == list(range(len(numbers)))
    assert all(visits == sorted(visits, key=lambda visit: visit.at) for visits in days)
    assert len(numbers) == pytest.approx(28 * 400, rel=0.1)


def test_a_sale_brings_customers_and_a_holiday_keeps_them() -> None:
    tuesday = START.replace(month=10, day=8)
    assert busyness(START.replace(month=11, day=5)) > 1.2 * busyness(tuesday)
    # 4 July 2024 was a Thursday, as was 11 July.
    assert busyness(START.replace(month=7, day=4)) < 0.7 * busyness(START.replace(month=7, day=11))
