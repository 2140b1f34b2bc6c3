from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextual_bandit.baseline import BaselinePolicy
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide, decide_slots, ranking, serve, stand_in
from contextual_bandit.limits import draw, draw_slots, resolve
from contextual_bandit.loops import BaselineSetting, Holdout, LoopConfig
from contextual_bandit.policy import UniformPolicy, pick, uniform_number
from contextual_bandit.slots import Slate, SlotAsked, lessons, use_of
from contextual_bandit.types import Action, Context, Decision, Distribution, LearningMode, LoggedInteraction, Removed
from evaluation.audit import AuditResult, audit

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


FALLBACK = Action("nothing", {"type": "none"})


def among(actions: Sequence[Action], removed: Sequence[Removed] = (), **changes: Any) -> Choice:
    return Choice(CONTEXT, actions, removed, FALLBACK, **changes)


def serving(*probabilities: float) -> ServingPolicy:
    return ServingPolicy(GivenPolicy(probabilities), "policy-1", "snapshot-1")


def test_a_decision_holds_everything_that_was_known_and_done() -> None:
    removed = [Removed("x", "expired")]
    decision = decide(LOOP, serving(0.5, 0.25, 0.25), moment(deferred=True), among(ACTIONS, removed))
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
    decision = decide(replace(LOOP, exploration_floor=0.3), serving(1.0, 0.0, 0.0), moment(), among(ACTIONS, []))
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
    decision = decide(loop, serving(*masses), moment(f"d{number}"), among(ACTIONS, []))
    slot = decision.slots[0]
    assert slot.distribution is not None
    assert slot.draw == uniform_number("homepage", f"d{number}")
    assert slot.chosen == pick(slot.distribution.served, slot.draw)
    assert slot.propensity == slot.distribution.served[slot.chosen]
    assert slot.propensity >= floor / 3
    assert sum(slot.distribution.served) == pytest.approx(1.0)


def test_the_same_id_is_decided_alike_whoever_asks_and_whenever() -> None:
    first = decide(LOOP, serving(0.2, 0.3, 0.5), moment(), among(ACTIONS, []))
    later = moment(now=NOW + timedelta(hours=1), customer_id=None, request_hash="other")
    again = decide(LOOP, serving(0.2, 0.3, 0.5), later, among(ACTIONS, []))
    assert again.slots == first.slots


@pytest.mark.parametrize("mode", ["apprentice", "logging_only"])
def test_the_other_modes_serve_the_senders_first_action(mode: LearningMode) -> None:
    loop = replace(LOOP, learning_mode=mode, exploration_floor=0.5)
    for number in range(20):
        decision = decide(loop, serving(0.0, 0.0, 1.0), moment(f"d{number}"), among(ACTIONS, []))
        slot = decision.slots[0]
        assert slot.distribution is not None
        assert decision.use == "baseline"
        assert decision.learning_mode == mode
        assert slot.chosen == 0
        assert slot.propensity == 1.0
        assert slot.distribution.served == (1.0, 0.0, 0.0)


def test_without_an_eligible_action_the_fallback_is_served_and_has_no_propensity() -> None:
    removed = [Removed("a", "expired"), Removed("b", "status_paused")]
    decision = decide(LOOP, serving(), moment(), among([], removed))
    assert decision.actions == (FALLBACK,)
    assert decision.chosen is FALLBACK
    assert decision.use == "fallback"
    assert decision.removed == tuple(removed)
    (slot,) = decision.slots
    assert (slot.distribution, slot.propensity, slot.draw) == (None, None, None)


def test_sources_and_dropped_features_are_kept() -> None:
    decision = decide(LOOP, serving(1.0, 0.0, 0.0), moment(), among(ACTIONS, sources={"W": "table"}, dropped=("x",)))
    assert decision.sources == {"W": "table"}
    assert decision.dropped == ("x",)


def test_the_promoted_share_goes_evenly_to_promoted_offers_after_the_floor() -> None:
    loop = replace(LOOP, promoted_share=0.4, exploration_floor=0.3)
    actions = [ACTIONS[0], replace(ACTIONS[1], promoted=True), replace(ACTIONS[2], promoted=True)]
    decision = decide(loop, serving(1.0, 0.0, 0.0), moment(), among(actions))
    distribution = decision.slots[0].distribution
    assert distribution is not None
    assert distribution.served == pytest.approx((0.6 * 0.8, 0.6 * 0.1 + 0.2, 0.6 * 0.1 + 0.2))
    unpromoted = decide(loop, serving(1.0, 0.0, 0.0), moment(), among(ACTIONS))
    assert unpromoted.slots[0].distribution is not None
    assert unpromoted.slots[0].distribution.served == pytest.approx((0.8, 0.1, 0.1))


def test_a_held_out_customer_gets_the_baseline_and_others_do_not() -> None:
    baseline = BaselineSetting(threshold=5.0)
    loop = replace(LOOP, holdout=Holdout(0.5), baseline=baseline)
    actions = [ACTIONS[0], replace(ACTIONS[1], affinity={"r16": 9.0}), ACTIONS[2]]
    uses = set()
    for number in range(60):
        decision = decide(loop, serving(0.0, 0.0, 1.0), moment(customer_id=f"c{number}"), among(actions))
        uses.add(decision.use)
        if decision.use == "holdout":
            assert decision.chosen.offer_id == "b"
            assert decision.slots[0].propensity == 1.0
            assert decision.actions == tuple(actions)
        again = decide(loop, serving(1.0, 0.0, 0.0), moment("other", customer_id=f"c{number}"), among(actions))
        assert again.use == decision.use
    assert uses == {"holdout", "learn"}
    assert decide(loop, serving(0.0, 0.0, 1.0), moment(customer_id=None), among(actions)).use == "learn"


