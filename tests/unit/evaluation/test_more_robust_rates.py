"""Rates fitted for one target: by hand, without a decision's own fold, and with less variance for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from contextual_bandit.types import LoggedInteraction
from evaluation.arrays import FloatArray
from evaluation.chunks import Chunk
from evaluation.interactions import Interactions
from evaluation.lightgbm_rewards import BoostingUnavailable, LightGbmRewards
from evaluation.more_robust_rates import MoreRobustRates
from evaluation.reward_model import FOLDS, Rates, fold_of

Log = Callable[..., list[LoggedInteraction]]


def chunks(log: Sequence[LoggedInteraction]) -> list[Chunk]:
    return list(Interactions(log).chunks())


def repeated(target: Sequence[float], chunk: Chunk) -> FloatArray:
    return np.tile(np.asarray(target), chunk.n)


def test_weighted_rates_by_hand(synthetic_log: Log) -> None:
    (chunk,) = chunks(synthetic_log(40, (0.5, 0.5), (0.75, 0.25)))
    target = repeated((0.5, 0.5), chunk)
    found = MoreRobustRates(smoothing=2.0).predict(chunk, target)
    fold = fold_of(chunk.hashes)
    chosen = chunk.offer[chunk.chosen]
    weight = np.where(chosen == 0, (0.5 / 0.75) ** 2 * 0.25, (0.5 / 0.25) ** 2 * 0.75)
    for row in (0, 7, 39):
        others = fold != fold[row]
        mean = (weight * chunk.reward)[others].sum() / weight[others].sum()
        usual = weight[others].mean()
        for key in (0, 1):
            mine = others & (chosen == key)
            expected = ((weight * chunk.reward)[mine].sum() + 2.0 * usual * mean) / (weight[mine].sum() + 2.0 * usual)
            assert found[chunk.first[row] + key] == pytest.approx(expected)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_takes_variance_off_its_own_target(contextual_log: Log, seed: int) -> None:
    """The target shows each age what it likes, so that rates of all ages together are off where the target looks."""
    (chunk,) = chunks(contextual_log(6000, liked=0.9, other=0.05, seed=seed, shown=(0.5, 0.3, 0.2)))
    ages = [str(decision.context.namespaces["D"]["age_band"]) for decision in chunk.decisions]
    target = np.zeros(len(chunk.row))
    target[chunk.first + np.array([("young", "middle", "old").index(age) for age in ages])] = 1.0
    variances = []
    for q in (Rates().predict(chunk), MoreRobustRates().predict(chunk, target)):
        weight = target[chunk.chosen] / chunk.propensity
        terms = chunk.per_decision(target * q) + weight * (chunk.reward - q[chunk.chosen])
        variances.append(float(terms.var()))
        assert abs(terms.mean() - 0.9) < 4.0 * terms.std() / len(terms) ** 0.5
    assert variances[1] < 0.5 * variances[0]


def test_without_weight_there_is_no_rate(synthetic_log: Log) -> None:
    (chunk,) = chunks(synthetic_log(50, (0.5, 0.5), (0.5, 0.5)))
    assert MoreRobustRates().predict(chunk, np.zeros(len(chunk.row))) == pytest.approx(np.zeros(len(chunk.row)))


def test_boosting_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(BoostingUnavailable, match=r"install offerloop\[boosting\]"):
        LightGbmRewards()


def test_boosted_trees_learn_what_contexts_add(contextual_log: Log) -> None:
    pytest.importorskip("lightgbm")
    log = contextual_log(4000, liked=0.8, other=0.1)
    model = LightGbmRewards()
    predicted = np.concatenate([model.predict(one) for one in Interactions(log, 1000).chunks()]).reshape(-1, 3)
    liked = [("young", "middle", "old").index(str(one.decision.context.namespaces["D"]["age_band"])) for one in log]
    rows = np.arange(2000, 4000)
    assert predicted[rows, np.array(liked)[rows]].mean() == pytest.approx(0.8, abs=0.1)
    assert predicted.min() >= 0.0
    assert predicted.max() <= 1.0


def test_boosted_trees_leave_the_own_fold_out(contextual_log: Log) -> None:
    pytest.importorskip("lightgbm")
    log = contextual_log(2000)
    (chunk,) = chunks(log)
    mine = (chunk.hashes >> 20) % 2 == 0
    changed = Chunk(**{name: getattr(chunk, name) for name in Chunk.__dataclass_fields__} | {
        "reward": np.where(mine, 1.0 - chunk.reward, chunk.reward)})  # fmt: skip
    before, after = LightGbmRewards().predict(chunk), LightGbmRewards().predict(changed)
    assert before[mine[chunk.row]] == pytest.approx(after[mine[chunk.row]])
    assert not np.allclose(before[~mine[chunk.row]], after[~mine[chunk.row]])
    assert FOLDS > 1
