"""Several slots of one decision: no offer twice, exact conditional propensities, rewards and caps per slot."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.catalogue import LoopStore
from adapters.installation import open_installation
from adapters.interaction_log import read_interactions
from adapters.settings import Settings
from adapters.snapshots import SnapshotStore
from contextual_bandit.decide import serve
from contextual_bandit.holdout import in_holdout
from contextual_bandit.loops import Holdout
from contextual_bandit.policy import uniform_number
from contextual_bandit.types import Decision, LoggedInteraction
from contextual_bandit.vowpal import VowpalPolicy
from evaluation.audit import AuditResult, audit
from simulator.calls import Caller

ADMIN = "test-admin-key"
KEY = {"Authorization": f"Bearer {ADMIN}"}
CALLS = 2_500
CAP = 300
FLOOR = 0.1
FIVE = ["a", "b", "c", "d", "e"]
INLINE = [{"offer_id": name, "features": {"category": name}} for name in FIVE]
DRAWER = [
    {"id": "top", "features": {"size": "large"}},
    {"id": "middle", "features": {"size": "small"}, "exclude": ["a"]},
    {"id": "bottom", "features": {"size": "small"}},
]


def called(url: str, path: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to many calls at once."""

    async def main() -> list[dict[str, Any]]:
        async with Caller(url, 32, KEY) as caller:
            return await caller.together([caller.call("POST", path, body) for body in bodies])

    return asyncio.run(main())


