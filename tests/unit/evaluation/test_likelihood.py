"""Likelihood intervals, Bernstein and Clopper-Pearson: by hand, against each other, merging, and with nothing seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from contextual_bandit.types import Estimate
from evaluation.bernstein import bernstein_interval
from evaluation.binomial import binomial_interval, clopper_pearson
from evaluation.empirical_likelihood import LikelihoodHistogram
from evaluation.estimators import columns_of
from evaluation.interval_sums import IntervalSums
from evaluation.likelihood import cressie_read_interval
from evaluation.terms import Terms

COLUMNS = columns_of(("ips", "snips"))
Interval = Callable[[Terms], Estimate]


def a_log(n: int, rate: float = 0.3, largest: float = 6.0, seed: int = 0) -> Terms:
    rng = np.random.default_rng(seed)
    weight = np.where(rng.random(n) < 0.15, 4.0, 0.4 / 0.85)
    reward = (rng.random(n) < rate).astype(np.float64)
    return Terms(np.arange(n), reward, weight, np.zeros(n), np.zeros(n), largest)


def sums_of(terms: Terms) -> IntervalSums:
    return IntervalSums.of(COLUMNS, terms)


LIKELIHOODS: tuple[Interval, ...] = (
    lambda terms: cressie_read_interval(sums_of(terms)),
    lambda terms: LikelihoodHistogram.of(terms).interval(),
)
EVERY: tuple[Interval, ...] = (
    *LIKELIHOODS,
    lambda terms: bernstein_interval(sums_of(terms), "ips"),
    lambda terms: binomial_interval(sums_of(terms)),
)


def solved(weight: np.ndarray, value: np.ndarray | None, limit: float) -> float:
    """By a general solver: the least n^2 sum (q - 1/n)^2, or the least E_q[value] where that is at most the limit."""
    n = len(weight)

    def distance(q: np.ndarray) -> float:
        return float(n**2 * ((q - 1.0 / n) ** 2).sum())

    kept: list[dict[str, object]] = [{"type": "eq", "fun": lambda q: np.array([q.sum() - 1.0, q @ weight - 1.0])}]
    if value is not None:
        kept.append({"type": "ineq", "fun": lambda q: np.array([limit - distance(q)])})
    goal = distance if value is None else lambda q: q @ value
    found = optimize.minimize(
        goal, np.full(n, 1.0 / n), constraints=kept, method="SLSQP", options={"maxiter": 500, "ftol": 1e-14}
    )
    return float(found.fun)


def test_cressie_read_is_the_solution_of_its_problem() -> None:
    """On 40 decisions a general solver finds the same lower bound, the unseen decision being the worse of the two."""
    terms = a_log(40, seed=4)
    expected_unseen = terms.largest_weight if terms.weight.sum() < 40 else 0.0
    limit = solved(np.append(terms.weight, expected_unseen), None, 0.0) + stats.t.ppf(0.975, 40) ** 2
    lowest = [
        solved(np.append(terms.weight, unseen), np.append(terms.weight * terms.reward, 0.0), limit)
        for unseen in (0.0, terms.largest_weight)
    ]
    assert cressie_read_interval(sums_of(terms)).low == pytest.approx(min(lowest), abs=1e-4)


def test_likelihood_intervals_agree_with_the_delta_method_on_much_data() -> None:
    terms = a_log(200_000)
    sums = sums_of(terms)
    # Knowing that weights have mean 1, the best control variate leaves this much variance.
    column = terms.weight * terms.reward
    slope = np.cov(terms.weight, column)[0, 1] / terms.weight.var()
    half = 1.96 * math.sqrt((column - slope * terms.weight).var() / 200_000)
    for one in (cressie_read_interval(sums), LikelihoodHistogram.of(terms).interval()):
        assert (one.high - one.low) / 2.0 == pytest.approx(half, rel=0.03)
        assert one.low < one.value < one.high


def test_rewards_turned_round_turn_the_bounds_round() -> None:
    terms = a_log(3000)
    other = replace(terms, reward=1.0 - terms.reward)
    for interval in LIKELIHOODS:
        assert interval(other).low == pytest.approx(1.0 - interval(terms).high, rel=0.01)
        assert interval(other).high == pytest.approx(1.0 - interval(terms).low, rel=0.01)


def test_the_policys_bound_counts_and_not_the_largest_weight_seen() -> None:
    terms = replace(a_log(2000), reward=np.zeros(2000))
    far = replace(terms, largest_weight=60.0)
    for interval in EVERY:
        assert 0.0 < interval(terms).high < interval(far).high


def test_the_histogram_merges() -> None:
    rng = np.random.default_rng(2)
    terms = replace(a_log(4000), weight=rng.gamma(0.5, 2.0, 4000), reward=rng.random(4000), largest_weight=40.0)
    merged = LikelihoodHistogram.empty()
    for rows in np.array_split(np.arange(4000), 19):
        merged += LikelihoodHistogram.of(
            Terms(rows, terms.reward[rows], terms.weight[rows], terms.q_chosen[rows], terms.q_target[rows], 40.0)
        )
    one, whole = merged.interval(), LikelihoodHistogram.of(terms).interval()
    assert (one.value, one.low, one.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-9)
    again = LikelihoodHistogram.of(terms, repeats=np.full(4000, 2)).interval()
    assert again.n == 8000
    assert again.high - again.low < whole.high - whole.low
    with pytest.raises(ValueError, match="do not add"):
        merged + LikelihoodHistogram.empty(0.0, 2.0)


def test_bins_do_not_narrow_the_interval() -> None:
    """Weights spread inside their bins: as wide as the delta method's, which has no bins, or a little wider."""
    rng = np.random.default_rng(3)
    n = 100_000
    terms = Terms(np.arange(n), rng.random(n), rng.uniform(0.0, 2.0, n), np.zeros(n), np.zeros(n), 2.0)
    one = LikelihoodHistogram.of(terms).interval()
    column = terms.weight * terms.reward
    slope = np.cov(terms.weight, column)[0, 1] / terms.weight.var()
    half = 1.96 * math.sqrt((column - slope * terms.weight).var() / n)
    assert 1.0 <= (one.high - one.low) / 2.0 / half < 1.1