def test_a_holdout_without_offers_is_served_none() -> None:
    loop = replace(LOOP, holdout=Holdout(0.999999, "no_offer"))
    decision = decide(loop, serving(0.0, 0.0, 1.0), moment(), among(ACTIONS, [Removed("nothing", "expired")]))
    assert decision.use == "holdout"
    assert decision.actions == (FALLBACK,)
    assert decision.slots[0].propensity == 1.0
    assert {(entry.offer_id, entry.reason) for entry in decision.removed} == {(name, "holdout") for name in "abc"}


def test_what_is_served_can_be_computed_again_from_the_decision() -> None:
    loop = replace(LOOP, promoted_share=0.25)
    actions = [ACTIONS[0], replace(ACTIONS[1], promoted=True), ACTIONS[2]]
    decision = decide(loop, serving(0.6, 0.3, 0.1), moment(), among(actions))
    slot = decision.slots[0]
    assert slot.distribution is not None
    assert serve(loop, decision, slot.distribution.policy) == slot.distribution.served
    for masked in ({0: 1}, {1: 1, 2: 3}):
        drawn = draw(slot.distribution.served, slot.draw or 0.0, masked)
        after = resolve(decision, drawn, FALLBACK)
        distribution = after.slots[0].distribution
        assert distribution is not None
        assert serve(loop, after, distribution.policy) == distribution.served
        assert all(distribution.served[index] == 0.0 for index in masked)


def test_one_eligible_action_is_certain() -> None:
    uniform = ServingPolicy(UniformPolicy(), "uniform", "none")
    decision = decide(LOOP, uniform, moment(), among(ACTIONS[:1], []))
    assert decision.slots[0].propensity == 1.0


def test_a_ranking_begins_with_the_chosen_and_falls_from_there() -> None:
    loop = replace(LOOP, exploration_floor=0.0)
    wanted = {0: ["a", "b", "c"], 1: ["b", "a", "c"], 2: ["c", "a", "b"]}
    seen = set()
    for number in range(50):
        decision = decide(loop, serving(0.4, 0.3, 0.3), moment(f"d{number}"), among(ACTIONS, []))
        seen.add(decision.slots[0].chosen)
        ranked = ranking(decision)
        assert [offer_id for offer_id, _ in ranked] == wanted[decision.slots[0].chosen]
        assert dict(ranked) == {"a": 0.4, "b": 0.3, "c": 0.3}
    assert seen == {0, 1, 2}


def test_a_fallback_has_no_ranking() -> None:
    decision = decide(LOOP, serving(0.4, 0.3, 0.3), moment(), among(ACTIONS, []))
    slot = replace(decision.slots[0], chosen=1, distribution=None, propensity=None, draw=None)
    assert ranking(replace(decision, slots=(slot,))) == []


KILLED = replace(LOOP, baseline=BaselineSetting(priority=("c", "a")))


def test_while_a_loop_is_killed_the_baseline_decides_for_everybody_and_nobody_learns_from_it() -> None:
    decision = decide(KILLED, stand_in(KILLED), moment(), among(ACTIONS))
    assert (decision.chosen.offer_id, decision.use, decision.policy_id) == ("c", "baseline", "baseline")
    assert decision.snapshot_id == "baseline", "no snapshot's decision, nor a fallback of it"
    slot = decision.slots[0]
    assert (slot.distribution, slot.propensity) == (Distribution((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)), 1.0)
    assert list(lessons(LoggedInteraction(1, decision, 1.0, use_of(decision), NOW))) == []


@pytest.mark.parametrize("mode", ["apprentice", "logging_only"])
def test_a_killed_loop_in_another_mode_serves_the_baseline_too_and_imitates_nothing(mode: LearningMode) -> None:
    loop = replace(KILLED, learning_mode=mode)
    decision = decide(loop, stand_in(loop), moment(), among(ACTIONS))
    assert (decision.chosen.offer_id, decision.own) == ("c", ())
    slate = decide_slots(loop, stand_in(loop), moment(), among(ACTIONS), [SlotAsked("0"), SlotAsked("1")])
    assert isinstance(slate, Slate)
    shown = slate.resolved(draw_slots(slate.draws, {}))
    assert ([shown.shown(0).offer_id, shown.shown(1).offer_id], shown.own) == (["c", "a"], ())


def test_a_holdout_without_offers_gets_none_while_its_loop_is_killed_and_leaves_the_comparison() -> None:
    loop = replace(KILLED, holdout=Holdout(1.0, "no_offer"))
    decision = decide(loop, stand_in(loop), moment(), among(ACTIONS))
    assert (decision.chosen.offer_id, decision.use) == ("nothing", "baseline")
    slots = decide_slots(loop, stand_in(loop), moment(), among(ACTIONS), [SlotAsked("0")])
    assert isinstance(slots, Decision)
    assert (slots.shown(0).offer_id, slots.use) == ("nothing", "baseline")
    held = replace(loop, holdout=Holdout(1.0, "baseline"))
    assert decide(held, stand_in(held), moment(), among(ACTIONS)).use == "baseline"


def test_the_audit_recomputes_what_the_baseline_decided() -> None:
    decisions = [decide(KILLED, stand_in(KILLED), moment(f"d{number}"), among(ACTIONS)) for number in range(20)]

    def checked(baseline: BaselineSetting) -> AuditResult:
        policy = BaselinePolicy(baseline)
        return audit(
            decisions, lambda one: policy.distribution(one.context, one.actions),
            serve=lambda one, given: serve(KILLED, one, given), draw=uniform_number,
        )  # fmt: skip

    assert checked(KILLED.baseline).passed
    assert checked(BaselineSetting(priority=("a",))).mismatches == 20
