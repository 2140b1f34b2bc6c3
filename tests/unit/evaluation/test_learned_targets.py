"""Policies that learned: a snapshot as it would serve, and a setting trained on the log as it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from contextual_bandit.decide import serve
from contextual_bandit.limits import CAP_EXHAUSTED, Draw, resolve
from contextual_bandit.loops import LoopConfig
from contextual_bandit.slots import lessons, slot_view
from contextual_bandit.types import (
    Action,
    Distribution,
    LearningSetting,
    LoggedInteraction,
    PolicySnapshot,
    SlotDecision,
)
from contextual_bandit.vowpal import VowpalPolicy
from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.interactions import Interactions
from evaluation.learned_targets import ProgressiveTarget, SnapshotTarget
from evaluation.targets import TargetPolicy

ContextualLog = Callable[..., list[LoggedInteraction]]
ARGUMENTS = "--cb_explore_adf --epsilon 0.1 --cb_type mtr -q DO"
SETTING = LearningSetting(ARGUMENTS)
LOOP = LoopConfig("homepage", arguments=ARGUMENTS, exploration_floor=0.06)


def probabilities(log: list[LoggedInteraction], target: TargetPolicy, chunk_size: int = 8192) -> FloatArray:
    return np.concatenate([target(chunk) for chunk in Interactions(log, chunk_size).chunks()])


def snapshot_of(log: list[LoggedInteraction]) -> PolicySnapshot:
    policy = VowpalPolicy(SETTING)
    policy.learn(log)
    model = policy.save()
    policy.close()
    return PolicySnapshot("s1", "homepage", "p", 1, len(log), None, None, ARGUMENTS, 0.0, 1.0, model, "")


def test_a_snapshot_gives_what_it_would_serve(contextual_log: ContextualLog) -> None:
    snapshot, log = snapshot_of(contextual_log(2000)), contextual_log(50, seed=9)
    target = SnapshotTarget(snapshot, LOOP)
    policy = VowpalPolicy(SETTING, snapshot.model)
    given = probabilities(log, target).reshape(-1, 3)
    for row, one in enumerate(log):
        decision = one.decision
        expected = serve(LOOP, decision, policy.distribution(decision.context, decision.actions))
        assert given[row] == pytest.approx(expected, abs=0.0)
    assert given.min() >= 0.02
    assert given.max() > 0.8
    target.close()
    policy.close()


def test_promotion_and_what_was_used_up_are_the_servings_too(contextual_log: ContextualLog) -> None:
    log = []
    for one in contextual_log(20):
        first, *others = one.decision.actions
        decision = replace(one.decision, actions=(replace(first, promoted=True), *others))
        left = (one.decision.slots[0].chosen + 1) % 3
        fallback = Action("no-offer", {"type": "none"})
        drawn = Draw(((left, CAP_EXHAUSTED),), one.decision.slots[0].chosen)
        log.append(replace(one, decision=resolve(decision, drawn, fallback)))
    loop = replace(LOOP, promoted_share=0.5)
    given = probabilities(log, SnapshotTarget(snapshot_of([]), loop)).reshape(-1, 3)
    for row, one in enumerate(log):
        left = (one.decision.slots[0].chosen + 1) % 3
        assert given[row, left] == 0.0
        assert given[row].sum() == pytest.approx(1.0)
        if left != 0:
            assert given[row, 0] > 0.5


def test_each_decision_is_evaluated_before_it_is_learned(contextual_log: ContextualLog) -> None:
    log = contextual_log(300)
    changed = [replace(one, reward=1.0 - one.reward) if number >= 200 else one for number, one in enumerate(log)]
    before, after = (probabilities(given, ProgressiveTarget(SETTING, LOOP)) for given in (log, changed))
    assert np.array_equal(before[: 3 * 201], after[: 3 * 201])
    assert not np.array_equal(before[3 * 201 :], after[3 * 201 :])


def test_it_learns_what_the_learner_learns_however_the_log_is_cut(contextual_log: ContextualLog) -> None:
    log = contextual_log(400)
    whole, pieces = ProgressiveTarget(SETTING, LOOP), ProgressiveTarget(SETTING, LOOP)
    assert np.array_equal(probabilities(log, whole), probabilities(log, pieces, 37))
    learner = VowpalPolicy(SETTING)
    learner.learn(log)
    one = contextual_log(1, seed=3)[0].decision
    learned = ProgressiveTarget(SETTING, LOOP, whole.save())
    assert probabilities([contextual_log(1, seed=3)[0]], learned) == pytest.approx(
        serve(LOOP, one, learner.distribution(one.context, one.actions)), abs=1e-6
    )


def test_it_goes_on_from_a_model(contextual_log: ContextualLog) -> None:
    log = contextual_log(400)
    whole = probabilities(log, ProgressiveTarget(SETTING, LOOP))
    first = ProgressiveTarget(SETTING, LOOP)
    start = probabilities(log[:250], first)
    rest = probabilities(log[250:], ProgressiveTarget(SETTING, LOOP, first.save()))
    assert np.array_equal(whole, np.concatenate([start, rest]))
    first.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_its_value_is_that_of_learning_and_unbiased(contextual_log: ContextualLog, seed: int) -> None:
    """The estimate beside what the very probabilities are worth by the true rates: within 4 standard errors."""
    log = contextual_log(4000, liked=0.6, other=0.1, seed=seed, shown=(0.5, 0.3, 0.2))
    target = ProgressiveTarget(SETTING, LOOP)
    (chunk,) = Interactions(log).chunks()
    given = target(chunk)
    ages = [("young", "middle", "old").index(str(one.decision.context.namespaces["D"]["age_band"])) for one in log]
    rates = np.where(np.arange(3)[np.newaxis] == np.array(ages)[:, np.newaxis], 0.6, 0.1).ravel()
    truth = chunk.per_decision(given * rates)
    estimated = given[chunk.chosen] / chunk.propensity * chunk.reward
    error = (estimated - truth).std() / len(truth) ** 0.5
    assert abs(estimated.mean() - truth.mean()) < 4.0 * error
    assert truth[0] == pytest.approx((0.6 + 2 * 0.1) / 3)
    assert truth[-500:].mean() > 0.5


def test_a_file_that_tells_only_the_chosen_action_is_enough(contextual_log: ContextualLog) -> None:
    log = contextual_log(300)
    (chunk,) = Interactions(log).chunks()
    bare = Chunk(**{name: getattr(chunk, name) for name in Chunk.__dataclass_fields__} | {
        "served": None, "decisions": tuple(replace(one, slots=()) for one in chunk.decisions)})  # fmt: skip
    full, told = ProgressiveTarget(SETTING, LOOP)(chunk), ProgressiveTarget(SETTING, LOOP)(bare)
    assert np.array_equal(full, told)


def test_a_log_without_contexts_cannot_be_learned_from(contextual_log: ContextualLog) -> None:
    (chunk,) = Interactions(contextual_log(3)).chunks()
    bare = Chunk(**{name: getattr(chunk, name) for name in Chunk.__dataclass_fields__} | {"decisions": ()})
    with pytest.raises(ValueError, match="holds no contexts and actions"):
        ProgressiveTarget(SETTING, LOOP)(bare)


def test_of_several_slots_each_is_evaluated_and_learned_among_what_was_left_to_it(
    contextual_log: ContextualLog,
) -> None:
    plain = contextual_log(300)
    asked = []
    for one in plain:
        slot = one.decision.slots[0]
        chosen = 1 if slot.chosen == 2 else slot.chosen
        given = Distribution((0.5, 0.5, 0.0), (0.5, 0.5, 0.0))
        slots = (
            SlotDecision(chosen, given, 0.5, 0.5, "top", 0, {"place": "top"}, None, ("a2",)),
            SlotDecision(2, Distribution((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)), 1.0, 0.5, "below", 1),
        )
        asked.append(replace(one, decision=replace(one.decision, slots=slots), slot_rewards=(one.reward, 0.0)))
    target = ProgressiveTarget(SETTING, LOOP)
    given = probabilities(asked, target).reshape(-1, 3)
    assert given.sum(axis=1) == pytest.approx(np.ones(600))
    top, below = given[::2], given[1::2]
    assert np.all(top[:, 2] == 0.0)
    assert top[:, :2].min() >= LOOP.exploration_floor / 2 - 1e-12
    shown = [one.decision.slots[0].chosen for one in asked]
    assert np.all(below[np.arange(300), shown] == 0.0)
    learner = VowpalPolicy(SETTING)
    for one in asked:
        learner.learn(list(lessons(one)))
    view = slot_view(asked[0].decision, 0)
    learned = ProgressiveTarget(SETTING, LOOP, target.save())
    assert probabilities(asked[:1], learned)[:3] == pytest.approx(
        serve(LOOP, view, learner.distribution(view.context, view.actions)), abs=1e-6
    )
