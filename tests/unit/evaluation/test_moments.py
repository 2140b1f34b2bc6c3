"""Moments: beside numpy, merged, and of columns made of other columns."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.moments import Moments


def test_moments_match_numpy() -> None:
    rows = np.random.default_rng(0).normal(1e6, 1.0, (2, 500))
    moments = Moments.of(rows[0, :100], rows[1, :100]) + Moments.of(rows[0, 100:], rows[1, 100:])
    assert moments.covariance == pytest.approx(np.cov(rows), rel=1e-9)
    assert moments.sums == pytest.approx([math.fsum(rows[0]), math.fsum(rows[1])], rel=1e-15)


def test_small_rows_are_not_lost_beside_large_ones() -> None:
    """Beside 1e16 a plain sum does not see 1 at all."""
    merged = Moments.of(np.array([1e16]))
    for _ in range(1000):
        merged += Moments.of(np.array([1.0]))
    assert (merged + Moments.of(np.array([-1e16]))).sums.tolist() == [1000.0]


def test_more_rows_than_are_worked_on_at_once() -> None:
    rows = np.random.default_rng(1).normal(1e3, 1.0, (3, 20001))
    assert Moments.of_table(rows).covariance == pytest.approx(np.cov(rows), rel=1e-9)


def test_slopes_and_maps_give_the_moments_of_the_columns_they_make() -> None:
    rows = np.random.default_rng(2).normal(5.0, 1.0, (3, 400))
    made = np.stack((rows[0], rows[1] - 2.0 * rows[0], rows[2]))
    expected = Moments.of_table(made)
    mapped = Moments.of_table(rows).mapped(np.array([[1.0, 0.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    for found in (Moments.of_table(rows, np.array([0.0, 2.0, 0.0])), mapped):
        assert found.count == 400
        assert found.mean == pytest.approx(expected.mean, rel=1e-12)
        assert found.covariance == pytest.approx(expected.covariance, abs=1e-12)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Moments.of(np.array([1.0, wrong, math.inf]))


def test_nothing() -> None:
    empty = Moments.empty(2) + Moments.of(np.zeros(0), np.zeros(0))
    assert empty.count == 0
    assert np.all(np.isnan(empty.mean))
    assert np.all(np.isinf(empty.covariance))