def test_bernstein_by_hand() -> None:
    reward = np.array([1.0, 0.0, 1.0, 1.0] * 500)
    terms = Terms(np.arange(2000), reward, np.ones(2000), reward * 0.0, reward * 0.0, 1.0)
    one = bernstein_interval(sums_of(terms), "ips")
    log = math.log(80.0)
    half = math.sqrt(2.0 * reward.var(ddof=1) * log / 2000) + 7.0 * log / (3.0 * 1999)
    assert (one.low, one.high) == pytest.approx((0.75 - half, 0.75 + half))


def test_clopper_pearson_is_exact() -> None:
    low, high = clopper_pearson(np.array([0.0, 3.0, 20.0]), 20.0)
    for count, below, above in zip((0, 3, 20), low, high, strict=True):
        one = stats.binomtest(count, 20).proportion_ci(0.95, method="exact")
        assert (below, above) == pytest.approx((one.low, one.high), abs=1e-12)
    equal = Terms(np.arange(100), np.ones(100) * 0.0, np.full(100, 4.0), np.zeros(100), np.zeros(100), 4.0)
    assert binomial_interval(sums_of(equal)).high == pytest.approx(4.0 * clopper_pearson(0.0, 100.0)[1])


def test_logs_without_weight_are_not_judged() -> None:
    terms = replace(a_log(10), weight=np.zeros(10))
    for one in (cressie_read_interval(sums_of(terms)), LikelihoodHistogram.of(terms).interval()):
        assert math.isnan(one.value)
        assert (one.low, one.high, one.reliable) == (0.0, 1.0, False)
    none = bernstein_interval(IntervalSums.empty(COLUMNS), "ips")
    assert (none.low, none.high, none.reliable) == (0.0, 1.0, False)
    assert not binomial_interval(IntervalSums.empty(COLUMNS)).reliable


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_level_outside_is_refused(level: float) -> None:
    terms = a_log(100)
    sums, message = sums_of(terms), f"level {level}"
    with pytest.raises(ValueError, match=message):
        cressie_read_interval(sums, level=level)
    with pytest.raises(ValueError, match=message):
        LikelihoodHistogram.of(terms).interval(level)
    with pytest.raises(ValueError, match=message):
        bernstein_interval(sums, "ips", level=level)
    with pytest.raises(ValueError, match=message):
        binomial_interval(sums, level)


def test_rewards_outside_are_refused() -> None:
    terms = replace(a_log(100), reward=np.full(100, 1.5))
    for interval in EVERY:
        with pytest.raises(ValueError, match="outside"):
            interval(terms)
    with pytest.raises(ValueError, match="successes"):
        clopper_pearson(3.0, 2.0)
    with pytest.raises(ValueError, match="between"):
        LikelihoodHistogram.empty(1.0, 1.0)
