"""Slots that Vowpal Wabbit draws itself: what is logged is what was drawn from, and what is learned is the slate."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from math import fsum, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pylibvw
import pytest
from vowpalwabbit.pyvw import Workspace

from contextual_bandit import events
from contextual_bandit.decide import Choice, Moment, ServingPolicy, decide, decide_slots, drawn_inside, serve
from contextual_bandit.explain import Unexplainable
from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import SlotAsked, slot_interactions, slot_views
from contextual_bandit.types import Action, Context, Decision, Features, LoggedInteraction, Removed
from contextual_bandit.vowpal import BadArguments, VowpalPolicy, check_arguments, policy_id
from contextual_bandit.vowpal_ccb import drawn_number
from contextual_bandit.vowpal_progressive import ProgressivePolicy
from evaluation.evaluate import Choices, evaluate
from evaluation.interactions import Interactions
from evaluation.slates import Slates, slot_terms
from evaluation.targets import uniform
from learner.dsjson_lines import line_of
from learner.train import learn

ARGUMENTS = "--ccb_explore_adf --cb_type mtr -q :O"
EPSILON = 0.3
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
FALLBACK = Action("nothing", {"type": "none"})
ACTIONS = tuple(Action(f"o{place}", {"category": name}, {"r16": 0.1 + place / 7}) for place, name in enumerate("abcde"))
LOOP = LoopConfig("slates", ARGUMENTS, exploration_floor=EPSILON)
TWO = (SlotAsked("top", {"size": "large"}), SlotAsked("low", {"size": "small"}))
# The best offer of each place, in this order.
LIKED = (2, 4, 0)


def serving(policy: VowpalPolicy) -> ServingPolicy:
    return ServingPolicy(policy, policy_id(policy.setting.arguments), "s")


def moment(number: int) -> Moment:
    return Moment(f"d{number}", None, NOW, NOW, False, "h")


def choice(actions: Sequence[Action] = ACTIONS, context: Features | None = None) -> Choice:
    return Choice(Context({"H": context or {"segment": "new"}}), actions, (Removed("z", "expired"),), FALLBACK)


def slate(policy: VowpalPolicy, number: int, asked: Sequence[SlotAsked] = TWO, **more: Any) -> Decision:
    """A decision; keywords are those of the draws, or ``loop``, ``actions``."""
    loop = more.pop("loop", LOOP)
    inside = drawn_inside(loop, serving(policy), moment(number), choice(more.pop("actions", ACTIONS)), asked)
    assert inside is not None
    return replace(inside, **more).drawn()


def closed(decision: Decision, number: int = 1) -> LoggedInteraction:
    """Each place rewards one offer of its own."""
    rewards = tuple(
        float(slot.fallback is None and slot.chosen == LIKED[slot.index % 3]) for slot in decision.slots
    )  # fmt: skip
    several = rewards if decision.has_slots else ()
    return LoggedInteraction(number, decision, sum(rewards), decision.use, NOW, slot_rewards=several)


@pytest.fixture(scope="module")
def log() -> list[LoggedInteraction]:
    with closing(VowpalPolicy(ARGUMENTS)) as policy:
        return [closed(slate(policy, number), number) for number in range(400)]


@pytest.fixture(scope="module")
def model(log: list[LoggedInteraction]) -> bytes:
    with closing(VowpalPolicy(ARGUMENTS)) as policy:
        for one in log:
            learn(policy, one)
        return policy.save()


@pytest.fixture
def trained(model: bytes) -> Iterator[VowpalPolicy]:
    with closing(VowpalPolicy(ARGUMENTS, model)) as policy:
        yield policy


def test_each_slot_has_a_distribution_over_what_is_left_and_the_propensity_of_what_it_shows(
    trained: VowpalPolicy,
) -> None:
    for number in range(100):
        decision = slate(trained, number, (*TWO, SlotAsked("last", {}, None, ("o1",))))
        assert len({slot.chosen for slot in decision.slots}) == 3
        for index, slot in enumerate(decision.slots):
            assert slot.distribution is not None
            served = slot.distribution.served
            gone = {one.chosen for one in decision.slots[:index]} | ({1} if index == 2 else set())
            assert fsum(served) == pytest.approx(1.0, abs=1e-12)
            assert {place for place, one in enumerate(served) if one == 0.0} == gone
            assert slot.propensity == served[slot.chosen]
            # Its own epsilon is the floor, and the only one.
            least = min(one for one in served if one)
            assert least == pytest.approx(EPSILON / (5 - len(gone)), rel=1e-6)
            assert serve(LOOP, next(v for v in slot_views(decision) if v.slots[0].index == index), served) == served


def test_draws_are_as_frequent_as_their_probabilities_say(trained: VowpalPolicy) -> None:
    """Over 1,500 seeds: each first offer, and each second one given the first, within 4.5 standard errors."""
    count = 1_500
    decisions = [slate(trained, number) for number in range(count)]
    firsts = Counter(decision.slots[0].chosen for decision in decisions)
    given = decisions[0].slots[0].distribution
    assert given is not None
    for place, one in enumerate(given.served):
        assert abs(firsts[place] - count * one) < 4.5 * sqrt(count * one * (1 - one)), place
    for first in range(5):
        below = [decision.slots[1] for decision in decisions if decision.slots[0].chosen == first]
        seconds = Counter(slot.chosen for slot in below)
        distribution = below[0].distribution
        assert distribution is not None
        assert all(slot.distribution == distribution for slot in below)
        for place, one in enumerate(distribution.served):
            assert abs(seconds[place] - len(below) * one) <= 4.5 * sqrt(len(below) * one * (1 - one)), (first, place)


def test_a_draw_is_the_same_again_and_by_the_number_that_is_logged(trained: VowpalPolicy, model: bytes) -> None:
    with closing(VowpalPolicy(ARGUMENTS, model)) as other:
        other.distribution(Context({}), ACTIONS[:1])
        for number in range(50):
            decision = slate(trained, number)
            assert slate(other, number) == decision
            for slot in decision.slots:
                # In Vowpal Wabbit's order the best is first, so that small numbers draw it.
                assert slot.distribution is not None
                best = max(slot.distribution.served)
                assert slot.draw is not None
                assert (slot.propensity == best) == (slot.draw < best)
    assert drawn_number(5) == drawn_number(5) != drawn_number(6)
    assert 0.0 <= drawn_number(2**53 - 1) < 1.0


def test_slots_drawn_at_once_or_step_by_step_are_the_same(trained: VowpalPolicy) -> None:
    for number in range(30):
        assert slate(trained, number) == slate(trained, number, excludes={99: frozenset({0})})


def test_what_was_drawn_reads_back_from_the_log(trained: VowpalPolicy) -> None:
    for decision in (slate(trained, 3), decide(LOOP, serving(trained), moment(3), choice())):
        message = events.encode(events.DECISION, NOW, events.decision_payload(decision))
        assert events.decision_from(events.decode("1-0", message).payload) == decision


def test_a_plain_call_is_drawn_by_it_too(trained: VowpalPolicy) -> None:
    decision = decide(LOOP, serving(trained), moment(1), choice())
    (slot,) = decision.slots
    assert not decision.has_slots
    assert slot.distribution is not None
    assert slot.distribution.served == pytest.approx(trained.distribution(decision.context, ACTIONS))
    assert decision.policy_id.startswith("ccb-")
    # The priorities of a loop hold as well.
    slots = decide_slots(LOOP, serving(trained), moment(1), choice(), TWO, (0, 0, 0, 1, 1))
    assert isinstance(slots, Decision)
    assert {slot.chosen for slot in slots.slots} == {3, 4}
    assert Removed("o0", "lower_priority") in slots.slots[0].removed


def test_what_is_exhausted_is_left_out_before(trained: VowpalPolicy) -> None:
    decision = slate(trained, 7, exhausted={2: 1, 0: 2})
    for index, slot in enumerate(decision.slots):
        assert slot.distribution is not None
        assert slot.distribution.served[2] == slot.distribution.served[0] == 0.0
        assert set(slot.removed) == {Removed("o2", "cap_exhausted"), Removed("o0", "recently_redeemed")}
        left = 3 - index
        assert min(one for one in slot.distribution.served if one) == pytest.approx(EPSILON / left, rel=1e-6)


def test_relations_hold_within_a_decision(trained: VowpalPolicy) -> None:
    """Below o2 neither o4 nor o0; whether they would have been drawn does not matter."""
    for number in range(40):
        decision = slate(trained, number, excludes={2: frozenset({4, 0})})
        first, second = decision.slots
        assert second.distribution is not None
        if first.chosen == 2:
            assert second.distribution.served[4] == second.distribution.served[0] == 0.0
            assert Removed("o4", "excluded_by") in second.removed
        else:
            assert sum(one > 0.0 for one in second.distribution.served) == 4


def test_a_slot_for_which_nothing_is_left_shows_the_fallback_and_the_others_stand(trained: VowpalPolicy) -> None:
    asked = (SlotAsked("a"), SlotAsked("b", {}, None, tuple(one.offer_id for one in ACTIONS)), SlotAsked("c"))
    decision = slate(trained, 1, asked)
    assert [slot.fallback for slot in decision.slots] == [None, FALLBACK, None]
    assert [slot.propensity is None for slot in decision.slots] == [False, True, False]
    last = decision.slots[2].distribution
    assert last is not None
    assert sum(one > 0.0 for one in last.served) == 4
    more = slate(trained, 2, [SlotAsked(str(index)) for index in range(4)], actions=ACTIONS[:2])
    assert [slot.chosen >= 0 for slot in more.slots] == [True, True, False, False]
    none = slate(trained, 3, exhausted=dict.fromkeys(range(5), 1))
    assert (none.use, [none.shown(0).offer_id, none.shown(1).offer_id]) == ("fallback", ["nothing", "no-offer"])
    plain = replace(inside_plain(trained), exhausted=dict.fromkeys(range(5), 1)).drawn()
    assert (plain.use, plain.actions, len(plain.removed)) == ("fallback", (FALLBACK,), 6)
    for one in (decision, more):
        # Half-empty slates are learned from, too: places are counted as they were.
        before = trained.save()
        learn(trained, closed(one))
        assert trained.save() != before
    learn(trained, closed(none))


def inside_plain(policy: VowpalPolicy) -> Any:
    found = drawn_inside(LOOP, serving(policy), moment(1), choice())
    assert found is not None
    return found


def test_it_learns_what_each_place_is_worth(trained: VowpalPolicy) -> None:
    shows = Counter((slot.index, slot.chosen) for n in range(300) for slot in slate(trained, n).slots)
    assert shows[0, LIKED[0]] > 200
    assert shows[1, LIKED[1]] > 180


def test_epsilon_is_the_loops_floor_at_once_unless_the_setting_names_one(model: bytes) -> None:
    with closing(VowpalPolicy(ARGUMENTS, model)) as policy:
        for floor in (0.5, 0.1, 1.0, 0.5):
            slot = slate(policy, 1, loop=replace(LOOP, exploration_floor=floor)).slots[0]
            assert slot.distribution is not None
            assert min(slot.distribution.served) == pytest.approx(floor / 5, rel=1e-6)
    with closing(VowpalPolicy(f"{ARGUMENTS} --epsilon 0.2", model)) as policy:
        slot = slate(policy, 1, loop=replace(LOOP, exploration_floor=0.9)).slots[0]
        assert slot.distribution is not None
        assert min(slot.distribution.served) == pytest.approx(0.2 / 5, rel=1e-6)


def test_what_was_asked_before_changes_no_answer() -> None:
    """Vowpal Wabbit itself leaves the places out until it has seen two slots at once."""
    interactions = []
    with closing(VowpalPolicy(ARGUMENTS)) as policy:
        for number in range(60):
            interactions.append(closed(decide(LOOP, serving(policy), moment(number), choice()), number))
            learn(policy, interactions[-1])
        single = policy.save()
    with closing(VowpalPolicy(ARGUMENTS, single)) as fresh, closing(VowpalPolicy(ARGUMENTS, single)) as used:
        for number in range(20):
            slate(used, number)
        for number in range(20):
            assert decide(LOOP, serving(used), moment(number), choice()) == decide(
                LOOP, serving(fresh), moment(number), choice()
            )


def test_views_give_the_distributions_that_were_drawn_from(trained: VowpalPolicy) -> None:
    asked = (*TWO, SlotAsked("last", {}, None, ("o1",)))
    for number in range(20):
        decision = slate(trained, number, asked, exhausted={3: 1})
        assert trained.slates is not None
        for view in slot_views(decision):
            given = view.slots[0].distribution
            assert given is not None
            assert trained.slates.view_distribution(view, EPSILON) == given.policy


def test_an_apprentice_draws_a_slate_of_its_own_and_learns_it(model: bytes) -> None:
    loop = replace(LOOP, learning_mode="apprentice")
    with closing(VowpalPolicy(ARGUMENTS, model)) as policy:
        found = decide_slots(loop, serving(policy), moment(1), choice(), TWO)
        assert not isinstance(found, Decision)
        decision = replace(found.decision, slots=tuple(
            replace(slot, chosen=index, propensity=1.0) for index, slot in enumerate(found.decision.slots)
        ))  # fmt: skip
        first, second = decision.own
        assert first.chosen != second.chosen
        assert second.distribution.served[first.chosen] == 0.0
        assert first.propensity == first.distribution.served[first.chosen]
        assert decision.own != slate(policy, 1).own
        before = policy.save()
        learn(policy, replace(closed(decision), use="learn"))
        assert policy.save() != before


def test_slots_one_by_one_teach_the_same_as_all_at_once(log: list[LoggedInteraction], model: bytes) -> None:
    """As evaluation teaches them; sums of floats are made in another order there."""
    with closing(ProgressivePolicy(ARGUMENTS)) as policy, closing(VowpalPolicy(ARGUMENTS, model)) as whole:
        assert policy.slates is not None
        assert whole.slates is not None
        for one in log:
            for view in slot_interactions(one):
                policy.predict_then_learn(view)
        for slot in slot_views(log[0].decision):
            expected = whole.slates.view_distribution(slot, EPSILON)
            assert policy.slates.view_distribution(slot, EPSILON) == pytest.approx(expected, abs=1e-4)


def test_a_killed_writer_goes_on_to_the_same_bytes(log: list[LoggedInteraction], model: bytes) -> None:
    """Saved and loaded on the way; also half-empty slates and plain calls between."""
    with closing(VowpalPolicy(ARGUMENTS, model)) as policy:
        asked = (SlotAsked("a"), SlotAsked("b", {}, None, tuple(one.offer_id for one in ACTIONS)), SlotAsked("c"))
        odd = [closed(slate(policy, number, asked)) for number in range(3)]
        odd += [closed(decide(LOOP, serving(policy), moment(number), choice())) for number in range(3)]
    mixed = [one for pair in zip(log[:60], odd * 10, strict=True) for one in pair]
    found = []
    for reloads in ({-1}, {-1, 0, 17, 18, 61, 119}):
        policy = VowpalPolicy(ARGUMENTS)
        for number, one in enumerate([None, *mixed], -1):
            if one is not None:
                learn(policy, one)
            if number in reloads:
                saved = policy.save()
                policy.close()
                policy = VowpalPolicy(ARGUMENTS, saved)
        found.append(policy.save())
        policy.close()
    assert found[0] == found[1]


def test_all_slots_are_evaluated(trained: VowpalPolicy) -> None:
    """The value of even chances over these slates is known: each place's favourite in one of five."""
    decisions = [slate(trained, number) for number in range(1_500)]
    found = evaluate(
        Interactions([closed(decision, number) for number, decision in enumerate(decisions, 1)]),
        {"uniform": uniform}, Choices(estimators=("ips", "snips")),
    )  # fmt: skip
    assert found.n == 3_000
    assert found.policy("uniform").slates["ips"].value == pytest.approx(0.4, abs=0.08)
    logged = np.array([[slot.propensity for slot in decision.slots] for decision in decisions])
    rewards = np.array([closed(decision).slot_rewards for decision in decisions])
    even = np.broadcast_to([1 / 5, 1 / 4], rewards.shape)
    values = [
        float(np.mean(terms.weight * terms.reward))
        for terms in slot_terms(Slates(np.arange(1_500, dtype=np.int64), rewards, logged, even))
    ]
    assert values == pytest.approx([0.2, 0.2], abs=0.04)


