"""Estimators: numbers checkable by hand, and the same result for any split of a log."""

from __future__ import annotations

import doctest
import math
from typing import Any

import numpy as np
import pytest

from evaluation import audit, diagnostics, estimators
from evaluation.estimators import DirectMethod, DoublyRobust, Ips, Moments, PairedDifference, Snips

REWARD = np.array([1.0, 0.0, 1.0, 0.0])
PROPENSITY = np.array([0.5, 0.5, 0.25, 0.8])
TARGET = np.array([0.25, 1.0, 0.5, 0.0])
WEIGHT = np.array([0.5, 2.0, 2.0, 0.0])


@pytest.mark.parametrize("module", [audit, diagnostics, estimators])
def test_examples_in_docstrings(module: Any) -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_ips_by_hand() -> None:
    one = Ips.of(REWARD, PROPENSITY, TARGET)
    assert one.n == 4
    assert one.value == pytest.approx((0.5 + 2.0) / 4)
    assert one.standard_error == pytest.approx(np.std(WEIGHT * REWARD, ddof=1) / 2)
    assert one.effective_sample_size == pytest.approx(4.5**2 / 8.25)


def test_snips_by_hand() -> None:
    one = Snips.of(REWARD, PROPENSITY, TARGET)
    assert one.value == pytest.approx(2.5 / 4.5)
    residual = WEIGHT * (REWARD - 2.5 / 4.5)
    assert one.standard_error == pytest.approx(math.sqrt(np.sum(residual**2) / 3 / 4) / (4.5 / 4))


def test_snips_ignores_a_shift_of_all_rewards() -> None:
    shifted = Snips.of(REWARD + 7.0, PROPENSITY, TARGET)
    assert shifted.value == pytest.approx(Snips.of(REWARD, PROPENSITY, TARGET).value + 7.0)


def test_doubly_robust_by_hand() -> None:
    q_chosen, q_target = np.array([0.5, 0.1, 0.9, 0.2]), np.array([0.4, 0.1, 0.7, 0.3])
    one = DoublyRobust.of(REWARD, PROPENSITY, TARGET, q_chosen, q_target)
    assert one.value == pytest.approx(np.mean(q_target + WEIGHT * (REWARD - q_chosen)))
    assert DirectMethod.of(q_target).value == pytest.approx(0.375)


def test_doubly_robust_without_a_model_is_ips() -> None:
    zero = np.zeros(4)
    robust, plain = DoublyRobust.of(REWARD, PROPENSITY, TARGET, zero, zero), Ips.of(REWARD, PROPENSITY, TARGET)
    assert (robust.value, robust.standard_error) == (plain.value, plain.standard_error)


def test_equal_policies_differ_by_exactly_nothing() -> None:
    term = np.array([0.1, 0.7, 0.3])
    one = PairedDifference.of(np.ones(3), term, term)
    assert (one.value, one.standard_error) == (0.0, 0.0)


def test_nothing_is_no_estimate() -> None:
    assert math.isnan(Ips.empty().value)
    assert Ips.empty().standard_error == math.inf
    assert math.isnan(Snips.of(REWARD, PROPENSITY, np.zeros(4)).value)
    assert Snips.of(REWARD, PROPENSITY, np.zeros(4)).standard_error == math.inf
    assert Ips.of(REWARD, PROPENSITY, np.zeros(4)).effective_sample_size == 0.0


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, math.nan])
def test_impossible_propensities_are_refused(propensity: float) -> None:
    with pytest.raises(ValueError, match="propensity"):
        Ips.of(np.array([1.0]), np.array([propensity]), np.array([0.5]))


def test_rewards_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        Ips.of(np.array([math.nan]), np.array([0.5]), np.array([0.5]))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("offset", [0.0, 1e2])
def test_any_split_gives_the_same(seed: int, offset: float) -> None:
    """1e-9 relative, also where rewards are large beside their spread and where every row comes alone."""
    rng = np.random.default_rng(seed)
    n = 3000
    propensity, target = rng.uniform(0.01, 1.0, n), rng.uniform(0.0, 1.0, n)
    columns = (rng.normal(offset, 1.0, n), propensity, target, rng.random(n), rng.random(n))
    whole = DoublyRobust.of(*columns)
    plain, normalised = Ips.of(*columns[:3]), Snips.of(*columns[:3])
    cuts = np.sort(rng.choice(n, 20, replace=False))
    for pieces in (np.split(np.arange(n), cuts), np.split(np.arange(n), n), [np.arange(0, n, 2), np.arange(1, n, 2)]):
        parts = [tuple(column[piece] for column in columns) for piece in pieces]
        merged = sum((DoublyRobust.of(*part) for part in parts), DoublyRobust.empty())
        merged_plain = sum((Ips.of(*part[:3]) for part in parts), Ips.empty())
        merged_normalised = sum((Snips.of(*part[:3]) for part in parts), Snips.empty())
        for one, other in ((whole, merged), (plain, merged_plain), (normalised, merged_normalised)):
            assert other.n == one.n
            assert other.value == pytest.approx(one.value, rel=1e-9)
            assert other.standard_error == pytest.approx(one.standard_error, rel=1e-9)
            assert other.effective_sample_size == pytest.approx(one.effective_sample_size, rel=1e-9)


def test_moments_match_numpy() -> None:
    rows = np.random.default_rng(0).normal(1e6, 1.0, (2, 500))
    moments = Moments.of(rows[0, :100], rows[1, :100]) + Moments.of(rows[0, 100:], rows[1, 100:])
    assert moments.covariance == pytest.approx(np.cov(rows), rel=1e-9)
    assert moments.sums == pytest.approx([math.fsum(rows[0]), math.fsum(rows[1])], rel=1e-15)
