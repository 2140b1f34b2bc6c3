"""The gamma interval: exact where it should be, normal where it should be, and never blind to what was not seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evaluation.gamma_interval import MISSES, UNSEEN, gamma_interval


def bounds(terms: np.ndarray, least: float, most: float) -> tuple[float, float]:
    centred = terms - terms.mean()
    low, high = gamma_interval(terms.mean(), (centred**2).sum(), (centred**3).sum(), len(terms), least, most)
    return float(low), float(high)


def test_equal_rare_terms_give_the_bounds_of_a_poisson_mean() -> None:
    n, seen, size, miss = 1_000_000, 7, 84.0, MISSES * 0.05 / 2
    low, high = bounds(np.repeat([size, 0.0], [seen, n - seen]), 0.0, size)
    assert low == pytest.approx(stats.gamma.ppf(miss, seen) * size / n, rel=1e-3)
    assert high == pytest.approx(stats.gamma.ppf(1 - miss, seen + UNSEEN) * size / n, rel=1e-3)


def test_many_terms_give_the_normal_interval() -> None:
    terms = np.random.default_rng(1).exponential(size=2_000_000)
    low, high = bounds(terms, 0.0, 40.0)
    half = stats.norm.ppf(1 - MISSES * 0.05 / 2) * terms.std() / math.sqrt(len(terms))
    assert (low, high) == pytest.approx((terms.mean() - half, terms.mean() + half), abs=0.02 * half)


def test_it_is_continuous_where_the_formula_changes() -> None:
    """From 999,999 to 1,000,001 effective terms the bound moves as it does everywhere, by a millionth."""
    n = np.array([999_999.0, 1_000_001.0])
    for turn in (1.0, -1.0):
        low, high = gamma_interval(0.0, n, turn * n, n, 0.0, 0.0)
        assert (high * np.sqrt(n))[0] == pytest.approx((high * np.sqrt(n))[1], rel=1e-5)
        assert (low * np.sqrt(n))[0] == pytest.approx((low * np.sqrt(n))[1], rel=1e-5)


def test_mirrored_terms_give_mirrored_bounds() -> None:
    terms = np.random.default_rng(2).exponential(size=300)
    low, high = bounds(terms, 0.0, 20.0)
    mirrored = bounds(-terms, -20.0, 0.0)
    assert mirrored == pytest.approx((-high, -low), rel=1e-9)


def test_nothing_seen_is_not_certainty() -> None:
    low, high = bounds(np.zeros(5000), 0.0, 84.0)
    assert low == 0.0
    assert 2.9 < high * 5000 / 84.0 < 3.1
    assert bounds(np.zeros(5000), -84.0, 0.0) == pytest.approx((-high, 0.0))
    assert bounds(np.zeros(5000), 0.0, 0.0) == (0.0, 0.0)


def test_lowest_coverage_of_a_poisson_mean() -> None:
    """The number in the documentation: 0.937 at the worst mean, 0.967 on average from 0.05 to 30."""
    means, counts = np.linspace(0.05, 30.0, 3000), np.arange(120.0)
    low, high = gamma_interval(counts / 1e9, counts, counts, 1e9, 0.0, 1.0)
    inside = (low * 1e9 <= means[:, np.newaxis]) & (means[:, np.newaxis] <= high * 1e9)
    coverage = (stats.poisson.pmf(counts, means[:, np.newaxis]) * inside).sum(axis=1)
    assert coverage.min() == pytest.approx(0.938, abs=0.002)
    assert coverage.mean() == pytest.approx(0.968, abs=0.002)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5])
def test_level_outside_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=f"level {level}"):
        gamma_interval(0.0, 1.0, 0.0, 10, -1.0, 1.0, level)