def twice(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every call a second time, some at once and some later."""
    return [body for start in range(0, len(bodies), 250) for body in bodies[start : start + 250] * 2]


def logged(installation: Any, loop: str) -> tuple[list[LoggedInteraction], AuditResult]:
    """What closed, and the audit of it."""
    settings = Settings(data_dir=installation.data_dir, database_url=None, redis_url=None, admin_key=None)
    with open_installation(settings) as opened:
        config = LoopStore(opened.engine, opened.client).get(loop)
        assert config is not None
        snapshots = SnapshotStore(opened.engine, opened.client)
        policies: dict[str, VowpalPolicy] = {}

        def distribution_for(view: Decision) -> tuple[float, ...]:
            name = view.snapshot_id
            if name not in policies:
                kept = snapshots.get(name)
                policies[name] = VowpalPolicy(kept.setting, kept.model) if kept else VowpalPolicy(config.setting)
            return policies[name].distribution(view.context, view.actions)

        found = list(read_interactions(opened.engine, loop))
        decisions = [interaction.decision for interaction in found]
        result = audit(
            decisions, distribution_for, serve=lambda view, given: serve(config, view, given), draw=uniform_number
        )
        for policy in policies.values():
            policy.close()
        return found, result


def z_score(decisions: Sequence[Decision], slot_index: int, offer_id: str) -> float:
    """How far an offer's shows in a slot are from the sum of their logged probabilities, in standard errors."""
    expected = variance = shown = 0.0
    for decision in decisions:
        slot = decision.slots[slot_index]
        assert slot.distribution is not None
        place = next(index for index, action in enumerate(decision.actions) if action.offer_id == offer_id)
        probability = slot.distribution.served[place]
        expected += probability
        variance += probability * (1.0 - probability)
        shown += slot.chosen == place
    return (shown - expected) / math.sqrt(variance) if variance > 1e-9 else shown - expected


@pytest.fixture
def closing_loop(guarded: Any, unique: Callable[[str], str]) -> Callable[..., str]:
    """A loop whose decisions close within a second."""

    def make(**settings: Any) -> str:
        loop = unique("slots")
        body = {"exploration_floor": FLOOR, "grace_seconds": 0.2, "export_frequency_seconds": 1,
                "reward": {"wait_seconds": 1.0}, **settings}  # fmt: skip
        with guarded.client(ADMIN) as client:
            assert client.put(f"/v1/loops/{loop}", json=body).status_code == 200
        return loop

    return make


def closed(guarded: Any, loop: str, until: Callable[..., Any], count: int) -> None:
    with guarded.client(ADMIN) as client:
        until(lambda: client.get(f"/v1/loops/{loop}").json()["status"]["interactions"] == count, seconds=90)


def test_each_slot_shows_what_its_conditional_propensities_say(
    guarded: Any, closing_loop: Callable[..., str], until: Callable[..., Any]
) -> None:
    """A learning policy: what each slot showed beside the sum of logged probabilities, the audit, and the replay."""
    loop = closing_loop(promoted_share=0.1)
    bodies = [
        {"loop": loop, "decision_id": f"{loop}-{number}", "candidates": INLINE, "slots": DRAWER}
        for number in range(CALLS)
    ]
    answers = []
    for start in range(0, CALLS, 500):
        batch = called(guarded.url, "/v1/rank", bodies[start : start + 500])
        answers += batch
        called(guarded.url, "/v1/reward", [
            {"loop": loop, "decision_id": answer["decision_id"], "slot": slot["slot_id"], "kind": "click"}
            for answer in batch for slot in answer["slots"]
            if slot["offer_id"] == {"top": "a", "middle": "b", "bottom": "c"}[slot["slot_id"]]
        ])  # fmt: skip
    for answer in answers:
        shown = [slot["offer_id"] for slot in answer["slots"]]
        assert len(set(shown)) == 3
        assert shown[1] != "a"
        assert answer["offer_id"] == shown[0]
        for slot in answer["slots"]:
            left = {entry["offer_id"]: entry["probability"] for entry in slot["ranking"]}
            assert slot["propensity"] == left[slot["offer_id"]]
            assert math.fsum(left.values()) == pytest.approx(1.0)
            assert min(left.values()) >= FLOOR / len(left) - 1e-9
        assert [len(slot["ranking"]) for slot in answer["slots"]] == [5, 4 if shown[0] == "a" else 3, 3]
    closed(guarded, loop, until, CALLS)
    found, result = logged(guarded, loop)
    assert result.passed, result.examples
    assert result.checked == CALLS
    by_id = {answer["decision_id"]: answer for answer in answers}
    for interaction in found:
        decision, answer = interaction.decision, by_id[interaction.decision.decision_id]
        assert [slot.propensity for slot in decision.slots] == [slot["propensity"] for slot in answer["slots"]]
        assert interaction.reward == sum(interaction.slot_rewards)
    decisions = [interaction.decision for interaction in found]
    assert len({decision.snapshot_id for decision in decisions}) > 1, "the policy changed on the way"
    scores = {(index, name): z_score(decisions, index, name) for index in range(3) for name in FIVE}
    assert max(map(abs, scores.values())) < 4, scores
    assert scores[1, "a"] == 0
    replayed = guarded.command("replay", "--loop", loop, "--verify")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "equal         true" in replayed.stdout


def test_capped_offers_are_shown_exactly_so_often_over_all_slots(
    guarded: Any, closing_loop: Callable[..., str], unique: Callable[[str], str], until: Callable[..., Any]
) -> None:
    loop, total = closing_loop(), 1_000
    limits = {"caps": [{"name": "all", "scope": "total", "shows": CAP}]}
    capped, free = [unique("capped") for _ in range(3)], [unique("free") for _ in range(2)]
    with guarded.client(ADMIN) as client:
        for offer_id in capped + free:
            body = {"category": offer_id, **({"limits": limits} if offer_id in capped else {})}
            assert client.put(f"/v1/offers/{offer_id}", json=body).status_code == 200
    bodies = [
        {"loop": loop, "decision_id": f"{loop}-{number}", "candidates": capped + free, "slots": 3}
        for number in range(total)
    ]
    answers = called(guarded.url, "/v1/rank", twice(bodies))
    by_id: dict[str, set[tuple[Any, ...]]] = {}
    for answer in answers:
        seen = tuple((slot["offer_id"], slot["propensity"]) for slot in answer["slots"])
        by_id.setdefault(answer["decision_id"], set()).add(seen)
    assert len(by_id) == total
    assert all(len(shown) == 1 for shown in by_id.values()), "an id was answered in two ways"
    slots = [slot for (shown,) in by_id.values() for slot in shown]
    counts = Counter(offer_id for offer_id, _ in slots)
    assert {name: counts[name] for name in capped} == dict.fromkeys(capped, CAP)
    # The free ones fill what is left; when both are shown, the third slot has nothing, and no propensity.
    empty = [offer_id for offer_id, propensity in slots if propensity is None]
    assert set(empty) == {"no-offer"}
    assert len(slots) == 3 * CAP + sum(counts[name] for name in free) + len(empty)
    closed(guarded, loop, until, total)
    found, result = logged(guarded, loop)
    assert result.passed, result.examples
    assert result.checked == total
    decisions = [interaction.decision for interaction in found]
    whole = [decision for decision in decisions if not any(slot.removed for slot in decision.slots)]
    assert len(whole) > 100
    for index in range(3):
        assert all(abs(z_score(whole, index, name)) < 4 for name in capped + free)


def test_a_plain_call_and_the_first_of_several_slots_draw_alike(make_loop: Any, unique: Callable[[str], str]) -> None:
    loop = make_loop(exploration_floor=0.5)
    for _ in range(5):
        decision_id = unique("d")
        answer = loop.rank(decision_id=decision_id, candidates=INLINE, slots=3)
        record = loop.record(decision_id)
        assert [slot["slot_id"] for slot in record["slots"]] == ["0", "1", "2"]
        assert record["slots"][0]["draw"] == uniform_number(loop.name, decision_id)
        assert len({slot["draw"] for slot in record["slots"]}) == 3
        plain = loop.rank(candidates=INLINE)
        assert "slots" not in plain
        assert {entry["offer_id"]: entry["probability"] for entry in plain["ranking"]} == {
            entry["offer_id"]: entry["probability"] for entry in answer["ranking"]
        }
        assert answer["ranking"] == answer["slots"][0]["ranking"]


def test_a_repeated_id_gets_all_its_slots_again_and_other_slots_are_another_request(
    make_loop: Any, unique: Callable[[str], str], api: Any
) -> None:
    loop, decision_id = make_loop(), unique("d")
    first = loop.rank(decision_id=decision_id, candidates=INLINE, slots=DRAWER)
    assert loop.rank(decision_id=decision_id, candidates=INLINE, slots=DRAWER) == first
    for other in (None, 3, DRAWER[:2], [{**DRAWER[0], "features": {"size": "tiny"}}, *DRAWER[1:]]):
        loop.rank(expect=409, decision_id=decision_id, candidates=INLINE, slots=other)
    body = {"loop": loop.name, "candidates": INLINE}
    answer = api.post("/v1/rank/batch", json={"requests": [{**body, "slots": 2}, body, {**body, "slots": DRAWER}]})
    assert answer.status_code == 200, answer.text
    counts = [len(one["slots"]) if "slots" in one else None for one in answer.json()["decisions"]]
    assert counts == [2, None, 3]


def test_a_slot_without_anything_left_shows_the_fallback_once_and_the_others_stand(
    make_loop: Any, api: Any, unique: Callable[[str], str]
) -> None:
    fallback = unique("fallback")
    assert api.put(f"/v1/offers/{fallback}", json={"category": "service"}).status_code == 200
    loop = make_loop(fallback=fallback)
    answer = loop.rank(candidates=INLINE[:2], slots=[{"exclude": ["a", "b"]}, {}, {}, {}])
    assert [slot["propensity"] is None for slot in answer["slots"]] == [True, False, False, True]
    assert answer["offer_id"] == answer["slots"][0]["offer_id"] == fallback
    assert {slot["offer_id"] for slot in answer["slots"][1:3]} == {"a", "b"}
    assert answer["slots"][3]["offer_id"] == "no-offer"
    assert answer["slots"][0]["ranking"] == []
    assert answer["use"] == "learn"
    nothing = loop.rank(candidates=INLINE[:1], slots=[{"exclude": ["a"]}] * 2)
    assert [slot["offer_id"] for slot in nothing["slots"]] == [fallback, "no-offer"]
    assert nothing["use"] == "fallback"
    assert api.delete(f"/v1/offers/{fallback}").status_code == 204


def test_a_baseline_serves_each_slot_its_own_or_the_next(make_loop: Any) -> None:
    loop = make_loop(learning_mode="logging_only")
    slots = [{}, {"baseline": "a"}, {"baseline": "a"}, {"exclude": ["c"]}]
    answer = loop.rank(candidates=INLINE, slots=slots)
    # "a" is kept for the slot that asks for it first; the one that comes too late gets the next of the order.
    assert [slot["offer_id"] for slot in answer["slots"]] == ["b", "a", "c", "d"]
    assert [slot["propensity"] for slot in answer["slots"]] == [1.0] * 4
    assert answer["use"] == "baseline"
    assert [slot["offer_id"] for slot in loop.rank(candidates=INLINE, slots=3)["slots"]] == ["a", "b", "c"]


def test_the_holdout_gets_the_baseline_or_nothing_in_every_slot(
    make_loop: Any, api: Any, unique: Callable[[str], str]
) -> None:
    names = [unique("held") for _ in range(5)]
    for name in names:
        assert api.put(f"/v1/offers/{name}", json={"category": "x"}).status_code == 200
    for serves in ("baseline", "no_offer"):
        loop = make_loop(holdout={"share": 0.9, "serves": serves}, baseline={"priority": [names[3], names[1]]})
        held = Holdout(0.9)
        customer = next(f"c-{number}" for number in range(99) if in_holdout(loop.name, f"c-{number}", held))
        answer = loop.rank(candidates=names, customer_id=customer, slots=[{}, {}, {}, {"baseline": names[4]}])
        shown = [slot["offer_id"] for slot in answer["slots"]]
        order = [names[3], names[1], names[0], names[4]]
        assert shown == (order if serves == "baseline" else ["no-offer"] * 4)
        assert answer["use"] == "holdout"
    for name in names:
        assert api.delete(f"/v1/offers/{name}").status_code == 204


def test_priority_tiers_hold_for_what_is_left_to_each_slot(make_loop: Any, api: Any, unique: Any) -> None:
    names = [unique("tier") for _ in range(4)]
    for name, priority in zip(names, (5, 5, 1, 1), strict=True):
        assert api.put(f"/v1/offers/{name}", json={"category": "x", "priority": priority}).status_code == 200
    for settings in ({}, {"learning_mode": "logging_only"}):
        loop = make_loop(priority_tiers=True, **settings)
        shown = [slot["offer_id"] for slot in loop.rank(candidates=names[::-1], slots=4)["slots"]]
        assert set(shown[:2]) == set(names[:2])
        assert set(shown[2:]) == set(names[2:])
    for name in names:
        assert api.delete(f"/v1/offers/{name}").status_code == 204


def test_outcomes_and_rewards_are_per_slot(make_loop: Any, at: Callable[..., str]) -> None:
    loop = make_loop(simulated=True, reward={"wait_seconds": 60, "default": -0.25, "low": -1, "aggregation": "sum"})
    decision_id = loop.rank(candidates=INLINE, slots=DRAWER, occurred_at=at())["decision_id"]
    loop.reward(decision_id, value=0.5, slot="bottom", occurred_at=at(1))
    loop.reward(decision_id, value=0.25, slot=2, occurred_at=at(2))
    loop.reward(decision_id, value=1.0, occurred_at=at(3))
    loop.reward(decision_id, value=1.0, slot="attic", occurred_at=at(4))
    loop.reward(decision_id, value=1.0, slot=7, occurred_at=at(5), final=True)
    loop.tick(at(6))
    assert loop.record(decision_id)["state"] == "open", "what names no slot of it closes nothing"
    loop.tick(at(70))
    record = loop.record(decision_id)
    assert [slot["reward"] for slot in record["slots"]] == [1.0, -0.25, 0.75]
    assert record["reward"] == 1.5
    assert [(entry["slot"], entry["state"]) for entry in record["outcomes"]] == [
        ("bottom", "joined"), (2, "joined"), (None, "joined"), ("attic", "unknown_slot"), (7, "unknown_slot"),
    ]  # fmt: skip
    assert [slot["features"] for slot in record["slots"]] == [slot["features"] for slot in DRAWER]


def test_a_deferred_decision_waits_for_its_activation_with_all_slots(make_loop: Any, at: Callable[..., str]) -> None:
    loop = make_loop(simulated=True, reward={"wait_seconds": 60})
    ids = [loop.rank(candidates=INLINE, slots=3, defer_activation=True, occurred_at=at())["decision_id"] for _ in "ab"]
    loop.activate(ids[0], occurred_at=at(1))
    loop.reward(ids[0], kind="click", slot=1, occurred_at=at(2))
    loop.tick(at(70))
    assert [slot["reward"] for slot in loop.record(ids[0])["slots"]] == [0.0, 1.0, 0.0]
    assert loop.record(ids[1])["state"] == "inactive"
    assert loop.status()["interactions"] == 1


def test_slot_features_decide_which_offer_is_best_and_that_is_learned(
    make_loop: Any, at: Callable[..., str], until: Callable[..., Any], api: Any
) -> None:
    """Large places sell `a`, small ones `b`; only each slot's own reward can tell."""
    good = {"large": "a", "small": "b"}
    loop = make_loop(simulated=True, exploration_floor=0.2, export_frequency_seconds=1)
    for step in range(250):
        slots = [{"features": {"size": size}} for size in (("large", "small"), ("small", "large"))[step % 2]]
        decision = loop.rank(candidates=INLINE[:4], slots=slots, occurred_at=at(step))
        for index, slot in enumerate(slots):
            hit = decision["slots"][index]["offer_id"] == good[slot["features"]["size"]]
            loop.reward(decision["decision_id"], slot=index, value=float(hit), final=index == 1, occurred_at=at(step))
        if step % 50 == 49:
            loop.tick(at(step + 0.9))
    loop.tick(at(300))
    last = loop.status()["snapshot_id"]
    until(lambda: loop.rank(occurred_at=at(310))["snapshot_id"] == last, what="swap")
    for size, offer_id in good.items():
        decision = loop.rank(candidates=INLINE[:4], slots=[{"features": {"size": size}}], occurred_at=at(320))
        shares = {entry["offer_id"]: entry["probability"] for entry in decision["ranking"]}
        assert shares[offer_id] > 0.6, (size, shares)
    decision = loop.rank(
        candidates=INLINE[:4], slots=[{"features": {"size": size}} for size in good], occurred_at=at(330), explain=True
    )
    why = decision["why"]
    assert [slot["slot_id"] for slot in why["slots"]] == ["0", "1"]
    for slot, offer_id in zip(why["slots"], good.values(), strict=True):
        scores = {entry["offer_id"]: entry["score"] for entry in slot["offers"]}
        if offer_id in scores:
            assert max(scores, key=lambda name: scores[name]) == offer_id
    shown = why["slots"][0]["offer_id"]
    assert why["slots"][1]["removed"] == [{"offer_id": shown, "reason": "shown_above"}]
    asked = api.get(f"/v1/decisions/{decision['decision_id']}/why", params={"loop": loop.name}).json()
    assert asked == why
