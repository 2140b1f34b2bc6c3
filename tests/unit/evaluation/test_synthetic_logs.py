"""Synthetic logs: their truth is true, and counts of equal decisions say the same as the decisions."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.default_interval import default_interval
from evaluation.estimators import columns_of
from evaluation.interval_sums import IntervalSums
from evaluation.synthetic_logs import World


@pytest.mark.parametrize("name", ["explored", "moderate", "uniform", "logged"])
def test_targets_are_distributions_and_their_value_is_true(name: str) -> None:
    world = World.of(0.2, 0.3, 5)
    target = world.target(name)
    assert target.sum(axis=1) == pytest.approx(np.ones(6))
    assert world.rates.mean() == pytest.approx(0.2)
    values = []
    for counts in world.draw(np.random.default_rng(1), 2000, 300):
        terms, repeats = world.terms(counts, target)
        assert repeats.sum() == 2000
        values.append(float(np.average(terms.weight * terms.reward, weights=repeats)))
    error = np.std(values) / np.sqrt(300)
    assert abs(np.mean(values) - world.value(target)) < 4.0 * error
    assert np.std(values) * 2 * 1.96 == pytest.approx(world.normal_width(2000, "ips", target), rel=0.15)


def test_counts_say_the_same_as_decisions() -> None:
    world = World.of(0.2, 0.3, 5)
    terms, repeats = world.terms(world.draw(np.random.default_rng(2), 3000)[0], world.target("explored"))
    columns = columns_of(("ips", "snips", "dr"))
    each = np.repeat(np.arange(len(repeats)), repeats)
    rows = type(terms)(
        each, terms.reward[each], terms.weight[each], terms.q_chosen[each], terms.q_target[each], terms.largest_weight
    )
    for key in ("ips", "snips", "dr"):
        one = default_interval(IntervalSums.of(columns, terms, repeats=repeats), key)
        other = default_interval(IntervalSums.of(columns, rows), key)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-9)


def test_impossible_worlds_are_refused() -> None:
    for rate, exploration, actions in ((0.0, 0.1, 5), (0.7, 0.1, 5), (0.1, 0.0, 5), (0.1, 0.1, 2)):
        with pytest.raises(ValueError, match="no world"):
            World.of(rate, exploration, actions)
    with pytest.raises(ValueError, match="'best'"):
        World.of(0.1, 0.1, 5).target("best")
    with pytest.raises(ValueError, match="'dm'"):
        World.of(0.1, 0.1, 5).normal_width(10, "dm", World.of(0.1, 0.1, 5).target("uniform"))
