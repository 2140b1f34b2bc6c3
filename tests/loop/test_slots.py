"""Several slots on the way from a message to a model: rewards, restarts, late outcomes, units, replay, erasure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from adapters.catalogue import OfferCatalogue
from adapters.installation import Installation
from adapters.interaction_log import find_decision
from adapters.tables import performance
from adapters.unit_counts import rebuild_counts
from adapters.units import EPOCH_KEY, seen_key, units_key
from contextual_bandit import events
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide_slots
from contextual_bandit.joined import JoinState
from contextual_bandit.limits import HOLDS_STOCK, draw_slots
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.policy import UniformPolicy
from contextual_bandit.slots import Slate, SlotAsked
from contextual_bandit.types import Action, Cap, Context, Decision, Limits, Offer
from contextual_bandit.vowpal import VowpalPolicy
from learner.join import Joiner

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
REWARD = RewardDefinition(wait_seconds=60.0, aggregation="sum")
ACTIONS = tuple(Action(name, {"category": name}) for name in "abcd")
ASKED = (SlotAsked("top", {"size": "large"}), SlotAsked("low", {"size": "small"}), SlotAsked("last"))
LIMITS = Limits(stock=9, cooldown_days=3.0, caps=(Cap("all", "total", 9), Cap("each", "customer", 9)))
_numbers = itertools.count()


def decided(
    loop: str, decision_id: str, *, actions: Sequence[Action] = ACTIONS, took: Sequence[int] = (),
    customer: str | None = None, deferred: bool = False, at: float = 0.0,
) -> Decision:  # fmt: skip
    """A decision with three slots by the uniform policy; ``took`` says what each counted."""
    moment = START + timedelta(seconds=at)
    found = decide_slots(
        LoopConfig(loop, clock="simulated"),
        ServingPolicy(UniformPolicy(), "p", "s"),
        Moment(decision_id, customer, moment, moment, deferred, "h"),
        Choice(Context({"H": {"segment": "new"}}), actions, (), ACTIONS[0]),
        ASKED,
    )
    assert isinstance(found, Slate)
    drawn = draw_slots(found.draws, {})
    return found.resolved([replace(one, took=units) for one, units in zip(drawn, took or (0, 0, 0), strict=True)])


def show(loop: Any, at: float, decision_id: str, **more: Any) -> Decision:
    decision = decided(loop.name, decision_id, at=at, **more)
    loop.send(at, events.DECISION, events.decision_payload(decision))
    return decision


def outcome(loop: Any, at: float, decision_id: str, slot: str | int | None, value: float, kind: str = "value") -> None:
    payload = events.outcome_payload(f"s{next(_numbers)}", decision_id, kind, value, False, slot)
    loop.send(at, events.OUTCOME, payload)


def test_slot_rewards_survive_restarts_and_late_ones_make_revisions(drive: Callable[..., Any]) -> None:
    loop = drive(reward=replace(REWARD, late_outcomes="rebuild"))
    outcome(loop, 0, "d1", "low", 0.25)
    outcome(loop, 0, "d1", "attic", 0.25)
    loop.run()
    loop.restart(killed=True)
    decision = show(loop, 1, "d1")
    outcome(loop, 2, "d1", "last", 0.5)
    loop.run()
    loop.restart(killed=True)
    loop.tick(100).run()
    (one,) = loop.log()
    assert one.decision == decision
    assert (one.slot_rewards, one.reward) == ((0.0, 0.25, 0.5), 0.75)
    outcome(loop, 101, "d1", 0, 1.0)
    loop.run()
    (late,) = loop.log(latest=True)
    assert (late.revision, late.slot_rewards, late.reward) == (1, (1.0, 0.25, 0.5), 1.75)
    assert loop.log() == [one], "what was learned stays"
    stored = find_decision(loop.stores.engine, loop.name, "d1")
    assert stored is not None
    assert stored.slot_rewards == late.slot_rewards
    states = {entry.slot: state for entry, state in stored.outcomes}
    assert states == {"low": "joined", "attic": "orphan", "last": "joined", 0: "late"}
    with loop.stores.engine.connect() as connection:
        rows = connection.execute(select(performance).where(performance.c.loop == loop.name)).all()
    sums = {row.offer_id: (row.decisions, row.interactions, row.reward_sum) for row in rows}
    shown = [decision.shown(index).offer_id for index in range(3)]
    assert sums == {name: (1, 1, reward) for name, reward in zip(shown, late.slot_rewards, strict=True)}


def test_every_slot_is_learned_and_the_replay_is_byte_identical(drive: Callable[..., Any]) -> None:
    """Large places want `a`, small ones `b`; the learner is killed and restarted on the way."""
    loop = drive(reward=REWARD, export_frequency_seconds=50.0)
    good = {"top": "a", "low": "b", "last": "c"}
    for number in range(120):
        decision = show(loop, number, f"d{number}")
        for index, slot in enumerate(decision.slots):
            outcome(
                loop, number, f"d{number}", slot.slot_id, float(decision.shown(index).offer_id == good[slot.slot_id])
            )
        if number % 40 == 39:
            loop.run()
            loop.restart(killed=number == 39)
    loop.tick(300).run()
    loop.tick(400).run()
    assert len(loop.log()) == 120
    found = loop.verified()
    assert found.equal
    assert found.interactions == 120
    assert found.reloads > 0
    snapshot = loop.stores.snapshots.newest(loop.name, published=True)
    for size, name in (("large", "a"), ("small", "b")):
        shares = policy_shares(snapshot, {"T": {"size": size}})
        assert max(shares, key=lambda offer_id: shares[offer_id]) == name, shares
        assert shares[name] > 0.5


def policy_shares(snapshot: Any, namespaces: Any) -> dict[str, float]:
    with closing(VowpalPolicy(snapshot.setting, snapshot.model)) as policy:
        given = policy.distribution(Context({"H": {"segment": "new"}, **namespaces}), ACTIONS)
    return dict(zip("abcd", given, strict=True))


@pytest.mark.parametrize(
    ("deferred", "redeemed", "expected"),
    [
        (True, [], [(0, "inactive"), (2, "inactive")]),
        (False, [], [(0, "unredeemed"), (2, "unredeemed")]),
        (False, ["last"], [(2, "redeemed"), (0, "unredeemed")]),
        (False, [0, 1], [(0, "redeemed"), (2, "unredeemed")]),
    ],
)
def test_the_join_says_of_each_slot_what_became_of_its_show(
    deferred: bool, redeemed: list[str | int], expected: list[tuple[int, str]]
) -> None:
    joiner = Joiner(LoopConfig("units", reward=REWARD, clock="simulated", grace_seconds=0.0), JoinState())
    decision = decided("units", "d1", took=(HOLDS_STOCK, 0, HOLDS_STOCK), deferred=deferred)
    messages = [("1-0", events.encode("decision", START, events.decision_payload(decision)))]
    for number, slot in enumerate(redeemed):
        payload = events.outcome_payload(f"o{number}", "d1", "redemption", 1.0, False, slot)
        messages.append((f"2-{number}", events.encode("outcome", START + timedelta(seconds=5), payload)))
    messages.append(("3-0", events.encode("tick", START + timedelta(seconds=90), {})))
    batch = joiner.run(messages, frozenset(), frozenset())
    shown = [decision.shown(index).offer_id for index in range(3)]
    assert [(shown.index(one.decision.chosen.offer_id), one.change) for one in batch.unit_changes] == expected


@pytest.fixture
def offers(installation: Installation) -> list[Offer]:
    catalogue = OfferCatalogue(installation.engine, installation.client)
    return [catalogue.put(Offer(f"slots-{next(_numbers)}", "garden", limits=LIMITS), "test", START) for _ in range(3)]


def test_lost_counts_are_made_anew_from_every_slot(
    installation: Installation, offers: list[Offer], drive: Callable[..., Any]
) -> None:
    loop = drive(reward=REWARD)
    actions = [Action(offer.offer_id, {}, version=offer.version) for offer in offers]
    customer, took = f"{loop.name}-customer", (HOLDS_STOCK,) * 3
    first = show(loop, 0, "d1", actions=actions, took=took, customer=customer)
    outcome(loop, 1, "d1", "low", 1.0, "redemption")
    outcome(loop, 2, "d1", 2, 1.0, "purchase")
    show(loop, 3, "unseen", actions=actions, took=took, customer=customer, deferred=True)
    loop.tick(100).run()
    for _ in range(2):
        installation.client.delete(EPOCH_KEY, seen_key(customer), *(units_key(one.offer_id) for one in offers))
        rebuild_counts(installation.engine, installation.client)
        for index in range(3):
            name = first.shown(index).offer_id
            units: Any = installation.client.hgetall(units_key(name))
            seen: Any = installation.client.hgetall(seen_key(customer))
            assert units[b"t:cap:all"] == b"1"
            assert units[b"t:stock"] == (b"1" if index else b"0"), "redeemed in the second and third slot alone"
            assert seen[f"l:{name}:each".encode()] == b"1"
            assert (f"r:{name}".encode() in seen) == bool(index)


def test_units_of_each_slot_come_back(
    installation: Installation, offers: list[Offer], drive: Callable[..., Any]
) -> None:
    loop = drive(reward=REWARD)
    actions = [Action(offer.offer_id, {}, version=offer.version) for offer in offers]
    for offer in offers:
        installation.client.hset(units_key(offer.offer_id), mapping={"t:stock": "1", "t:cap:all": "1"})
    decision = show(loop, 0, "d1", actions=actions, took=(HOLDS_STOCK,) * 3)
    outcome(loop, 1, "d1", "low", 1.0, "redemption")
    loop.tick(100).run()
    left: list[Any] = [
        installation.client.hget(units_key(decision.shown(index).offer_id), "t:stock") for index in range(3)
    ]
    assert left == [b"0", b"1", b"0"]


def test_who_is_erased_leaves_no_slots_and_their_units_come_back(
    installation: Installation, offers: list[Offer], drive: Callable[..., Any]
) -> None:
    loop = drive(reward=REWARD)
    actions = [Action(offer.offer_id, {}, version=offer.version) for offer in offers]
    customer = f"{loop.name}-erased"
    for offer in offers:
        installation.client.hset(units_key(offer.offer_id), mapping={"t:stock": "1", "t:cap:all": "1"})
    show(loop, 0, "d1", customer=customer)
    show(loop, 1, "other")
    outcome(loop, 2, "d1", "low", 1.0)
    loop.tick(70).run()
    show(loop, 80, "open", actions=actions, took=(HOLDS_STOCK,) * 3, customer=customer)
    loop.run()
    assert len(loop.log()) == 2
    payload = {"action": "erase_customer", "customer_id": customer, "receipt_id": "r", "actor": "tester"}
    loop.send(90, events.CONTROL, payload).run()
    assert [one.decision.decision_id for one in loop.log()] == ["other"]
    assert find_decision(loop.stores.engine, loop.name, "d1") is None
    assert find_decision(loop.stores.engine, loop.name, "open") is None
    assert loop.verified().equal
    stocks: list[Any] = [installation.client.hget(units_key(offer.offer_id), "t:stock") for offer in offers]
    assert stocks == [b"0"] * 3
