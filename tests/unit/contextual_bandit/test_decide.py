from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.decide import Moment, NothingEligible, ServingPolicy, decide, ranking
from contextual_bandit.loops import LoopConfig
from contextual_bandit.policy import UniformPolicy, pick, uniform_number
from contextual_bandit.types import Action, Context, LearningMode, LoggedInteraction, Removed

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LOOP = LoopConfig("homepage")
ACTIONS = [Action(name, {"category": name}) for name in ("a", "b", "c")]
CONTEXT = Context({"H": {"segment": "new"}})


class GivenPolicy:
    """Gives the probabilities it is told."""

    def __init__(self, probabilities: Sequence[float]) -> None:
        self.probabilities = tuple(probabilities)

    def distribution(self, context: Context, actions: Sequence[Action]) -> tuple[float, ...]:
        return self.probabilities

    def learn(self, interactions: Sequence[LoggedInteraction]) -> None:
        raise AssertionError("deciding never learns")


def moment(decision_id: str = "d1", **changes: Any) -> Moment:
    return replace(Moment(decision_id, "customer-1", NOW, NOW - timedelta(minutes=1), False, "hash-1"), **changes)


def serving(*probabilities: float) -> ServingPolicy:
    return ServingPolicy(GivenPolicy(probabilities), "policy-1", "snapshot-1")


def test_a_decision_holds_everything_that_was_known_and_done() -> None:
    removed = [Removed("x", "expired")]
    decision = decide(LOOP, serving(0.5, 0.25, 0.25), moment(deferred=True), CONTEXT, ACTIONS, removed)
    assert decision.loop == "homepage"
    assert decision.decision_id == "d1"
    assert (decision.decided_at, decision.occurred_at) == (NOW, NOW - timedelta(minutes=1))
    assert decision.customer_id == "customer-1"
    assert decision.context is CONTEXT
    assert decision.actions == tuple(ACTIONS)
    assert decision.removed == tuple(removed)
    assert (decision.policy_id, decision.snapshot_id) == ("policy-1", "snapshot-1")
    assert (decision.learning_mode, decision.use) == ("online", "learn")
    assert decision.deferred
    assert decision.request_hash == "hash-1"
    (slot,) = decision.slots
    assert decision.chosen is ACTIONS[slot.chosen]


def test_the_policys_and_the_served_distribution_are_both_kept() -> None:
    decision = decide(replace(LOOP, exploration_floor=0.3), serving(1.0, 0.0, 0.0), moment(), CONTEXT, ACTIONS, [])
    distribution = decision.slots[0].distribution
    assert distribution is not None
    assert distribution.policy == (1.0, 0.0, 0.0)
    assert distribution.served == pytest.approx((0.8, 0.1, 0.1))


@given(
    st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
def test_the_propensity_is_that_of_the_draw(masses: list[float], number: int, floor: float) -> None:
    loop = replace(LOOP, exploration_floor=floor)
    decision = decide(loop, serving(*masses), moment(f"d{number}"), CONTEXT, ACTIONS, [])
    slot = decision.slots[0]
    assert slot.distribution is not None
    assert slot.draw == uniform_number("homepage", f"d{number}")
    assert slot.chosen == pick(slot.distribution.served, slot.draw)
    assert slot.propensity == slot.distribution.served[slot.chosen]
    assert slot.propensity >= floor / 3
    assert sum(slot.distribution.served) == pytest.approx(1.0)


def test_the_same_id_is_decided_alike_whoever_asks_and_whenever() -> None:
    first = decide(LOOP, serving(0.2, 0.3, 0.5), moment(), CONTEXT, ACTIONS, [])
    later = moment(now=NOW + timedelta(hours=1), customer_id=None, request_hash="other")
    again = decide(LOOP, serving(0.2, 0.3, 0.5), later, CONTEXT, ACTIONS, [])
    assert again.slots == first.slots


@pytest.mark.parametrize("mode", ["apprentice", "logging_only"])
def test_the_other_modes_serve_the_senders_first_action(mode: LearningMode) -> None:
    loop = replace(LOOP, learning_mode=mode, exploration_floor=0.5)
    for number in range(20):
        decision = decide(loop, serving(0.0, 0.0, 1.0), moment(f"d{number}"), CONTEXT, ACTIONS, [])
        slot = decision.slots[0]
        assert slot.distribution is not None
        assert decision.use == "baseline"
        assert decision.learning_mode == mode
        assert slot.chosen == 0
        assert slot.propensity == 1.0
        assert slot.distribution.served == (1.0, 0.0, 0.0)


def test_nothing_eligible_says_why() -> None:
    removed = [Removed(f"o{number}", "expired") for number in range(12)]
    with pytest.raises(NothingEligible, match=r"o0: expired, .*o9: expired") as caught:
        decide(LOOP, serving(), moment(), CONTEXT, [], removed)
    assert caught.value.removed == tuple(removed)
    assert "o10" not in str(caught.value)
    with pytest.raises(NothingEligible, match="no candidates"):
        decide(LOOP, serving(), moment(), CONTEXT, [], [])


def test_one_eligible_action_is_certain() -> None:
    uniform = ServingPolicy(UniformPolicy(), "uniform", "none")
    decision = decide(LOOP, uniform, moment(), CONTEXT, ACTIONS[:1], [])
    assert decision.slots[0].propensity == 1.0


def test_a_ranking_begins_with_the_chosen_and_falls_from_there() -> None:
    loop = replace(LOOP, exploration_floor=0.0)
    wanted = {0: ["a", "b", "c"], 1: ["b", "a", "c"], 2: ["c", "a", "b"]}
    seen = set()
    for number in range(50):
        decision = decide(loop, serving(0.4, 0.3, 0.3), moment(f"d{number}"), CONTEXT, ACTIONS, [])
        seen.add(decision.slots[0].chosen)
        ranked = ranking(decision)
        assert [offer_id for offer_id, _ in ranked] == wanted[decision.slots[0].chosen]
        assert dict(ranked) == {"a": 0.4, "b": 0.3, "c": 0.3}
    assert seen == {0, 1, 2}


def test_a_ranking_without_distribution_keeps_the_order() -> None:
    decision = decide(LOOP, serving(0.4, 0.3, 0.3), moment(), CONTEXT, ACTIONS, [])
    slot = replace(decision.slots[0], chosen=1, distribution=None, propensity=None, draw=None)
    assert ranking(replace(decision, slots=(slot,))) == [("b", 0.0), ("a", 0.0), ("c", 0.0)]
