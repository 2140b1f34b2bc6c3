"""Caps under concurrency, with exact propensities: two workers, many calls at once, every id twice."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from adapters.catalogue import LoopStore
from adapters.installation import open_installation
from adapters.interaction_log import read_interactions
from adapters.settings import Settings
from adapters.snapshots import SnapshotStore
from contextual_bandit.decide import serve
from contextual_bandit.policy import uniform_number
from contextual_bandit.types import Decision
from contextual_bandit.vowpal import VowpalPolicy
from evaluation.audit import AuditResult, audit
from simulator.calls import Caller

KEY = {"Authorization": "Bearer test-admin-key"}
IDS = 10_000
CAP = 1_000
CUSTOMERS = 50


def ranked(url: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to many calls at once."""

    async def main() -> list[dict[str, Any]]:
        async with Caller(url, 48, KEY) as caller:
            return await caller.together([caller.call("POST", "/v1/rank", body) for body in bodies])

    return asyncio.run(main())


def twice(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every call a second time, some at once and some later."""
    return [body for start in range(0, len(bodies), 500) for body in bodies[start : start + 500] * 2]


def audited(installation: Any, loop: str) -> tuple[list[Decision], AuditResult]:
    settings = Settings(data_dir=installation.data_dir, database_url=None, redis_url=None, admin_key=None)
    with open_installation(settings) as opened:
        config = LoopStore(opened.engine, opened.client).get(loop)
        assert config is not None
        snapshots = SnapshotStore(opened.engine, opened.client)
        policies: dict[str, VowpalPolicy] = {}

        def distribution_for(decision: Decision) -> tuple[float, ...]:
            name = decision.snapshot_id
            if name not in policies:
                snapshot = snapshots.get(name)
                policies[name] = (
                    VowpalPolicy(snapshot.setting, snapshot.model) if snapshot else VowpalPolicy(config.setting)
                )
            return policies[name].distribution(decision.context, decision.actions)

        decisions = [interaction.decision for interaction in read_interactions(opened.engine, loop)]
        found = audit(
            decisions,
            distribution_for,
            serve=lambda decision, given: serve(config, decision, given),
            draw=uniform_number,
        )
        for policy in policies.values():
            policy.close()
        return decisions, found


def z_score(decisions: list[Decision], offer_id: str) -> float:
    """How far an offer's shows are from the sum of its logged probabilities, in standard errors."""
    expected = variance = shown = 0.0
    for decision in decisions:
        slot = decision.slots[0]
        assert slot.distribution is not None
        place = next(index for index, action in enumerate(decision.actions) if action.offer_id == offer_id)
        probability = slot.distribution.served[place]
        expected += probability
        variance += probability * (1.0 - probability)
        shown += slot.chosen == place
    return (shown - expected) / math.sqrt(variance)


@pytest.fixture
def closing_loop(guarded: Any, unique: Callable[[str], str]) -> str:
    """A loop whose decisions close within a second."""
    loop = unique("limits")
    with guarded.client("test-admin-key") as client:
        body = {"exploration_floor": 0.02, "grace_seconds": 0.2, "reward": {"wait_seconds": 0.5}}
        assert client.put(f"/v1/loops/{loop}", json=body).status_code == 200
    return loop


def test_a_capped_offer_is_shown_exactly_so_often_and_propensities_stay_exact(
    guarded: Any, closing_loop: str, unique: Callable[[str], str], until: Callable[..., Any]
) -> None:
    capped, nothing = unique("capped"), unique("nothing")
    limits = {"caps": [{"name": "all", "scope": "total", "shows": CAP}]}
    with guarded.client("test-admin-key") as client:
        for offer_id, body in (
            (capped, {"category": "garden", "limits": limits}),
            (nothing, {"category": "none", "type": "none"}),
        ):
            assert client.put(f"/v1/offers/{offer_id}", json=body).status_code == 200
        calls = [
            {"loop": closing_loop, "decision_id": f"{closing_loop}-{number}", "candidates": [capped, nothing]}
            for number in range(IDS)
        ]
        answers = ranked(guarded.url, twice(calls))
        assert len(answers) == 2 * IDS
        shown: dict[str, set[str]] = {}
        for answer in answers:
            shown.setdefault(answer["decision_id"], set()).add(answer["offer_id"])
        assert len(shown) == IDS
        assert all(len(offers) == 1 for offers in shown.values()), "an id was answered with two offers"
        assert Counter(offer for offers in shown.values() for offer in offers) == {capped: CAP, nothing: IDS - CAP}

        def closed() -> bool:
            return bool(client.get(f"/v1/loops/{closing_loop}").json()["status"]["interactions"] == IDS)

        until(closed, seconds=60)
    decisions, found = audited(guarded, closing_loop)
    assert found.passed, found.examples
    assert found.checked == IDS
    assert Counter(decision.chosen.offer_id for decision in decisions) == {capped: CAP, nothing: IDS - CAP}
    drawn = [decision for decision in decisions if not decision.removed]
    slot = drawn[0].slots[0]
    assert slot.distribution is not None
    assert slot.distribution.served[0] >= 0.5
    assert abs(z_score(drawn, capped)) < 4
    masked = [decision for decision in decisions if decision.removed]
    assert {(entry.offer_id, entry.reason) for decision in masked for entry in decision.removed} == {
        (capped, "cap_exhausted")
    }
    assert all(decision.slots[0].propensity == 1.0 for decision in masked)


def test_a_customers_cap_holds_for_each_of_them(
    guarded: Any, closing_loop: str, unique: Callable[[str], str], until: Callable[..., Any]
) -> None:
    capped, nothing = unique("capped"), unique("nothing")
    limits = {"caps": [{"name": "five_a_day", "scope": "customer", "shows": 5, "window_seconds": 86400}]}
    with guarded.client("test-admin-key") as client:
        assert client.put(f"/v1/offers/{capped}", json={"category": "garden", "limits": limits}).status_code == 200
        assert client.put(f"/v1/offers/{nothing}", json={"category": "none", "type": "none"}).status_code == 200
        calls = [
            {
                "loop": closing_loop,
                "decision_id": f"{closing_loop}-{number}",
                "customer_id": f"{closing_loop}-c{number % CUSTOMERS}",
                "candidates": [capped, nothing],
            }
            for number in range(40 * CUSTOMERS)
        ]
        answers = ranked(guarded.url, twice(calls))
        shows = Counter(
            calls[int(decision_id.rpartition("-")[2])]["customer_id"]
            for decision_id in {answer["decision_id"] for answer in answers if answer["offer_id"] == capped}
        )
        assert shows == {f"{closing_loop}-c{number}": 5 for number in range(CUSTOMERS)}
        until(
            lambda: client.get(f"/v1/loops/{closing_loop}").json()["status"]["interactions"] == len(calls), seconds=60
        )
    decisions, found = audited(guarded, closing_loop)
    assert found.passed, found.examples
    assert abs(z_score([decision for decision in decisions if not decision.removed], capped)) < 4
