"""A challenger in the shadow: judged before it learns, as an evaluation of the same log would judge it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from contextual_bandit.loops import Guardrail, LoopConfig, OutcomeKind, RewardDefinition
from contextual_bandit.types import Action, Distribution, LearningSetting, LoggedInteraction, OwnChoice, SlotDecision
from contextual_bandit.vowpal import VowpalPolicy, policy_id
from evaluation.interactions import Interactions
from evaluation.learned_targets import ProgressiveTarget
from learner.shadow import Author, ShadowPolicy, lesson_mark, shown, split_served
from learner.train import learn

ARGUMENTS = "--cb_explore_adf --epsilon 0.1 --cb_type mtr -q DO"
SETTING = LearningSetting(ARGUMENTS)
LOOP = LoopConfig("homepage", exploration_floor=0.05)
OFFERS = tuple(Action(name, {"category": name}) for name in ("left", "middle", "right"))
Make = Callable[..., LoggedInteraction]


@pytest.fixture
def log(make_interaction: Make) -> list[LoggedInteraction]:
    """Two segments that like an offer each."""
    random = Random(3)
    found = []
    for sequence in range(1, 301):
        segment, chosen = random.randrange(2), random.choices(range(3), (0.5, 0.2, 0.3))[0]
        reward = float(random.random() < (0.7 if chosen == segment else 0.2))
        found.append(
            make_interaction(
                sequence, reward, served=(0.5, 0.2, 0.3), chosen=chosen, actions=OFFERS,
                context={"D": {"segment": f"s{segment}"}},
            )
        )  # fmt: skip
    return found


def two_slots(one: LoggedInteraction, rewards: tuple[float, float] = (0.0, 1.0)) -> LoggedInteraction:
    """The same decision with the left offer shown first, and the right one below it."""
    above = SlotDecision(0, Distribution((0.5, 0.2, 0.3), (0.5, 0.2, 0.3)), 0.5, 0.1, "top", 0)
    below = SlotDecision(2, Distribution((0.5, 0.2, 0.3), (0.0, 0.4, 0.6)), 0.6, 0.9, "bottom", 1)
    return replace(one, decision=replace(one.decision, slots=(above, below)), reward=sum(rewards), slot_rewards=rewards)


def test_values_are_those_that_an_evaluation_finds_and_the_model_is_the_learners(log: list[LoggedInteraction]) -> None:
    with closing(ShadowPolicy.begin(SETTING)) as shadow, closing(ProgressiveTarget(SETTING, LOOP)) as target:
        shadow.take(LOOP, log)
        (chunk,) = Interactions(log).chunks()
        weight = target(chunk)[chunk.chosen] / chunk.propensity
        assert shadow.values.n == 300
        assert shadow.values.value.mean == pytest.approx(float(np.mean(weight * chunk.reward)), abs=1e-12)
        assert shadow.values.logged.mean == pytest.approx(float(np.mean(chunk.reward)))
        assert shadow.values.weights.result.largest == pytest.approx(float(weight.max()))
        with closing(VowpalPolicy(SETTING)) as plain, closing(VowpalPolicy(SETTING, shadow.save())) as loaded:
            for one in log:
                learn(plain, one)
            for one in log[:20]:
                asked = (one.decision.context, one.decision.actions)
                assert loaded.distribution(*asked) == plain.distribution(*asked)


def test_stopped_after_any_page_it_goes_on_as_if_it_had_not(log: list[LoggedInteraction]) -> None:
    with closing(ShadowPolicy.begin(SETTING)) as whole:
        whole.take(LOOP, log)
        shadow = ShadowPolicy.begin(SETTING)
        for start in range(0, 300, 60):
            shadow.take(LOOP, log[start : start + 60])
            model, sums = shadow.save(), shadow.sums
            shadow.close()
            shadow = ShadowPolicy.resume(SETTING, model, sums)
        assert shadow.values.value.interval == pytest.approx(whole.values.value.interval, rel=1e-9)
        assert shadow.values.weights == whole.values.weights
        shadow.close()


def test_all_slots_are_judged_before_any_is_learned(log: list[LoggedInteraction]) -> None:
    one = two_slots(log[0])
    with closing(ShadowPolicy.begin(SETTING)) as shadow:
        shadow.take(LOOP, [one])
        # Untrained, all offers are alike: 1 / 3 of three, 1 / 2 of the two that are left below.
        assert (shadow.values.n, shadow.values.weights.n) == (1, 2)
        assert shadow.values.logged.mean == 0.5
        assert shadow.values.value.mean == pytest.approx((0.0 + 0.5 / 0.6 * 1.0) / 2, rel=1e-5)


def test_a_setting_that_draws_slates_itself_is_judged_too(log: list[LoggedInteraction]) -> None:
    setting = LearningSetting("--ccb_explore_adf --epsilon 0.1 --cb_type mtr -q DO")
    with closing(ShadowPolicy.begin(setting)) as shadow:
        shadow.take(LOOP, [*log, two_slots(log[0])])
        assert (shadow.values.n, shadow.values.weights.n) == (301, 302)
        assert shadow.values.weights.result.unsupported_mass < 0.01
        assert abs(shadow.values.weights.result.mean_z) < 3.0


def test_a_slot_without_an_offer_is_no_decision_of_any_policy(log: list[LoggedInteraction]) -> None:
    one = two_slots(log[0])
    empty = replace(one.decision.slots[1], chosen=-1, distribution=None, propensity=None, fallback=OFFERS[1])
    with closing(ShadowPolicy.begin(SETTING)) as shadow:
        shadow.take(LOOP, [replace(one, decision=replace(one.decision, slots=(one.decision.slots[0], empty)))])
        assert (shadow.values.n, shadow.values.weights.n) == (1, 1)


@pytest.mark.parametrize("use", ["holdout", "fallback", "baseline"])
def test_what_no_policy_chose_is_neither_judged_nor_learned(log: list[LoggedInteraction], use: Any) -> None:
    with closing(ShadowPolicy.begin(SETTING)) as shadow, closing(ShadowPolicy.begin(SETTING)) as untouched:
        shadow.take(LOOP, [replace(one, use=use, decision=replace(one.decision, use=use)) for one in log])
        assert shadow.values.n == 0
        assert shadow.save() == untouched.save()


def test_an_apprentices_choice_is_learned_and_not_judged(log: list[LoggedInteraction]) -> None:
    watched = []
    for one in log[:50]:
        given = Distribution((0.2, 0.3, 0.5), (0.2, 0.3, 0.5))
        decision = replace(one.decision, use="baseline", own=(OwnChoice(2, given, 0.5, 0.9),))
        watched.append(replace(one, decision=decision))
    with closing(ShadowPolicy.begin(SETTING)) as shadow, closing(ShadowPolicy.begin(SETTING)) as untouched:
        shadow.take(LOOP, watched)
        assert shadow.values.n == 0
        asked = (watched[0].decision.context, watched[0].decision.actions)
        with (
            closing(VowpalPolicy(SETTING, shadow.save())) as taught,
            closing(VowpalPolicy(SETTING, untouched.save())) as untaught,
        ):
            assert taught.distribution(*asked) != untaught.distribution(*asked)


def test_whose_a_decision_is(log: list[LoggedInteraction]) -> None:
    def made(author: Author, snapshot_id: str, arguments: str = ARGUMENTS) -> bool:
        return author.made(replace(log[0].decision, snapshot_id=snapshot_id, policy_id=policy_id(arguments)))

    bold, champion = Author.challenger("home", "bold", ARGUMENTS), Author.champion("home", 3)
    assert made(bold, "home@bold-g1-7")
    assert not made(bold, "home@bold-g1-7", "--cb_explore_adf")
    assert not made(bold, "home@bold-game-g1-7")
    assert not made(bold, "home-g3-7")
    assert made(champion, "home-g3-7")
    assert not made(champion, "home-g2-7")
    assert not made(champion, "home-g-g3-7")
    assert not made(champion, "home@bold-g3-7")


def test_the_other_policys_decisions_count_from_the_first_own_one_on(log: list[LoggedInteraction]) -> None:
    own, other = Author.challenger("home", "bold", ARGUMENTS), Author.champion("home")

    def by(one: LoggedInteraction, snapshot_id: str, use: Any = "learn") -> LoggedInteraction:
        decision = replace(one.decision, snapshot_id=snapshot_id, policy_id=policy_id(ARGUMENTS), use=use)
        return replace(one, decision=decision, use=use)

    page = [
        by(log[0], "home-g1-1"), by(log[1], "home@bold-g1-1"), by(log[2], "home-g1-1"), by(log[3], "home-g1-1", "holdout"),
        by(log[4], "home@bold-g1-1", "fallback"), by(two_slots(log[5]), "home@bold-g1-1"),
    ]  # fmt: skip
    outcomes = {log[1].decision.decision_id: {"refund": -2.0}}
    mine, others = split_served(page, own, other, outcomes, begun=False)
    assert [one.reward for one in mine] == [log[1].reward, None, 0.5]
    assert [one.measure("outcome:refund") for one in mine] == [-2.0, None, 0.0]
    assert [one.reward for one in others] == [log[2].reward]
    _, others = split_served(page, own, other, outcomes, begun=True)
    assert len(others) == 2


def test_a_challenger_begins_anew_when_what_it_learns_changes_and_only_then() -> None:
    kinds = {"click": OutcomeKind(), "order": OutcomeKind(worth=2.0)}
    config = LoopConfig("home", reward=RewardDefinition(kinds=kinds))
    mark = lesson_mark(config, ARGUMENTS, 0)
    turned = replace(config.reward, kinds=dict(reversed(kinds.items())))
    same = (
        replace(config, reward=turned), replace(config, arguments="--cb_explore_adf", exploration_floor=0.5),
        replace(config, reward=replace(config.reward, wait_seconds=5.0)),
    )  # fmt: skip
    assert {lesson_mark(one, ARGUMENTS, 0) for one in same} == {mark}
    others = (
        lesson_mark(config, f"{ARGUMENTS} -l 0.1", 0), lesson_mark(config, ARGUMENTS, 7),
        lesson_mark(replace(config, reward=replace(config.reward, high=2.0)), ARGUMENTS, 0),
    )  # fmt: skip
    assert mark not in others
    assert len(set(others)) == 3


def test_what_is_shown_has_no_numbers_before_there_are_any(log: list[LoggedInteraction]) -> None:
    guardrails = (Guardrail("reward", low=0.1),)
    with closing(ShadowPolicy.begin(SETTING)) as shadow:
        early = shown("bold", 1, 0, log[0].closed_at, shadow, guardrails)
        assert (early.n, early.value, early.served_value, early.verdict) == (0, None, None, "refused")
        assert [one.state for one in early.guardrails] == ["waiting"]
        shadow.take(LOOP, log)
        late = shown("bold", 1, 300, log[0].closed_at, shadow, guardrails)
    assert late.value is not None
    assert late.low is not None
    assert late.high is not None
    assert late.low < late.value < late.high
