"""Several slots of one decision: draws without replacement, views, rewards, and the way through a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import fsum, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit import events
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide, decide_slots, ranking, serve
from contextual_bandit.limits import Draw, draw_slots, left_over
from contextual_bandit.loops import Holdout, LoopConfig, RewardDefinition
from contextual_bandit.policy import UniformPolicy, uniform_number
from contextual_bandit.reward import rewards_of
from contextual_bandit.slots import (
    Slate,
    SlotAsked,
    baseline_order,
    lessons,
    slot_interactions,
    slot_seed,
    slot_view,
    slot_views,
)
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    LoggedInteraction,
    Outcome,
    Removed,
)
from evaluation.audit import audit

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
FALLBACK = Action("nothing", {"type": "none"})
ACTIONS = tuple(Action(name, {"category": name}, {"r16": float(place)}) for place, name in enumerate("abcde"))
LOOP = LoopConfig("homepage", exploration_floor=0.1)
NAMED = (SlotAsked("top", {"size": "large"}), SlotAsked("low", {}, "c", ("a",)), SlotAsked("last"))


class BySize(UniformPolicy):
    """A policy that prefers by what the slot is like."""

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        large = context.namespaces.get("T", {}).get("size") == "large"
        masses = [float(index + 1) ** (2 if large else 1) for index in range(len(actions))]
        return tuple(mass / fsum(masses) for mass in masses)


def slate(
    number: int = 0, loop: LoopConfig = LOOP, asked: Sequence[SlotAsked] = NAMED, **more: Any
) -> Slate | Decision:
    actions = more.pop("actions", ACTIONS)
    choice = Choice(Context({"H": {"segment": "new"}}), actions, (Removed("z", "expired"),), FALLBACK)
    moment = Moment(f"d{number}", more.pop("customer", None), NOW, NOW, False, "h")
    return decide_slots(loop, ServingPolicy(BySize(), "p", "s"), moment, choice, asked, more.pop("priorities", None))


def decided(number: int = 0, exhausted: dict[int, int] | None = None, **more: Any) -> Decision:
    found = slate(number, **more)
    return found if isinstance(found, Decision) else found.resolved(draw_slots(found.draws, exhausted or {}))


def shown(decision: Decision) -> list[str]:
    return [decision.shown(index).offer_id for index in range(len(decision.slots))]


def test_the_first_slot_is_drawn_as_a_plain_decision() -> None:
    choice = Choice(Context({}), ACTIONS, (), FALLBACK)
    for number in range(50):
        moment = Moment(f"d{number}", None, NOW, NOW, False, "h")
        plain = decide(LOOP, ServingPolicy(BySize(), "p", "s"), moment, choice).slots[0]
        first = decided(number, asked=[SlotAsked("0"), SlotAsked("1")]).slots[0]
        assert (first.chosen, first.distribution, first.propensity, first.draw) == (
            plain.chosen, plain.distribution, plain.propensity, plain.draw,
        )  # fmt: skip


def test_numbers_differ_by_slot_and_are_the_same_in_every_process() -> None:
    slots = decided().slots
    assert [slot.draw for slot in slots] == [uniform_number("homepage", slot_seed("d0", index)) for index in range(3)]
    assert slots[0].draw == uniform_number("homepage", "d0")
    numbers = [uniform_number("homepage", slot_seed(f"d{n}", 1)) for n in range(5_000)]
    firsts = [uniform_number("homepage", f"d{n}") for n in range(5_000)]
    assert abs(sum(numbers) / 5_000 - 0.5) < 4 / sqrt(12 * 5_000)
    product = sum((one - 0.5) * (other - 0.5) for one, other in zip(numbers, firsts, strict=True)) / 5_000
    assert abs(product) < 4 / (12 * sqrt(5_000)), "slots are drawn independently"


@given(st.integers(0, 500), st.sets(st.integers(0, 4)))
def test_no_offer_stands_twice_and_each_slot_is_a_distribution_over_what_is_left(number: int, out: set[int]) -> None:
    decision = decided(number, dict.fromkeys(out, 1))
    names = [name for name in shown(decision) if name != "no-offer"]
    assert len(set(names)) == len(names)
    for index, slot in enumerate(decision.slots):
        if slot.distribution is None:
            assert (slot.chosen, slot.propensity, slot.draw) == (-1 if index else slot.chosen, None, None)
            continue
        served = slot.distribution.served
        assert fsum(served) == pytest.approx(1.0)
        assert slot.propensity == served[slot.chosen]
        above = {earlier.chosen for earlier in decision.slots[:index]}
        for place, action in enumerate(ACTIONS):
            is_left = place not in above and place not in out and action.offer_id not in slot.exclude
            assert (served[place] > 0.0) == is_left


def test_floor_and_promotion_hold_for_what_is_left_to_each_slot() -> None:
    loop = replace(LOOP, exploration_floor=0.3, promoted_share=0.4)
    actions = [replace(action, promoted=action.offer_id in "ab") for action in ACTIONS]
    for number in range(200):
        decision = decided(number, loop=loop, actions=actions, asked=[SlotAsked(str(n)) for n in range(4)])
        for view in slot_views(decision):
            left = dict(ranking(view))
            promoted = [name for name in left if name in "ab"]
            least = 0.3 / len(left) * (0.6 if promoted else 1.0)
            assert min(left.values()) >= least - 1e-12
            assert all(left[name] >= 0.4 / len(promoted) + least - 1e-12 for name in promoted)


def test_frequencies_are_those_of_sequential_draws_without_replacement() -> None:
    count = 4_000
    counts = Counter(tuple(shown(decided(number, asked=[SlotAsked("0"), SlotAsked("1")]))) for number in range(count))
    first = serve(LOOP, decided(), BySize().distribution(Context({}), ACTIONS))
    for (one, two), seen in counts.items():
        place = "abcde".index(one)
        given_one = left_over(BySize().distribution(Context({}), ACTIONS), frozenset({place}), 0.1, (), 0.0)
        probability = first[place] * given_one["abcde".index(two)]
        assert abs(seen - count * probability) < 4.5 * sqrt(count * probability)


def test_a_slots_features_change_its_distribution_alone() -> None:
    slots = decided().slots
    policies = [slot.distribution.policy for slot in slots if slot.distribution]
    assert policies[1] == policies[2] != policies[0]
    views = list(slot_views(decided()))
    assert views[0].context.namespaces["T"] == {"size": "large"}
    assert "T" not in views[1].context.namespaces


def test_an_honest_audit_passes_and_each_lie_about_a_later_slot_is_caught() -> None:
    def audited(decision: Decision) -> bool:
        return audit(
            [decision], lambda view: BySize().distribution(view.context, view.actions),
            serve=lambda view, given: serve(LOOP, view, given), draw=uniform_number,
        ).passed  # fmt: skip

    decisions = [decided(number, {number % 5: 1} if number % 3 else None) for number in range(100)]
    assert all(map(audited, decisions))
    decision = decisions[0]
    last = decision.slots[2]
    assert last.propensity is not None
    for lie in (
        replace(last, propensity=last.propensity * 1.001), replace(last, draw=0.5),
        replace(last, chosen=decision.slots[0].chosen), replace(last, distribution=decision.slots[0].distribution),
        replace(last, features={"size": "large"}), replace(last, exclude=("e",)),
    ):  # fmt: skip
        assert not audited(replace(decision, slots=(*decision.slots[:2], lie)))


@pytest.mark.parametrize("exhausted", [{}, {0: 1, 1: 2}, dict.fromkeys(range(5), 1), {1: 1, 2: 1, 3: 1, 4: 1}])
def test_a_decision_is_the_same_after_the_stream(exhausted: dict[int, int]) -> None:
    waiting = slate(3)
    assert isinstance(waiting, Slate)
    drawn = draw_slots(waiting.draws, exhausted)
    decision = waiting.resolved(drawn)
    plain = events.encode("decision", NOW, events.decision_payload(decision))
    limited = events.with_draws(events.encode("decision", NOW, events.slate_payload(waiting)), drawn)
    for message in (plain, limited):
        assert events.decision_from(events.decode("1-0", message).payload) == decision


def test_draws_that_speak_of_other_actions_are_no_event() -> None:
    waiting = slate(3)
    assert isinstance(waiting, Slate)
    message = events.with_draws(events.encode("decision", NOW, events.slate_payload(waiting)), [Draw((), 9)] * 3)
    with pytest.raises(events.BadEvent):
        events.decision_from(events.decode("1-0", message).payload)


def test_a_slot_with_nothing_left_shows_the_fallback_once() -> None:
    decision = decided(asked=[SlotAsked("0"), SlotAsked("1"), SlotAsked("2")], actions=ACTIONS[:1])
    assert shown(decision) == ["a", "nothing", "no-offer"]
    assert (decision.use, decision.chosen) == ("learn", ACTIONS[0])
    views = list(slot_views(decision))
    assert [view.use for view in views] == ["learn", "fallback", "fallback"]
    assert ranking(views[1]) == []
    excluding = decided(asked=[SlotAsked("0", exclude=("a", "nothing")), SlotAsked("1")], actions=ACTIONS[:1])
    assert shown(excluding) == ["no-offer", "a"]


def test_without_anything_left_at_all_it_is_a_fallback() -> None:
    for decision in (decided(actions=()), decided(exhausted=dict.fromkeys(range(5), 1))):
        assert decision.use == "fallback"
        assert decision.actions == (FALLBACK,)
        assert decision.chosen == FALLBACK
        assert shown(decision) == ["nothing", "no-offer", "no-offer"]
        assert [slot.slot_id for slot in decision.slots] == ["top", "low", "last"]


def test_only_the_highest_priority_left_to_a_slot_competes() -> None:
    asked = [SlotAsked(str(n)) for n in range(4)]
    for number in range(30):
        names = shown(decided(number, asked=asked, priorities=(2, 2, 1, 1, 0)))
        assert (set(names[:2]), set(names[2:])) == ({"a", "b"}, {"c", "d"})


def test_a_baseline_keeps_what_a_later_slot_asks_for() -> None:
    slots = [SlotAsked("0"), SlotAsked("1", baseline="a"), SlotAsked("2", baseline="a")]
    orders = baseline_order((5, 4, 3, 2, 1), slots, ACTIONS)
    firsts = [max(range(5), key=lambda place, order=order: order[place]) for order in orders]  # type: ignore[misc]
    assert firsts == [1, 0, 0]
    assert shown(decided(loop=replace(LOOP, learning_mode="logging_only"), asked=slots)) == ["b", "a", "c"]
    held = replace(LOOP, holdout=Holdout(1.0))
    assert shown(decided(loop=held, customer="c", asked=slots)) == ["e", "a", "d"], "the highest affinity first"
    nothing = decided(loop=replace(LOOP, holdout=Holdout(1.0, "no_offer")), customer="c", asked=slots)
    assert shown(nothing) == ["nothing", "no-offer", "no-offer"]
    assert (nothing.use, {entry.reason for entry in nothing.removed}) == ("holdout", {"expired", "holdout"})


def outcome(slot: str | int | None, value: float = 1.0) -> Outcome:
    return Outcome(f"o{slot}{value}", "d0", "value", value, NOW, slot=slot)


def test_each_slot_has_the_reward_of_its_own_outcomes_and_the_whole_is_their_sum() -> None:
    definition = RewardDefinition(low=-1.0, default=-0.5, aggregation="sum")
    outcomes = [outcome("low"), outcome(1, 0.25), outcome(2, 0.5), outcome("attic"), outcome(3)]
    assert rewards_of(definition, outcomes, decided()) == (1.0 - 0.5 + 0.5, (-0.5, 1.0, 0.5))
    assert rewards_of(definition, [outcome(None, 0.5)], decided())[1] == (0.5, -0.5, -0.5)
    plain = replace(decided(), slots=(replace(decided().slots[0], slot_id=""),))
    assert rewards_of(definition, [outcome(None, 0.5)], plain) == (0.5, ())


def test_a_policy_learns_each_slot_it_filled_among_what_was_left() -> None:
    decision = decided(7, {4: 1}, asked=[*NAMED, SlotAsked("bare", exclude=tuple("abcde"))])
    interaction = LoggedInteraction(1, decision, 1.5, "learn", NOW, slot_rewards=(1.0, 0.5, 0.0, 0.0))
    found = list(lessons(interaction))
    assert [one.reward for one in found] == [1.0, 0.5, 0.0]
    for index, one in enumerate(found):
        slot = decision.slots[index]
        names = [action.offer_id for action in one.decision.actions]
        above = shown(decision)[:index]
        assert names == [name for name in "abcd" if name not in above and name not in slot.exclude]
        assert one.decision.chosen.offer_id == shown(decision)[index]
        assert one.decision.slots[0].propensity == slot.propensity
        assert one.decision.context.namespaces.get("T", {}) == slot.features
    assert [one.use for one in slot_interactions(interaction)] == ["learn", "learn", "learn", "fallback"]
    assert list(lessons(replace(interaction, use="holdout"))) == []


def test_a_plain_interaction_is_its_own_only_slot(make_interaction: Any) -> None:
    plain = make_interaction(1, 0.5)
    assert list(slot_interactions(plain)) == list(lessons(plain)) == [plain]
    assert slot_view(plain.decision, 0) is plain.decision
