"""Intervals at every look for outcomes without a bound."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from evaluation.asymptotic_sequences import AsymptoticSequence


def test_mean_and_spread_are_those_of_all_outcomes_in_any_pieces() -> None:
    values = np.random.default_rng(1).exponential(3.0, 400)
    whole, pieces = AsymptoticSequence(200), AsymptoticSequence(200)
    whole.update(values)
    for start in range(0, 400, 30):
        pieces.update(values[start : start + 30])
        pieces = AsymptoticSequence.from_dict(json.loads(json.dumps(pieces.to_dict())))
    assert whole == pieces
    assert whole.mean == pytest.approx(values.mean())
    assert whole.spread / 400 == pytest.approx(values.var())
    assert whole.largest == values.max()


def test_nothing_but_zeros_says_nothing() -> None:
    sequence = AsymptoticSequence(200)
    sequence.update(np.zeros(1000))
    assert sequence.interval == (-math.inf, math.inf)


def test_it_holds_at_all_looks_where_outcomes_are_skewed_and_seldom() -> None:
    """Money of 5 on average in one of ten decisions; of 200 runs, each looked at 40 times, few may leave the interval.

    Seeds are fixed; 5% would be 10 runs.
    """
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(200):
        sequence, ok = AsymptoticSequence(200), True
        for look in range(1, 41):
            sequence.update(rng.exponential(5.0, 100) * (rng.random(100) < 0.1))
            low, high = sequence.interval
            ok &= look < 2 or low <= 0.5 <= high
        wrong += not ok
    assert wrong <= 10


def test_more_outcomes_and_a_lower_level_make_it_narrower() -> None:
    values = np.random.default_rng(2).normal(1.0, 1.0, 5000)
    widths = []
    for level, n in ((0.99, 500), (0.95, 500), (0.95, 5000)):
        sequence = AsymptoticSequence(200, level)
        sequence.update(values[:n])
        low, high = sequence.interval
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.25


@pytest.mark.parametrize("changes", [{"level": 1.0}, {"tightest_at": 0}, {"n": -1}, {"spread": -1.0}])
def test_impossible_states_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"outside|outcomes"):
        AsymptoticSequence.from_dict(AsymptoticSequence(200).to_dict() | changes)


def test_what_is_not_finite_is_refused_whole() -> None:
    sequence = AsymptoticSequence(200)
    with pytest.raises(ValueError, match="outcome nan is not finite"):
        sequence.update(np.array([1.0, math.nan]))
    assert sequence.n == 0
    with pytest.raises(ValueError, match="are not the numbers of an asymptotic sequence"):
        AsymptoticSequence.from_dict({"number": 1})