def test_plain_vowpal_wabbit_gives_the_logged_probabilities(model: bytes, tmp_path: Path) -> None:
    """A model trained here, and our decisions as dsjson lines."""
    path = tmp_path / "model.vw"
    path.write_bytes(model)
    workspace = Workspace(f"--dsjson {ARGUMENTS} --epsilon {EPSILON} -i {path} -t --quiet")
    with closing(VowpalPolicy(ARGUMENTS, model)) as policy:
        for number in range(10):
            decision = slate(policy, number)
            examples = workspace._parse(json.dumps(line_of(closed(decision))))
            pylibvw.vw.predict_multi(workspace, examples)
            scores = dict(examples[0].get_decision_scores()[0])
            pylibvw.vw._finish_example_multi_ex(workspace, examples)
            first = decision.slots[0].distribution
            assert first is not None
            assert [scores[index] for index in range(5)] == pytest.approx(first.policy, abs=1e-6)
    workspace.finish()


def test_plain_vowpal_wabbit_learns_the_same_from_exported_lines(log: list[LoggedInteraction], model: bytes) -> None:
    plain = Workspace(f"--dsjson {ARGUMENTS} --epsilon {EPSILON} --quiet")
    for one in log:
        examples = plain._parse(json.dumps(line_of(one)))
        pylibvw.vw.learn_multi(plain, examples)
        pylibvw.vw._finish_example_multi_ex(plain, examples)
    examples = plain._parse(json.dumps(line_of(log[0])))
    pylibvw.vw.predict_multi(plain, examples)
    scores = dict(examples[0].get_decision_scores()[0])
    pylibvw.vw._finish_example_multi_ex(plain, examples)
    plain.finish()
    with closing(VowpalPolicy(ARGUMENTS, model)) as policy:
        assert policy.slates is not None
        first = next(slot_views(log[0].decision))
        expected = policy.slates.view_distribution(first, EPSILON)
    assert [scores[index] for index in range(5)] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("--ccb_explore_adf --squarecb", "no epsilon"),
        ("--ccb_explore_adf --regcbopt --mellowness 0.1", "no epsilon"),
        ("--ccb_explore_adf --large_action_space", "no epsilon"),
        ("--ccb_explore_adf --cb_explore_adf", "exclude each other"),
        ("--ccb_explore_adf --epsilon 1.5", r"\[0, 1\], got 1.5"),
        ("--ccb_explore_adf --all_slots_loss", "not allowed"),
    ],
)
def test_settings_that_cannot_draw_with_a_floor_are_named(arguments: str, why: str) -> None:
    with pytest.raises(BadArguments, match=why):
        check_arguments(arguments)


def test_its_predictions_are_not_split() -> None:
    with closing(VowpalPolicy(ARGUMENTS)) as policy, pytest.raises(Unexplainable, match="ccb_explore_adf"):
        policy.contributions(Context({}), ACTIONS)
