"""The regression as a reward model: it knows the past alone, helps where contexts matter, and hurts nowhere much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from contextual_bandit.types import Action, Context, LoggedInteraction
from contextual_bandit.vowpal_regressor import VowpalRegressor
from evaluation.arrays import FloatArray
from evaluation.interactions import Interactions
from evaluation.reward_choice import REWARD_MODELS, FittingRewards, UnknownRewardModel, has_features, reward_model
from evaluation.reward_model import Rates, RewardModel
from evaluation.vowpal_rewards import VowpalRewards

ContextualLog = Callable[..., list[LoggedInteraction]]
SHOWN = (0.6, 0.3, 0.1)


def predictions(log: list[LoggedInteraction], model: RewardModel, chunk_size: int = 8192) -> FloatArray:
    """Of each pair, as (n, 3)."""
    return np.concatenate([model.predict(one) for one in Interactions(log, chunk_size).chunks()]).reshape(-1, 3)


def robust_terms(log: list[LoggedInteraction], model: RewardModel) -> FloatArray:
    """Doubly robust terms of the policy that shows every offer alike."""
    terms = []
    for one in Interactions(log).chunks():
        q = model.predict(one)
        weight = 1.0 / 3.0 / one.propensity
        terms.append(one.per_decision(q / 3.0) + weight * (one.reward - q[one.chosen]))
    return np.concatenate(terms)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_takes_variance_off_the_estimate_where_contexts_matter(contextual_log: ContextualLog, seed: int) -> None:
    log = contextual_log(8000, liked=0.7, other=0.05, seed=seed, shown=SHOWN)
    table, regression = (robust_terms(log, model) for model in (Rates(), VowpalRewards()))
    truth = (0.7 + 2 * 0.05) / 3
    assert regression.var() < 0.85 * table.var()
    for terms in (table, regression):
        assert abs(terms.mean() - truth) < 4.0 * terms.std() / len(terms) ** 0.5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_costs_next_to_nothing_where_they_do_not(contextual_log: ContextualLog, seed: int) -> None:
    log = contextual_log(4000, liked=0.2, other=0.2, seed=seed, shown=SHOWN)
    assert robust_terms(log, VowpalRewards()).var() < 1.02 * robust_terms(log, Rates()).var()


def test_a_decision_is_predicted_without_its_own_reward_and_later_ones(contextual_log: ContextualLog) -> None:
    log = contextual_log(300)
    changed = [replace(one, reward=1.0 - one.reward) if number >= 200 else one for number, one in enumerate(log)]
    before, after = predictions(log, VowpalRewards()), predictions(changed, VowpalRewards())
    assert before[:201] == pytest.approx(after[:201], abs=0.0)
    assert not np.allclose(before[201:], after[201:])


def test_predictions_do_not_depend_on_how_the_log_is_cut(contextual_log: ContextualLog) -> None:
    log = contextual_log(500)
    assert predictions(log, VowpalRewards(), 500) == pytest.approx(predictions(log, VowpalRewards(), 37), rel=1e-9)


def test_predictions_stay_within_the_rewards_range(contextual_log: ContextualLog) -> None:
    log = [replace(one, reward=30.0 * one.reward - 10.0) for one in contextual_log(2000, liked=0.9)]
    found = predictions(log, VowpalRewards(-10.0, 20.0))
    assert found.min() >= -10.0
    assert found.max() <= 20.0
    ages = [str(one.decision.context.namespaces["D"]["age_band"]) for one in log]
    liked = [("young", "middle", "old").index(age) for age in ages]
    rows = np.arange(1000, 2000)
    assert found[rows, np.array(liked)[rows]].mean() > found[rows].mean() + 5.0
    with pytest.raises(ValueError, match=r"range \[2.0, 1.0\] is empty"):
        VowpalRewards(2.0, 1.0)


def test_many_offers_and_those_that_come_late(contextual_log: ContextualLog) -> None:
    log = [
        replace(one, decision=replace(one.decision, actions=tuple(Action(f"o{3 * number + k}", {}) for k in range(3))))
        for number, one in enumerate(contextual_log(200))
    ]
    assert np.all(np.isfinite(predictions(log, VowpalRewards())))


def test_the_default_fits_the_log(contextual_log: ContextualLog) -> None:
    log = contextual_log(200)
    bare = [
        replace(one, decision=replace(one.decision, context=Context({}), actions=tuple(
            replace(action, features={}) for action in one.decision.actions)))
        for one in log
    ]  # fmt: skip
    assert has_features(next(iter(Interactions(log).chunks())))
    assert not has_features(next(iter(Interactions(bare).chunks())))
    assert predictions(bare, FittingRewards()) == pytest.approx(predictions(bare, Rates()))
    assert predictions(log, FittingRewards()) == pytest.approx(predictions(log, VowpalRewards()))


def test_reward_models_have_names() -> None:
    for name in REWARD_MODELS:
        if name != "lightgbm":
            assert callable(reward_model(name).predict)
    with pytest.raises(UnknownRewardModel, match="no reward model 'oracle'; there are default, rates"):
        reward_model("oracle")


def test_the_regression_learns_what_a_context_adds() -> None:
    regressor = VowpalRegressor()
    actions = [Action("a", {}), Action("b", {}, {"r16": 2.0}, version=3)]
    rng = np.random.default_rng(5)
    for _ in range(3000):
        kind, chosen = int(rng.integers(2)), int(rng.integers(2))
        regressor.predict_then_learn(Context({"H": {"kind": f"k{kind}"}}), actions, chosen, float(kind == chosen))
    for kind in (0, 1):
        found = regressor.predict_then_learn(Context({"H": {"kind": f"k{kind}"}}), actions, kind, 1.0)
        assert found[kind] > 0.8
        assert found[1 - kind] < 0.2
    regressor.close()
