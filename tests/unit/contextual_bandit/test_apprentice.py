"""What an apprentice chooses for itself, and what it learns from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide, decide_slots
from contextual_bandit.limits import Draw, draw_slots, resolve
from contextual_bandit.loops import Holdout, LoopConfig
from contextual_bandit.slots import Slate, SlotAsked, is_match, lessons, miss_reward, use_of
from contextual_bandit.types import Action, Context, Decision, LoggedInteraction

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ACTIONS = [Action(name, {"category": name}) for name in "abc"]
LOOP = LoopConfig("homepage", learning_mode="apprentice", exploration_floor=0.3)
FALLBACK = Action("no-offer", {})


class Given:
    """A policy of fixed probabilities, by offer."""

    def __init__(self, **masses: float) -> None:
        self.masses = masses

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        return tuple(self.masses[action.offer_id] for action in actions)

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        raise NotImplementedError


POLICY = ServingPolicy(Given(a=0.2, b=0.3, c=0.5), "policy-1", "snapshot-1")


def decided(number: int = 0, loop: LoopConfig = LOOP, actions: Sequence[Action] = ACTIONS) -> Decision:
    moment = Moment(f"d{number}", "c1", NOW, NOW, False, "h")
    return decide(loop, POLICY, moment, Choice(Context({}), actions, (), FALLBACK))


def slate(number: int, asked: Sequence[SlotAsked]) -> Decision:
    moment = Moment(f"d{number}", "c1", NOW, NOW, False, "h")
    found = decide_slots(LOOP, POLICY, moment, Choice(Context({}), ACTIONS, (), FALLBACK), asked)
    assert isinstance(found, Slate)
    return found.resolved(draw_slots(found.draws, {}))


def closed(decision: Decision, *rewards: float) -> LoggedInteraction:
    by_slot = rewards if decision.has_slots else ()
    return LoggedInteraction(1, decision, sum(rewards), use_of(decision), NOW, slot_rewards=by_slot)


def test_the_first_action_is_served_and_the_models_own_choice_stands_beside_it() -> None:
    chosen = Counter[int]()
    for number in range(3000):
        decision = decided(number)
        (slot,), (own,) = decision.slots, decision.own
        assert (slot.chosen, slot.propensity, decision.use, use_of(decision)) == (0, 1.0, "baseline", "learn")
        assert own.distribution.policy == (0.2, 0.3, 0.5)
        assert own.distribution.served == pytest.approx((0.24, 0.31, 0.45))
        assert own.propensity == own.distribution.served[own.chosen]
        assert own.draw != slot.draw
        chosen[own.chosen] += 1
    assert [chosen[index] / 3000 for index in range(3)] == pytest.approx([0.24, 0.31, 0.45], abs=0.03)


def test_its_number_is_independent_of_the_one_that_would_be_served() -> None:
    pairs = [(one.own[0].draw, one.slots[0].draw or 0.0) for one in map(decided, range(3000))]
    both = sum(own < 0.5 and served < 0.5 for own, served in pairs)
    assert both / 3000 == pytest.approx(0.25, abs=0.03)


def test_a_match_is_learned_as_the_best_reward_and_a_miss_as_none() -> None:
    for number in range(50):
        decision = decided(number)
        (lesson,) = lessons(closed(decision, 0.4))
        own = decision.own[0]
        assert lesson.decision.slots[0].chosen == own.chosen
        assert lesson.decision.slots[0].propensity == own.propensity
        assert lesson.decision.actions == decision.actions
        assert lesson.reward == float(is_match(decision, 0)) == float(own.chosen == 0)


@pytest.mark.parametrize(
    ("low", "high", "miss"), [(0.0, 1.0, 0.0), (-1.0, 1.0, 0.0), (0.0, 50.0, 0.0), (5.0, 10.0, 5.0), (-1.0, 0.0, -1.0)]
)
def test_rewards_of_a_lesson_lie_in_the_loops_range(low: float, high: float, miss: float) -> None:
    assert miss_reward(low, high) == miss
    found = {one.reward for number in range(50) for one in lessons(closed(decided(number), 0.0), low, high)}
    assert found == {miss, high}


@pytest.mark.parametrize(
    "loop",
    [replace(LOOP, learning_mode="logging_only"), replace(LOOP, learning_mode="online"),
     replace(LOOP, holdout=Holdout(1.0))],
)  # fmt: skip
def test_nobody_else_is_an_apprentice(loop: LoopConfig) -> None:
    decision = decided(loop=loop)
    assert decision.own == ()
    assert use_of(decision) == decision.use


def test_a_fallback_teaches_nothing() -> None:
    nothing = decided(actions=[])
    assert (nothing.use, use_of(nothing), list(lessons(closed(nothing, 0.0)))) == ("fallback", "fallback", [])
    left = resolve(decided(), Draw(((0, 1), (1, 1), (2, 1)), -1), FALLBACK)
    assert (left.use, use_of(left), list(lessons(closed(left, 0.0)))) == ("fallback", "fallback", [])


def test_a_choice_that_was_exhausted_teaches_nothing_and_others_are_among_what_was_left() -> None:
    seen = set()
    for number in range(50):
        decision = decided(number)
        capped = resolve(decision, Draw(((0, 1),), 1), FALLBACK)
        found = list(lessons(closed(capped, 0.0)))
        own = decision.own[0]
        seen.add(own.chosen)
        if own.chosen == 0:
            assert found == []
            continue
        (lesson,) = found
        assert [action.offer_id for action in lesson.decision.actions] in (["a", "b", "c"], ["b", "c"])
        shown = lesson.decision.actions[lesson.decision.slots[0].chosen].offer_id
        assert shown == "abc"[own.chosen]
        assert lesson.decision.slots[0].propensity == pytest.approx(own.propensity / 0.76)
        assert lesson.reward == float(own.chosen == 1)
    assert seen == {0, 1, 2}


def test_each_slot_has_a_choice_of_its_own_learned_among_what_was_left_to_it() -> None:
    asked = [SlotAsked("top", {"size": 1.0}), SlotAsked("below")]
    skipped = learned = 0
    draws = set()
    for number in range(100):
        decision = slate(number, asked)
        assert [decision.shown(index).offer_id for index in range(2)] == ["a", "b"]
        draws |= {own.draw for own in decision.own}
        found = list(lessons(closed(decision, 0.0, 1.0)))
        below = decision.own[1]
        if below.chosen == 0:
            skipped += 1
            assert len(found) == 1
            continue
        learned += 1
        lesson = found[1]
        assert [action.offer_id for action in lesson.decision.actions] == ["b", "c"]
        assert lesson.decision.slots[0].propensity == pytest.approx(below.propensity / 0.76)
        assert lesson.reward == float(below.chosen == 1)
    assert len(draws) == 200
    assert min(skipped, learned) > 5
