"""An apprentice watches the baseline: it learns its own choices, is counted, and its replay stays exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.apprentice import find_counts
from contextual_bandit import events
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide, decide_slots
from contextual_bandit.limits import draw_slots
from contextual_bandit.loops import LoopConfig, RewardDefinition
from contextual_bandit.slots import Slate, SlotAsked
from contextual_bandit.types import Action, Context, Decision
from contextual_bandit.vowpal import VowpalPolicy

ARGUMENTS = "--cb_explore_adf --epsilon 0.05 --cb_type mtr -l 0.1 --power_t 0 -q ::"
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
REWARD = RewardDefinition(wait_seconds=60.0)
CATEGORIES = ("garden", "toys", "books", "food")
OFFERS = [Action(name, {"category": name}) for name in CATEGORIES]
FALLBACK = Action("no-offer", {})


@pytest.fixture
def make(drive: Callable[..., Any]) -> Callable[..., Any]:
    def make(**settings: Any) -> Any:
        return drive(
            arguments=ARGUMENTS, reward=REWARD, export_frequency_seconds=1.0,
            **{"learning_mode": "apprentice", **settings},
        )  # fmt: skip

    return make


def baseline(number: int) -> tuple[str, list[Action]]:
    """A customer's segment, and the offers with the one first that the campaign manager gives it."""
    segment = CATEGORIES[number * 7 % 4]
    return segment, sorted(OFFERS, key=lambda offer: offer.offer_id != segment)


def choose(config: LoopConfig, policy: ServingPolicy, number: int, slots: int = 0) -> Decision:
    segment, actions = baseline(number)
    # The draws derive from the loop's name: one that no order of tests changes.
    name, config = config.loop, replace(config, loop="watched")
    at = START + timedelta(seconds=number * 10.0)
    moment = Moment(f"v{number}", f"c{number}", at, at, False, "h")
    # The sender's order says nothing of what the policy sees: it learns from features alone.
    choice = Choice(Context({"H": {"segment": segment}}), actions, (), FALLBACK)
    if not slots:
        return replace(decide(config, policy, moment, choice), loop=name)
    asked = [SlotAsked(f"slot-{index}") for index in range(slots)]
    found = decide_slots(config, policy, moment, choice, asked)
    if isinstance(found, Slate):
        found = found.resolved(draw_slots(found.draws, {}))
    return replace(found, loop=name)


def play(loop: Any, start: int, count: int, slots: int = 0) -> list[Decision]:
    """Decisions by the published model, in batches of 20; garden is always taken up."""
    decided: list[Decision] = []
    for first in range(start, start + count, 20):
        snapshot = loop.stores.snapshots.newest(loop.name, published=True)
        policy = VowpalPolicy(snapshot.setting, snapshot.model)
        serving = ServingPolicy(policy, snapshot.policy_id, snapshot.snapshot_id)
        for number in range(first, first + 20):
            decision = choose(loop.config, serving, number, slots)
            decided.append(decision)
            loop.send(number * 10.0, events.DECISION, events.decision_payload(decision))
            if decision.chosen.offer_id == "garden":
                loop.outcome(number * 10.0 + 1.0, decision.decision_id, 1.0)
        policy.close()
        loop.tick(first * 10.0 + 190.0 + 61.0).run()
    return decided


def test_it_learns_to_match_and_is_counted(make: Callable[..., Any]) -> None:
    loop = make()
    play(loop, 0, 200)
    early = find_counts(loop.stores.engine, loop.name)
    decided = play(loop, 200, 400)
    assert all(one.chosen.offer_id == baseline(200 + at)[0] for at, one in enumerate(decided))
    assert {one.slots[0].propensity for one in decided} == {1.0}
    counts = find_counts(loop.stores.engine, loop.name)
    assert early is not None
    assert counts is not None
    late = (counts.total.imitated - early.total.imitated) / 400
    assert late > 0.6
    assert late > early.total.imitated / 200
    assert (counts.total.events, counts.total.reward_sum, counts.last_batch.events) == (600, 150.0, 20)
    matched = sum(one.own[0].chosen == one.slots[0].chosen for one in decided)
    assert counts.total.imitated - early.total.imitated == matched
    earned = [one for one in decided if one.chosen.offer_id == "garden" and one.own[0].chosen == one.slots[0].chosen]
    assert counts.total.imitated_reward_sum - early.total.imitated_reward_sum == len(earned)
    assert (counts.started_at, counts.last_at) == (START, START + timedelta(seconds=5990.0 + 60.0))


@pytest.mark.parametrize("slots", [0, 3])
def test_its_replay_stays_exact_and_what_it_learned_goes_online(make: Callable[..., Any], slots: int) -> None:
    loop = make()
    play(loop, 0, 200, slots)
    loop.restart(killed=True)
    play(loop, 200, 200, slots)
    assert loop.verified().equal
    loop.change(learning_mode="online")
    # One batch only: from then on it learns what customers like, and that is garden.
    decided = play(loop, 400, 20, slots)
    assert {one.use for one in decided} == {"learn"}
    assert {one.own for one in decided} == {()}
    if not slots:
        # Slots without features of their own share one lesson, of which no single offer is the answer.
        given = [one.slots[0].distribution.served[0] for one in decided if one.slots[0].distribution]
        assert sum(given) / len(given) > 0.5
    loop.change(arguments=ARGUMENTS.replace("0.05", "0.2"))
    assert loop.verified().equal


def test_its_choice_is_logged_with_its_own_number_distribution_and_floor(make: Callable[..., Any]) -> None:
    loop = make(exploration_floor=0.4)
    decided = play(loop, 0, 20, slots=2)
    for one in decided:
        logged = events.decision_from(events.decode("1-0", events.encode(
            events.DECISION, one.decided_at, events.decision_payload(one)
        )).payload)  # fmt: skip
        assert logged == one
        assert len(one.own) == 2
        for slot, own in zip(one.slots, one.own, strict=True):
            assert own.draw != slot.draw
            assert own.propensity == own.distribution.served[own.chosen]
            assert min(own.distribution.served) >= 0.4 / 4
            assert sum(own.distribution.served) == pytest.approx(1.0)
    stored = [one.decision for one in loop.log(learnable=True)]
    assert [one.own for one in stored] == [one.own for one in decided]


def test_logging_only_learns_nothing(make: Callable[..., Any]) -> None:
    loop = make(learning_mode="logging_only")
    decided = play(loop, 0, 40)
    assert {one.own for one in decided} == {()}
    assert loop.log(learnable=True) == []
    assert len(loop.log()) == 40
    assert find_counts(loop.stores.engine, loop.name) is None


def test_a_holdout_is_not_watched(make: Callable[..., Any]) -> None:
    loop = make()
    loop.config = replace(loop.config, holdout=replace(loop.config.holdout, share=0.5))
    decided = play(loop, 0, 100)
    held = [one for one in decided if one.use == "holdout"]
    assert 20 < len(held) < 80
    assert {one.own for one in held} == {()}
    assert len(loop.log(learnable=True)) == 100 - len(held)
