"""The default interval: for every estimator and for differences, merging, and honest about what it cannot say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.columns import Hyperparameters
from evaluation.default_interval import default_difference, default_interval
from evaluation.estimators import ESTIMATORS, columns_of
from evaluation.interval_sums import IntervalSums, PairedIntervalSums
from evaluation.terms import Terms

EVERY = columns_of(ESTIMATORS)
UNBIASED = ("ips", "snips", "dr", "sndr", "mrdr")


def a_log(n: int = 20_000, rate: float = 0.1, largest: float = 95.0, seed: int = 0) -> Terms:
    """One percent of decisions have a weight near 90; the others 0.1."""
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(n) < 0.01, rng.uniform(85.0, min(95.0, largest), n), 0.1)
    reward = (rng.random(n) < rate).astype(np.float64)
    q = rng.uniform(0.5, 1.5, (2, n)) * rate
    return Terms(np.arange(n), reward, weight, q[0], q[1], largest, q[0] * 0.9, q[1] * 0.9)


def part(terms: Terms, rows: np.ndarray) -> Terms:
    assert terms.mrdr_chosen is not None
    assert terms.mrdr_target is not None
    return Terms(
        terms.hashes[rows], terms.reward[rows], terms.weight[rows], terms.q_chosen[rows], terms.q_target[rows],
        terms.largest_weight, terms.mrdr_chosen[rows], terms.mrdr_target[rows],
    )  # fmt: skip


def served_as_logged(terms: Terms) -> Terms:
    return replace(terms, weight=np.ones_like(terms.weight), largest_weight=1.0)


@pytest.mark.parametrize("key", ESTIMATORS)
def test_every_estimator_has_one_around_its_own_value(key: str) -> None:
    terms = a_log()
    one = default_interval(IntervalSums.of(EVERY, terms), key)
    assert one.low <= one.value <= one.high
    assert one.value == pytest.approx(ESTIMATORS[key].of_terms(terms).value, rel=1e-9)
    assert (one.estimator, one.n) == (key, 20_000)
    assert one.reliable == (key in UNBIASED)
    assert one.interval == ("gamma" if key in UNBIASED else "gamma, own expectation")


@pytest.mark.parametrize("key", ESTIMATORS)
def test_any_split_gives_the_same(key: str) -> None:
    terms = a_log(5000)
    against = served_as_logged(terms)
    merged, paired = IntervalSums.empty(EVERY), PairedIntervalSums.empty(EVERY)
    for rows in np.array_split(np.arange(5000), 23):
        merged += IntervalSums.of(EVERY, part(terms, rows))
        paired += PairedIntervalSums.of(EVERY, part(terms, rows), part(against, rows))
    for one, other in (
        (default_interval(merged, key), default_interval(IntervalSums.of(EVERY, terms), key)),
        (default_difference(paired, key), default_difference(PairedIntervalSums.of(EVERY, terms, against), key)),
    ):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-9)
        assert one.reliable == other.reliable


def test_shifted_and_scaled_rewards_shift_and_scale_snips() -> None:
    terms = a_log()
    moved = replace(terms, reward=terms.reward * 30.0 - 10.0)
    columns = columns_of(("snips",))
    one = default_interval(IntervalSums.of(columns, terms), "snips")
    other = default_interval(IntervalSums.of(columns, moved), "snips", -10.0, 20.0)
    assert (other.low, other.high) == pytest.approx((one.low * 30.0 - 10.0, one.high * 30.0 - 10.0), rel=1e-9)


def test_a_log_with_too_few_rewards_says_so() -> None:
    few = a_log(5000, rate=0.001)
    one = default_interval(IntervalSums.of(EVERY, few), "ips")
    assert not one.reliable
    assert one.interval == "gamma"
    assert default_interval(IntervalSums.of(EVERY, a_log(100_000, rate=0.003)), "ips").reliable


def test_no_reward_at_all_is_neither_certain_nor_reliable() -> None:
    terms = replace(a_log(), reward=np.zeros(20_000))
    for key in ("ips", "snips"):
        one = default_interval(IntervalSums.of(EVERY, terms), key)
        assert (one.value, one.low) == (0.0, 0.0)
        assert one.high > 0.01
        assert not one.reliable


def test_a_larger_possible_weight_widens_it_upward() -> None:
    terms = a_log(rate=0.02)
    near, far = (
        default_interval(IntervalSums.of(EVERY, replace(terms, largest_weight=bound)), "ips") for bound in (95.0, 500.0)
    )
    assert far.high > near.high
    assert far.low == pytest.approx(near.low, rel=0.01)


def test_biased_estimators_are_believed_where_nothing_is_left_out() -> None:
    terms = served_as_logged(a_log())
    sums = IntervalSums.of(EVERY, terms, Hyperparameters(dros_lambda=1e9))
    for key in ("clipped_ips", "switch_dr", "dros"):
        assert default_interval(sums, key).reliable, key
    assert not default_interval(sums, "dm").reliable
    possible = replace(terms, largest_weight=1000.0)
    assert not default_interval(IntervalSums.of(EVERY, possible), "clipped_ips").reliable


def test_equal_policies_differ_by_nothing() -> None:
    terms = a_log()
    one = default_difference(PairedIntervalSums.of(EVERY, terms, terms, gap=(0.0, 0.0)), "dr")
    assert (one.value, one.low, one.high, one.estimator) == (0.0, 0.0, 0.0, "dr difference")
    assert one.reliable
    unknown = default_difference(PairedIntervalSums.of(EVERY, terms, terms), "dr")
    assert unknown.low < 0.0 < unknown.high


def test_swapped_policies_swap_the_bounds() -> None:
    terms = a_log()
    against = served_as_logged(terms)
    for key in ("ips", "snips", "dr", "sndr"):
        one = default_difference(PairedIntervalSums.of(EVERY, terms, against), key)
        other = default_difference(PairedIntervalSums.of(EVERY, against, terms), key)
        assert (other.low, other.high) == pytest.approx((-one.high, -one.low), rel=1e-9)


def test_logs_without_weight_or_decisions() -> None:
    terms = replace(a_log(10), weight=np.zeros(10))
    one = default_interval(IntervalSums.of(EVERY, terms), "snips")
    assert math.isnan(one.value)
    assert (one.low, one.high, one.reliable) == (0.0, 1.0, False)
    none = default_interval(IntervalSums.empty(EVERY), "ips")
    assert (none.n, none.low, none.high, none.reliable) == (0, 0.0, 1.0, False)
    gap = default_difference(PairedIntervalSums.empty(EVERY), "ips")
    assert (gap.low, gap.high, gap.reliable) == (-1.0, 1.0, False)
    single = default_interval(IntervalSums.of(EVERY, part(a_log(), np.arange(1))), "ips")
    assert (single.low, single.high, single.reliable) == (0.0, 1.0, False)


def test_bad_input_is_refused() -> None:
    terms = a_log(100)
    sums = IntervalSums.of(columns_of(("ips",)), terms)
    with pytest.raises(ValueError, match=r"reward 1\.0 is outside \[0\.0, 0\.5\]"):
        default_interval(IntervalSums.of(EVERY, replace(terms, reward=np.ones(100))), "ips", 0.0, 0.5)
    with pytest.raises(ValueError, match=r"between 1\.0 and 0\.0"):
        default_interval(sums, "ips", 1.0, 0.0)
    with pytest.raises(ValueError, match=r"level 1\.0"):
        default_interval(sums, "ips", level=1.0)
    with pytest.raises(ValueError, match="no column 'prediction'"):
        default_interval(sums, "dr")
    with pytest.raises(ValueError, match="'best' is not among"):
        default_interval(sums, "best")
    with pytest.raises(ValueError, match="above the largest possible one"):
        IntervalSums.of(EVERY, replace(terms, weight=np.full(100, 96.0)))
    with pytest.raises(ValueError, match="do not add"):
        sums + IntervalSums.of(EVERY, terms)
    with pytest.raises(ValueError, match="rewards differ"):
        PairedIntervalSums.of(EVERY, terms, replace(terms, reward=1.0 - terms.reward))
    with pytest.raises(ValueError, match="outside the gap"):
        PairedIntervalSums.of(EVERY, terms, served_as_logged(terms), gap=(-1.0, -0.95))
